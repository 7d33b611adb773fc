#pragma once

#include <array>
#include <cstdint>

#include "layout.hpp"
#include "scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::handlers {

// What a 64-bit kernel has for its exceptions and interrupts, put into memory by stores of a program: an IDT,
// a GDT and a TSS, and stacks. The handlers themselves are the program's next steps. All of it lies at the
// same linear and physical addresses, and for an L2 is mapped so by who wants it. Tables and stacks are 2
// MBytes apart, so that a hypervisor below may have to fill its own structures in the midst of a delivery,
// more than once.

inline constexpr std::uint64_t idt = layout::data_page(40);
inline constexpr std::uint64_t gdt = layout::data_page(0) + x86::page_size_2m;
inline constexpr std::uint64_t tss = gdt + 0x100;
inline constexpr std::uint64_t stacks = layout::data_page(0) + 2 * x86::page_size_2m;
/// One page each, named by where they begin: below this address.
inline constexpr std::uint64_t stack = stacks + x86::page_size_4k;
inline constexpr std::uint64_t level_0_stack = stacks + 2 * x86::page_size_4k;
/// Of the interrupt stack table's first three entries.
[[nodiscard]] constexpr std::uint64_t table_stack(unsigned number) {
    return stacks + (2 + number) * x86::page_size_4k;
}
inline constexpr std::array<std::uint64_t, 7> pages = {
    idt, gdt, stacks, level_0_stack - x86::page_size_4k, level_0_stack, table_stack(1), table_stack(2)};
inline constexpr std::uint16_t idt_limit = 0xFFF;
inline constexpr std::uint16_t gdt_limit = 0x37;
inline constexpr std::uint16_t tss_limit = 0x67;

inline constexpr std::uint16_t kernel_code = 0x08;
inline constexpr std::uint16_t kernel_data = 0x10;
inline constexpr std::uint16_t task = 0x18;
inline constexpr std::uint16_t user_code = 0x28 | 3;
inline constexpr std::uint16_t user_data = 0x30 | 3;

/// Where the handler of a vector begins.
[[nodiscard]] constexpr std::uint64_t handler(unsigned vector) {
    return 0x1F'0000 + 16 * std::uint64_t{vector};
}

enum class GateType : std::uint8_t { interrupt = 0xE, trap = 0xF, call = 0xC };

struct GateForm {
    std::uint16_t selector = kernel_code;
    unsigned stack_table = 0;
    GateType type = GateType::interrupt;
    unsigned privilege_level = 0;
    bool present = true;
};

/// The first quadword of a gate; the second is the offset's upper half.
[[nodiscard]] constexpr std::uint64_t gate_word(std::uint64_t offset, const GateForm& form) {
    return (offset & 0xFFFF) | std::uint64_t{form.selector} << 16 | std::uint64_t{form.stack_table} << 32 |
           static_cast<std::uint64_t>(form.type) << 40 | std::uint64_t{form.privilege_level} << 45 |
           std::uint64_t{form.present} << 47 | (offset >> 16 & 0xFFFF) << 48;
}

inline void put_gate(Scenario& say, unsigned vector, const GateForm& form = {}, std::uint64_t table = idt) {
    say.edit().poke(table + 16 * vector, gate_word(handler(vector), form));
    say.poke(table + 16 * vector + 8, handler(vector) >> 32);
}

/// Interrupt gates for the exceptions and for every sixteenth vector behind them, a double fault's with a
/// stack of its own; segments; a TSS.
inline void put_all(Scenario& say) {
    for (unsigned vector = 0; vector < 256; vector += vector < 32 ? 1 : 16)
        put_gate(say, vector, {.stack_table = vector == 8 ? 1U : 0U});
    say.edit();
    say.poke(gdt + kernel_code, 0x00AF'9B00'0000'FFFF).poke(gdt + kernel_data, 0x00CF'9300'0000'FFFF);
    say.poke(gdt + (user_code & ~7U), 0x00AF'FB00'0000'FFFF);
    say.poke(gdt + (user_data & ~7U), 0x00CF'F300'0000'FFFF);
    // Stack pointers are at four bytes behind a multiple of eight, and below 4 GB.
    say.poke(tss, level_0_stack << 32);
    for (const unsigned number : {1U, 2U, 3U}) say.poke(tss + 0x18 + 8 * number, table_stack(number) << 32);
}

/// The VMCS that is current: its L2 has them, with that IDT and stack.
inline void give_l2(Scenario& say, std::uint64_t table = idt, std::uint64_t stack_pointer = stack) {
    namespace field = vmx::field;
    say.vmwrite(field::guest_idtr_base, table).vmwrite(field::guest_gdtr_base, gdt);
    say.vmwrite(field::guest_tr_base, tss).vmwrite(field::guest_rsp, stack_pointer);
}
/// ... and L1 behind its exit.
inline void give_l1(Scenario& say, std::uint64_t stack_pointer) {
    namespace field = vmx::field;
    say.vmwrite(field::host_idtr_base, idt).vmwrite(field::host_gdtr_base, gdt);
    say.vmwrite(field::host_tr_base, tss).vmwrite(field::host_rsp, stack_pointer);
}

}  // namespace flatback::machine::handlers
