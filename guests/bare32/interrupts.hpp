// GDT, TSS and IDT. Exceptions of instructions that say where to go on are values
// (guests/bare/l1/interrupts.hpp: last_fault); every other one ends the run.
#pragma once

#include <cstdint>

namespace flatback::guests::bare32 {

// Selectors of boot.S.
constexpr std::uint16_t code_selector = 0x08;
constexpr std::uint16_t data_selector = 0x10;
constexpr std::uint16_t task_selector = 0x18;
constexpr std::uint16_t described_selector = 0x20;
constexpr std::uint16_t long_bit_selector = 0x28;

// The linear address of the TSS.
std::uint32_t task_state_base();

// The linear address of the IDT.
std::uint32_t idt_base();

void start_interrupts();

// A segment descriptor. `limit` counts bytes, or pages of 4 KB where `rights` have G (8000H) set; rights as
// in the VMCS.
std::uint64_t descriptor(std::uint32_t base, std::uint32_t limit, std::uint32_t rights);

// Puts a descriptor at a selector of boot.S.
void describe(std::uint16_t selector, std::uint64_t descriptor);

}  // namespace flatback::guests::bare32
