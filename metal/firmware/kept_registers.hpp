// Registers in memory of which L0 decides what a guest's write does: those by which it could ask for a sleep
// state, and those of configuration space that say where such registers lie (sleep_requests.hpp). Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "metal/firmware/sleep_requests.hpp"

namespace flatback::metal {

// At a physical address; of 1, 2, 4 or 8 bytes.
struct RegisterWrite {
    std::uint64_t address = 0;
    unsigned size = 0;
    std::uint64_t value = 0;
};

class KeptRegisters final {
public:
    static constexpr std::size_t most_pages = 6;

    KeptRegisters() = default;
    // What of it lies in memory.
    explicit KeptRegisters(const SleepControl& control);

    // The 4 KB pages, each once.
    [[nodiscard]] std::span<const std::uint64_t> pages() const {
        return std::span{pages_}.first(pages_used_);
    }

    enum class Answer : std::uint8_t { written, fixed, refused };
    struct Decision {
        Answer answer = Answer::written;
        std::uint64_t value = 0;  // what is written, but for `fixed`, which writes nothing
    };
    [[nodiscard]] Decision decide(const RegisterWrite& write) const;

private:
    void add_page(std::uint64_t address);

    SleepControl control_;
    std::array<std::uint64_t, most_pages> pages_{};
    std::size_t pages_used_ = 0;
};

// Where a double word that CONFIG_ADDRESS selects lies in configuration space in memory.
[[nodiscard]] constexpr std::uint64_t in_memory_configuration(std::uint64_t base,
                                                              std::uint32_t configuration_address) {
    constexpr std::uint32_t bus_device_function = 0xFFFF00;
    return base + (std::uint64_t{configuration_address & bus_device_function} << 4) +
           (configuration_address & 0xFC);
}

// What of `now` differs from `before`, both of the same bytes from `address` on, as writes of 1, 2 or 4
// bytes: calls each(RegisterWrite) for them.
template <typename Each>
void for_each_change(std::uint64_t address, std::span<const std::uint8_t> before,
                     std::span<const std::uint8_t> now, Each&& each) {
    for (std::size_t at = 0; at < now.size();) {
        const auto differs = [&](std::size_t from, unsigned size) {
            for (std::size_t byte = from; byte < from + size; ++byte) {
                if (byte >= now.size() || before[byte] == now[byte]) return false;
            }
            return (address + from) % size == 0;
        };
        unsigned size = 4;
        while (size != 0 && !differs(at, size)) size /= 2;
        if (size == 0) {
            ++at;
            continue;
        }
        std::uint64_t value = 0;
        for (unsigned byte = 0; byte < size; ++byte) value |= std::uint64_t{now[at + byte]} << (8 * byte);
        each(RegisterWrite{address + at, size, value});
        at += size;
    }
}

}  // namespace flatback::metal
