#include "metal/ground/interrupts.hpp"

#include <array>
#include <cstddef>

#include "metal/ground/entry_window.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/machine_check.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/this_processor.hpp"
#include "x86/exception.hpp"
#include "x86/msr.hpp"

extern "C" {
extern const char interrupt_stubs[], window_stubs[];
extern const char parked_nmi[], parked_machine_check[];  // metal/processors/other_processors.S
struct FaultFixup {
    std::uint64_t fault_rip;
    std::uint64_t recovery_rip;
};
extern const FaultFixup fault_fixups_start[], fault_fixups_end[];
}

namespace flatback::metal {

namespace {

constexpr std::size_t stub_size = 16;

// SDM 3A figure 6-8.
struct Gate {
    std::uint16_t offset_15_0;
    std::uint16_t code_selector;
    std::uint8_t interrupt_stack;
    std::uint8_t type;
    std::uint16_t offset_31_16;
    std::uint32_t offset_63_32;
    std::uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);
constexpr std::uint8_t present_interrupt_gate = 0x8E;

struct [[gnu::packed]] TableRegister {
    std::uint16_t limit;
    std::uint64_t base;
};

// The stacks of vectors that must not trust the interrupted one.
enum InterruptStack : std::uint8_t { none = 0, for_nmi = 1, for_double_fault = 2, for_machine_check = 3 };

// Of all processors; written before the second starts.
struct InterruptTables {
    alignas(16) std::array<Gate, 256> gates;
    alignas(16) std::array<Gate, 256> window_gates;  // while external interrupts are let in
    alignas(16) std::array<Gate, 256> parked_gates;  // of processors that only wait
};
constinit InterruptTables tables{};

constexpr std::uint8_t interrupt_stack_of(std::size_t vector) {
    switch (static_cast<x86::Vector>(vector)) {
        case x86::Vector::nmi:
            return for_nmi;
        case x86::Vector::double_fault:
            return for_double_fault;
        case x86::Vector::machine_check:
            return for_machine_check;
        default:
            return none;
    }
}

Gate gate(std::uint64_t handler, std::uint8_t interrupt_stack) {
    return Gate{.offset_15_0 = static_cast<std::uint16_t>(handler),
                .code_selector = selector::code,
                .interrupt_stack = interrupt_stack,
                .type = present_interrupt_gate,
                .offset_31_16 = static_cast<std::uint16_t>(handler >> 16),
                .offset_63_32 = static_cast<std::uint32_t>(handler >> 32),
                .reserved = 0};
}

void fill(std::array<Gate, 256>& gates, const char* stubs) {
    for (std::size_t vector = 0; vector < gates.size(); ++vector) {
        gates[vector] =
            gate(reinterpret_cast<std::uint64_t>(stubs) + vector * stub_size, interrupt_stack_of(vector));
    }
}

void load_idt(const std::array<Gate, 256>& gates) {
    const TableRegister idt{sizeof gates - 1, reinterpret_cast<std::uint64_t>(gates.data())};
    asm volatile("lidt %0" ::"m"(idt) : "memory");
}

bool apply_fixup(InterruptFrame& frame) {
    for (const FaultFixup* fixup = fault_fixups_start; fixup != fault_fixups_end; ++fixup) {
        if (fixup->fault_rip != frame.rip) continue;
        frame.rip = fixup->recovery_rip;
        return true;
    }
    return false;
}

// Vector 18 is one, but in the window that of an interrupt too: there L1, which may write to IA32_MCG_STATUS
// and program the 8259, must not make one look like the other. A second machine check within one is a
// shutdown (SDM 3B 16.3.1.2), and comes nowhere.
bool is_machine_check(const ProcessorLocal& local, const InterruptFrame& frame) {
    if (frame.vector != static_cast<std::uint64_t>(x86::Vector::machine_check)) return false;
    return !local.window_open || (local.window_can_have_machine_check && machine_check_in_progress());
}

// An IRET would let the next NMI in, onto the stack of one that is being taken.
bool interrupts_an_nmi(const ProcessorLocal& local, const InterruptFrame& frame) {
    const auto& stack = local.interrupt_stacks[for_nmi - 1];
    const auto start = reinterpret_cast<std::uint64_t>(stack.data());
    return frame.rsp > start && frame.rsp <= start + stack.size();
}

}  // namespace

void make_interrupt_tables() {
    fill(tables.gates, interrupt_stubs);
    fill(tables.window_gates, window_stubs);
    fill(tables.parked_gates, interrupt_stubs);
    for (Gate& each : tables.parked_gates) each.interrupt_stack = none;
    tables.parked_gates[static_cast<std::size_t>(x86::Vector::nmi)] =
        gate(reinterpret_cast<std::uint64_t>(parked_nmi), none);
    tables.parked_gates[static_cast<std::size_t>(x86::Vector::machine_check)] =
        gate(reinterpret_cast<std::uint64_t>(parked_machine_check), none);
}

void load_descriptor_tables(ProcessorLocal& local) {
    local.task = TaskState{};
    for (std::size_t stack = 0; stack < local.interrupt_stacks.size(); ++stack) {
        local.task.interrupt_stacks[stack] = reinterpret_cast<std::uint64_t>(
            local.interrupt_stacks[stack].data() + ProcessorLocal::interrupt_stack_size);
    }
    const auto task = reinterpret_cast<std::uint64_t>(&local.task);
    constexpr std::uint64_t available_task = 0x0000890000000000;  // present, 64-bit TSS, byte granular
    local.descriptors = {
        0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF,
        available_task | (sizeof(TaskState) - 1) | (task & 0xFFFFFF) << 16 | (task >> 24 & 0xFF) << 56,
        task >> 32};

    const TableRegister gdt{sizeof local.descriptors - 1,
                            reinterpret_cast<std::uint64_t>(local.descriptors.data())};
    asm volatile(
        "lgdt %0\n"
        "pushq %1\n"
        "leaq 1f(%%rip), %%rax\n"
        "pushq %%rax\n"
        "lretq\n"
        "1:\n"
        "movl %2, %%ds\n"
        "movl %2, %%es\n"
        "movl %2, %%ss\n"
        "ltr %w3"
        :
        : "m"(gdt), "i"(selector::code), "r"(std::uint32_t{selector::data}), "r"(selector::task)
        : "rax", "memory");
    write_msr(x86::msr::ia32_gs_base, reinterpret_cast<std::uint64_t>(&local));
    load_idt(tables.gates);
}

void load_parked_descriptor_tables() {
    const TableRegister gdt{sizeof first_processor.descriptors - 1,
                            reinterpret_cast<std::uint64_t>(first_processor.descriptors.data())};
    asm volatile("lgdt %0" ::"m"(gdt) : "memory");
    load_idt(tables.parked_gates);
}

std::uint64_t gdt_base() {
    return reinterpret_cast<std::uint64_t>(this_processor().descriptors.data());
}
std::uint64_t idt_base() {
    return reinterpret_cast<std::uint64_t>(tables.gates.data());
}
std::uint64_t tss_base() {
    return reinterpret_cast<std::uint64_t>(&this_processor().task);
}

// True: back without IRET (metal/ground/interrupts.S).
extern "C" bool handle_interrupt(InterruptFrame& frame) {
    if (frame.vector == static_cast<std::uint64_t>(x86::Vector::nmi)) {
        if (processors_stop.load()) stop_this_processor(frame.rip, StoppedIn::l0);
        set_nmi_state(nmi_state::came);
        look_again(frame);
        return false;
    }
    ProcessorLocal& local = this_processor();
    if (is_machine_check(local, frame)) {
        take_machine_check(frame);
        const bool keeps_nmis_out = interrupts_an_nmi(local, frame);
        look_again(frame);
        return keeps_nmis_out;
    }
    if (local.window_open) {
        local.window_vector = static_cast<int>(frame.vector);
        local.window_open = false;
        frame.rflags &= ~std::uint64_t{1 << 9};  // one interrupt a window: the rest stay with the APIC
        return false;
    }
    if (frame.vector < 32 && apply_fixup(frame)) return false;
    panic_begin();
    log::line("exception ", frame.vector, " (error code ", log::hex(frame.error_code), ") in L0 at ",
              log::hex(frame.rip), ", address ", log::hex(read_cr2()),
              "; this is a bug of Flatback, report it with this log");
    panic_finish(&frame);
}

std::optional<std::uint8_t> take_external_interrupt() {
    ProcessorLocal& local = this_processor();
    local.window_vector = -1;
    local.window_can_have_machine_check = !machine_check_in_progress();
    local.window_open = true;
    load_idt(tables.window_gates);
    // STI delays recognition by one instruction (SDM 2B "STI"): the NOP is that one.
    asm volatile("sti; nop; nop; cli" ::: "memory", "cc");
    load_idt(tables.gates);
    local.window_open = false;
    const int vector = local.window_vector;
    if (vector < 0) return std::nullopt;
    return static_cast<std::uint8_t>(vector);
}

}  // namespace flatback::metal
