// ACPI's tables in memory, found from the root pointer (ACPI 6.5, sections 5.2.5 to 5.2.8). Nothing in them
// is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"

namespace flatback::metal {

// physical: the byte at physical address 0, and from there `size` bytes.
struct AcpiMemory {
    std::byte* physical;
    std::uint64_t size;
};
using AcpiTable = std::span<std::byte>;  // with its header

inline constexpr std::uint64_t acpi_header_size = 36;

[[nodiscard]] std::uint8_t acpi_sum(Bytes bytes);
// After a change of the table's bytes.
void mend_acpi_checksum(AcpiTable table);
// The table at a physical address, if it lies in memory and its checksum is right.
[[nodiscard]] std::optional<AcpiTable> acpi_table_at(AcpiMemory memory, std::uint64_t address);
[[nodiscard]] std::uint32_t acpi_signature(AcpiTable table);

// The physical addresses of the RSDT and of the XSDT; 0 where there is none. Error: the root pointer is
// corrupt.
struct AcpiRoots {
    std::uint64_t rsdt = 0;
    std::uint64_t xsdt = 0;
};
[[nodiscard]] std::expected<AcpiRoots, BootError> acpi_roots(Bytes rsdp);

// Calls visit(AcpiTable, address) for each table that a root table's pointers of 4 bytes (RSDT) or 8 (XSDT)
// lead to, but for those that are corrupt. Error: the root table is corrupt.
template <typename Visit>
[[nodiscard]] std::expected<void, BootError> for_each_acpi_table(AcpiMemory memory,
                                                                 std::uint64_t root_address,
                                                                 std::uint64_t pointer_size, Visit visit) {
    if (root_address == 0) return {};
    const auto root = acpi_table_at(memory, root_address);
    if (!root) return std::unexpected(BootError{"ACPI's root table is corrupt, at", root_address});
    for (std::uint64_t at = acpi_header_size; at + pointer_size <= root->size(); at += pointer_size) {
        const std::uint64_t address =
            pointer_size == 8 ? *read<std::uint64_t>(*root, at) : *read<std::uint32_t>(*root, at);
        if (const auto table = acpi_table_at(memory, address)) visit(*table, address);
    }
    return {};
}

}  // namespace flatback::metal
