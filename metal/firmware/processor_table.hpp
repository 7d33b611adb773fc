// ACPI's table of processors (MADT): who there is, and cut down to those that L1 gets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"

namespace flatback::metal {

struct ProcessorTableChange {
    unsigned processors = 0;  // enabled or possible to enable, before the change
    unsigned disabled = 0;    // now marked as absent
    unsigned listed = 0;      // with those that the firmware has disabled; 0 where there is no table
};

// The identifiers of all processors that are enabled, as the tables list them; more than `ids` has room for
// are counted only. physical: the byte at physical address 0, and from there physical_size bytes. An empty
// `rsdp` (no ACPI) is no error, and lists none.
[[nodiscard]] std::expected<std::size_t, BootError> list_processors(std::byte* physical,
                                                                    std::uint64_t physical_size, Bytes rsdp,
                                                                    std::span<std::uint32_t> ids);

// Clears "enabled" and "online capable" of every local APIC and local x2APIC entry but those of `apic_ids`
// (ACPI 6.5, section 5.2.12), in every MADT that the root pointer leads to, and mends the checksum: L1 then
// starts no processor outside of L0. physical and rsdp: as above. Nothing is written when a table is corrupt.
[[nodiscard]] std::expected<ProcessorTableChange, BootError> keep_processors(
    std::byte* physical, std::uint64_t physical_size, Bytes rsdp, std::span<const std::uint32_t> apic_ids);

}  // namespace flatback::metal
