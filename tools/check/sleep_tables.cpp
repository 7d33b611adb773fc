#include "tools/check/sleep_tables.hpp"

#include <concepts>
#include <cstdint>
#include <string_view>

namespace flatback::tools {
namespace {

// A table of this size with its header (ACPI 6.5, table 5.4).
class Table {
public:
    Table(std::string_view signature, std::uint8_t revision, std::size_t size) : bytes_(size, '\0') {
        bytes_.replace(0, signature.size(), signature);
        bytes_[8] = static_cast<char>(revision);
        bytes_.replace(10, 14, "FLATBKSLEEPING");
        put<std::uint32_t>(4, static_cast<std::uint32_t>(size));
    }
    template <std::unsigned_integral T>
    void put(std::size_t offset, T value) {
        for (std::size_t byte = 0; byte < sizeof value; ++byte)
            bytes_[offset + byte] = static_cast<char>(value >> (8 * byte) & 0xFF);
    }
    void put_text(std::size_t offset, std::string_view text) { bytes_.replace(offset, text.size(), text); }
    [[nodiscard]] std::string file() {
        std::uint8_t sum = 0;
        for (const char byte : bytes_)
            sum = static_cast<std::uint8_t>(sum + static_cast<unsigned char>(byte));
        bytes_[9] = static_cast<char>(-sum);
        return bytes_;
    }

private:
    std::string bytes_;
};

}  // namespace

std::vector<std::string> sleep_tables() {
    // ACPI 6.5, table 5.9: PM1a_CNT_BLK; X_PM1b_CNT_BLK, a generic address of 16 bits in memory.
    Table fadt{"FACP", 3, 244};
    fadt.put<std::uint32_t>(64, 0xB004);
    fadt.put<std::uint8_t>(185, 16);
    fadt.put<std::uint64_t>(188, 0x3000804);

    // Name(_S5_, Package(4){5, 5, 0, 0}).
    using namespace std::string_view_literals;
    constexpr std::string_view s5 = "\x08_S5_\x12\x08\x04\x0A\x05\x0A\x05\x00\x00"sv;
    constexpr std::size_t header = 36;
    Table dsdt{"DSDT", 1, header + s5.size()};
    dsdt.put_text(header, s5);

    // PCI Firmware Specification 3.3, table 4-3: bus 0 of segment 0.
    Table mcfg{"MCFG", 1, 60};
    mcfg.put<std::uint64_t>(44, 0x4000000);
    return {fadt.file(), dsdt.file(), mcfg.file()};
}

}  // namespace flatback::tools
