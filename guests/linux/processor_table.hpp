#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

// The table by which an L2's Linux without ACPI finds its processors (MultiProcessor Specification 1.4,
// chapter 4). It lists no I/O APIC: interrupts of devices come by the 8259s and the first processor's LINT0,
// as they do for one processor.
namespace flatback::guests {

/// As many as fit into the last kilobyte below 640 KB, where it lies.
inline constexpr unsigned most_l2_processors = 8;

/// Where a Linux looks for it: the last kilobyte of the base memory, which no memory map calls usable.
inline constexpr std::uint64_t processor_table_address = 0x9FC00;
inline constexpr std::size_t processor_table_limit = 0x400;

/// Writes it for the processors 0 to `processors` - 1, whose APIC identifiers these numbers are. `memory` is
/// the guest's, from guest-physical 0 on.
void write_processor_table(std::span<std::byte> memory, unsigned processors);

}  // namespace flatback::guests
