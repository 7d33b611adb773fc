#include "metal/firmware/acpi_tables.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint64_t rsdp_signature = 0x2052'5450'2044'5352;  // "RSD PTR "
constexpr std::uint64_t rsdp_old_size = 20;
constexpr std::uint64_t checksum_offset = 9;
// Real ones have some 100 KB; where a pointer leads to anything else, its length is any number.
constexpr std::uint32_t largest_table = 16 << 20;

}  // namespace

std::uint8_t acpi_sum(Bytes bytes) {
    std::uint8_t total = 0;
    for (const std::byte byte : bytes)
        total = static_cast<std::uint8_t>(total + static_cast<std::uint8_t>(byte));
    return total;
}

void mend_acpi_checksum(AcpiTable table) {
    const auto old = std::to_integer<std::uint8_t>(table[checksum_offset]);
    table[checksum_offset] = static_cast<std::byte>(static_cast<std::uint8_t>(old - acpi_sum(table)));
}

std::optional<AcpiTable> acpi_table_at(AcpiMemory memory, std::uint64_t address) {
    const Bytes all{memory.physical, memory.size};
    const auto header = slice(all, address, acpi_header_size);
    if (!header) return std::nullopt;
    const std::uint32_t length = *read<std::uint32_t>(*header, 4);
    const auto bytes = slice(all, address, length);
    if (address == 0 || !bytes || length < acpi_header_size || length > largest_table ||
        acpi_sum(*bytes) != 0)
        return std::nullopt;
    return AcpiTable{memory.physical + address, length};
}

std::uint32_t acpi_signature(AcpiTable table) {
    return read<std::uint32_t>(table, 0).value_or(0);
}

std::expected<AcpiRoots, BootError> acpi_roots(Bytes rsdp) {
    const auto old_part = slice(rsdp, 0, rsdp_old_size);
    if (!old_part || read<std::uint64_t>(rsdp, 0) != rsdp_signature || acpi_sum(*old_part) != 0) {
        return std::unexpected(BootError{"ACPI's root pointer is corrupt"});
    }
    // The XSDT exists from revision 2 on.
    const std::uint64_t xsdt =
        *read<std::uint8_t>(rsdp, 15) >= 2 ? read<std::uint64_t>(rsdp, 24).value_or(0) : 0;
    return AcpiRoots{.rsdt = *read<std::uint32_t>(rsdp, 16), .xsdt = xsdt};
}

}  // namespace flatback::metal
