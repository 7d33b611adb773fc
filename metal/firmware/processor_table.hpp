// ACPI's table of processors (MADT), cut down to the one processor that L1 gets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"

namespace flatback::metal {

struct ProcessorTableChange {
    unsigned processors = 0;  // enabled or possible to enable, before the change
    unsigned disabled = 0;    // now marked as absent
    unsigned listed = 0;      // with those that the firmware has disabled; 0 where there is no table
};

// Clears "enabled" and "online capable" of every local APIC and local x2APIC entry but that of `apic_id`
// (ACPI 6.5, section 5.2.12), in every MADT that the root pointer leads to, and mends the checksum: L1 then
// starts no processor outside of L0. physical: the byte at physical address 0, and from there physical_size
// bytes. Nothing is written when a table is corrupt; an empty `rsdp` (no ACPI) is no error.
[[nodiscard]] std::expected<ProcessorTableChange, BootError> keep_one_processor(std::byte* physical,
                                                                                std::uint64_t physical_size,
                                                                                Bytes rsdp,
                                                                                std::uint32_t apic_id);

}  // namespace flatback::metal
