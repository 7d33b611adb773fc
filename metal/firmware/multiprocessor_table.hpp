// The MultiProcessor Specification's table of processors, which tells what ACPI's does to who has no ACPI:
// cut down to the one processor that L1 gets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flatback::metal {

struct MultiprocessorTableChange {
    unsigned disabled = 0;   // processors now marked unusable
    bool read_only = false;  // the table does not take what is written to it: it still lists the others
};

// Clears "enabled" of every processor but `apic_id` (MultiProcessor Specification 1.4, 4.3.1) in the table
// that the floating pointer structure leads to, and mends the checksum. Where that structure names a default
// configuration, which has two processors and no table, it is none any longer. physical: the byte at physical
// address 0, and from there physical_size bytes. Nothing is written to a table that is corrupt.
[[nodiscard]] MultiprocessorTableChange keep_one_processor_in_multiprocessor_table(
    std::byte* physical, std::uint64_t physical_size, std::uint32_t apic_id);

}  // namespace flatback::metal
