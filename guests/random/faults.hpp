// This L1's descriptor tables, and what its exceptions do: those of code made at run time are results, those
// of VMX instructions with a recovery are values, NMIs and interrupts are counted, anything else ends the
// boot.
#pragma once

#include <cstdint>

#include "guests/bare/l1/interrupts.hpp"

namespace flatback::guests {

// Selectors of the GDT.
namespace selector {
constexpr std::uint16_t code64 = 0x08;
constexpr std::uint16_t data = 0x10;
constexpr std::uint16_t tss = 0x18;
constexpr std::uint16_t code32 = 0x28;
constexpr std::uint16_t user_data = 0x33;
constexpr std::uint16_t user_code64 = 0x3B;
constexpr std::uint16_t drawn = 0x40;
}  // namespace selector

// Software interrupts: one that returns at once, and one that user mode may use to end its code.
constexpr std::uint8_t vector_return = 0x30;
constexpr std::uint8_t vector_end_of_user = 0x31;
// Self-interrupts use these and above.
constexpr std::uint8_t first_external_vector = 0x40;

extern volatile std::uint64_t nmi_count;
extern volatile std::uint64_t external_count;
extern volatile std::uint64_t last_external_vector;

// Loads GDT, IDT and TR as they were at the start. `tss_limit` 0x67 leaves no I/O permission bitmap;
// whole_tss has one that permits every port.
constexpr std::uint32_t whole_tss = 0x68 + 8192;
void load_descriptor_tables(std::uint32_t tss_limit = whole_tss);

// What selector::drawn names until the next load_descriptor_tables().
void set_drawn_descriptor(std::uint64_t descriptor);

std::uint64_t gdt_base();
std::uint64_t idt_base();
std::uint64_t tss_base();

}  // namespace flatback::guests
