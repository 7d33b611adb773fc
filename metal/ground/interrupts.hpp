// L0's IDT, TSS and what arrives through them.
#pragma once

#include <cstdint>
#include <optional>

#include "metal/ground/interrupt_frame.hpp"

namespace flatback::metal {

namespace selector {
inline constexpr std::uint16_t code = 0x08;
inline constexpr std::uint16_t data = 0x10;
inline constexpr std::uint16_t task = 0x18;
}  // namespace selector

struct ProcessorLocal;

// The IDT, once.
void make_interrupt_tables();
// On the processor itself: its GDT and TSS, the IDT, and GS. NMI, #DF and #MC have their own stacks.
void load_descriptor_tables(ProcessorLocal& local);
// For a processor that only waits (metal/processors/other_processors.hpp), on its own stack: the first
// processor's GDT, and an IDT whose gates stay on that stack and by which NMIs and machine checks are
// forgotten.
void load_parked_descriptor_tables();
// For the host-state fields of a VMCS: of this processor.
[[nodiscard]] std::uint64_t gdt_base();
[[nodiscard]] std::uint64_t idt_base();
[[nodiscard]] std::uint64_t tss_base();

// An NMI exit leaves NMIs blocked. What blocks the guest's is in its VMCS; L0 takes the next one at once.
inline void unblock_nmis() {
    asm volatile(
        "movq %%rsp, %%rax\n\t"
        "pushq %0\n\t"
        "pushq %%rax\n\t"
        "pushfq\n\t"
        "pushq %1\n\t"
        "pushq $1f\n\t"
        "iretq\n"
        "1:"
        :
        : "i"(selector::data), "i"(selector::code)
        : "rax", "memory", "cc");
}

// Opens the window for one instruction boundary (STI; NOP; CLI): the vector of the external interrupt that
// was acknowledged there, if one was pending.
[[nodiscard]] std::optional<std::uint8_t> take_external_interrupt();

}  // namespace flatback::metal
