// The MultiProcessor Specification's table of processors, which tells what ACPI's does to who has no ACPI:
// cut down to the processors that L1 gets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flatback::metal {

struct MultiprocessorTableChange {
    unsigned disabled = 0;   // processors now marked unusable
    bool read_only = false;  // the table does not take what is written to it: it still lists the others
};

// Clears "enabled" of every processor but `apic_ids` (MultiProcessor Specification 1.4, 4.3.1) in the table
// that the floating pointer structure leads to, and mends the checksum. Where that structure names a default
// configuration, which has two processors and no table, it is none any longer; the first of `apic_ids` is
// this processor. physical: the byte at physical address 0, and from there physical_size bytes. Nothing is
// written to a table that is corrupt.
[[nodiscard]] MultiprocessorTableChange keep_processors_in_multiprocessor_table(
    std::byte* physical, std::uint64_t physical_size, std::span<const std::uint32_t> apic_ids);

}  // namespace flatback::metal
