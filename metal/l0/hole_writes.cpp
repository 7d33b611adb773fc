#include "metal/l0/hole_writes.hpp"

#include <array>
#include <cstddef>
#include <optional>

#include "metal/ground/log.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/cpu.hpp"
#include "metal/l0/exit_handler.hpp"
#include "metal/memory/ept01.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {
namespace {

namespace field = vmx::field;

using Stop = HoleWrite::Stop;

HoleWrite& step() {
    return this_processor().cpu->hole_write;
}
nested::Entry (*&exit_handler())(ExitFrame&) {
    return this_processor().cpu->frame.handler;
}

constexpr unsigned most_pages = 16;
constexpr unsigned most_early_traps = 16;
constexpr std::size_t number_of_rsp = 4;
// INT3 and INTO: their delivery is an event's, behind which the preemption timer stops.
constexpr std::uint32_t software_exceptions = 1U << 3 | 1U << 4;
constexpr std::uint64_t hidden_flags = x86::rflags::trap | x86::rflags::interrupt_enable;
constexpr std::uint32_t blocking_by_sti_or_mov_ss =
    vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
constexpr std::uint64_t pending_enabled_breakpoint = 1ULL << 12;
constexpr std::uint64_t breakpoints = 0xF;

template <vmx::FieldWidth W, vmx::FieldKind K>
void change(vmx::Field<W, K> what, std::type_identity_t<vmx::field_value_t<W>> mask,
            std::type_identity_t<vmx::field_value_t<W>> to) {
    put(what, (get(what) & ~mask) | to);
}

// Of the guest, as it is now.
std::array<std::uint64_t, 16> registers_now() {
    auto registers = std::to_array(this_processor().cpu->frame.registers.by_number);
    registers[number_of_rsp] = get(field::guest_rsp);
    return registers;
}
// An instruction that writes has moved RIP behind it, or (a repeated string instruction, a CALL of itself) a
// register.
bool has_not_moved() {
    return get(field::guest_rip) == step().rip && registers_now() == step().registers;
}

bool is_delivering() {
    return vmx::InterruptionInformation{get(field::idt_vectoring_information)}.is_valid();
}

// TF must not be seen: no event may save RFLAGS meanwhile. Interrupts wait, NMIs and exceptions exit.
void arm_single_step() {
    put(field::pin_based_vm_execution_controls, step().pin | vmx::pin::nmi_exiting);
    put(field::exception_bitmap, ~software_exceptions);
    put(field::page_fault_error_code_mask, 0);
    put(field::page_fault_error_code_match, 0);
    change(field::guest_rflags, hidden_flags, x86::rflags::trap);
    change(field::guest_ia32_debugctl, x86::debugctl::branch_single_step, 0);
    // With it TF would need a trap that is pending already (SDM 3C 27.3.1.5). What it keeps off is kept off.
    change(field::guest_interruptibility_state, blocking_by_sti_or_mov_ss, 0);
}

void arm() {
    step().pin = get(field::pin_based_vm_execution_controls);
    step().primary = get(field::primary_processor_based_vm_execution_controls);
    // TF wherever it can be had: the monitor trap flag is offered by an emulator that does not stop by it,
    // and what a guest writes must not stay.
    step().stop = !is_delivering()              ? Stop::single_step
                  : step().has_preemption_timer ? Stop::preemption_timer
                                                : Stop::monitor_trap;
    step().armed = true;
    switch (step().stop) {
        case Stop::monitor_trap:
            put(field::primary_processor_based_vm_execution_controls,
                step().primary | vmx::primary::monitor_trap_flag);
            break;
        case Stop::preemption_timer:
            // At 0 it expires before the first instruction, and behind the delivery (SDM 3C 27.7.4).
            step().timer = get(field::vmx_preemption_timer_value);
            put(field::pin_based_vm_execution_controls, step().pin | vmx::pin::activate_vmx_preemption_timer);
            put(field::vmx_preemption_timer_value, 0);
            break;
        case Stop::single_step:
            step().exceptions = get(field::exception_bitmap);
            step().page_fault_mask = get(field::page_fault_error_code_mask);
            step().page_fault_match = get(field::page_fault_error_code_match);
            step().flags = get(field::guest_rflags) & hidden_flags;
            step().branch = get(field::guest_ia32_debugctl) & x86::debugctl::branch_single_step;
            step().blocking = get(field::guest_interruptibility_state) & blocking_by_sti_or_mov_ss;
            step().rip = get(field::guest_rip);
            step().registers = registers_now();
            arm_single_step();
            break;
    }
}

// done: the instruction is.
void disarm(bool done) {
    step().armed = false;
    put(field::pin_based_vm_execution_controls, step().pin);
    put(field::primary_processor_based_vm_execution_controls, step().primary);
    if (step().stop == Stop::preemption_timer) put(field::vmx_preemption_timer_value, step().timer);
    if (step().stop != Stop::single_step) return;
    put(field::exception_bitmap, step().exceptions);
    put(field::page_fault_error_code_mask, step().page_fault_mask);
    put(field::page_fault_error_code_match, step().page_fault_match);
    change(field::guest_rflags, hidden_flags, step().flags);
    change(field::guest_ia32_debugctl, x86::debugctl::branch_single_step, step().branch);
    if (!done) change(field::guest_interruptibility_state, 0, step().blocking);
    // There are processors that save our trap as pending at other exits.
    if ((step().flags & x86::rflags::trap) == 0)
        change(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step, 0);
}

// done: as for disarm().
void close(Cpu& cpu, bool done) {
    exit_handler() = step().handler;
    step().handler = nullptr;
    std::optional<RealApic::Write> write;
    if (cpu.port.real_apic().is_letting_write()) write = cpu.port.real_apic().take_write(done);
    if (cpu.port.kept_pages().is_letting_write()) {
        cpu.port.kept_pages().take_writes(
            done, [&](const RegisterWrite& each) { cpu.port.write_kept_register(each); });
    }
    if (step().through_ept02) {
        step().ept01->refill_holes();
        cpu.vcpu.write_vanished();
    }
    if (step().through_ept01) {
        step().ept01->open_holes(false);
        invept(vmx::InveptType::single_context, {step().ept01->pointer().value, 0});
    }
    step().through_ept01 = step().through_ept02 = false;
    if (write) cpu.port.local_apic().write_page(write->offset, write->value);
}

bool is_ours(vmx::ExitReason reason) {
    switch (step().stop) {
        case Stop::monitor_trap:
            return reason == vmx::ExitReason::monitor_trap_flag;
        case Stop::preemption_timer:
            return reason == vmx::ExitReason::vmx_preemption_timer_expired;
        case Stop::single_step:
            return reason == vmx::ExitReason::exception_or_nmi &&
                   vmx::InterruptionInformation{get(field::vm_exit_interruption_information)}
                       .is_hardware_exception(x86::Vector::debug);
    }
    return false;
}

// Traps of the guest's own, met with ours.
void give_own_traps() {
    const std::uint64_t hit = get(field::exit_qualification) & breakpoints;
    const std::uint64_t traced = (step().flags & x86::rflags::trap) != 0 && step().branch == 0
                                     ? vmx::pending_debug::single_step
                                     : std::uint64_t{0};
    if ((hit | traced) != 0)
        put(field::guest_pending_debug_exceptions,
            hit | traced | (hit != 0 ? pending_enabled_breakpoint : 0));
}

// Of an exception whose exit this is, with the controls that the guest's hypervisor chose.
bool is_asked_for(vmx::InterruptionInformation event) {
    const bool in_bitmap = (step().exceptions >> (event.vector() % 32) & 1) != 0;
    if (event.vector() != static_cast<std::uint8_t>(x86::Vector::page_fault)) return in_bitmap;
    const std::uint32_t code = get(field::vm_exit_interruption_error_code);
    return in_bitmap == ((code & step().page_fault_mask) == step().page_fault_match);  // SDM 3C 26.2
}

// An NMI or an exception that exits only because of the single step: nullopt where it is the guest's
// hypervisor's.
std::optional<nested::Entry> handle_unasked_event(Cpu& cpu) {
    const vmx::InterruptionInformation event{get(field::vm_exit_interruption_information)};
    if (event.type() == vmx::InterruptionType::nmi) {
        if ((step().pin & vmx::pin::nmi_exiting) != 0) return std::nullopt;
        cpu.port.return_nmi();  // given before this very entry (metal/l0/entry.S)
        return nested::Entry::vmresume;
    }
    if (is_asked_for(event)) return std::nullopt;
    return cpu.vcpu.pass_exception_on();
}

nested::Entry handle_stepped_exit(ExitFrame& frame) {
    Cpu& cpu = *frame.cpu;
    const auto reason = vmx::ExitReasonField{get(field::exit_reason)}.basic();
    if (is_ours(reason)) {
        // Where a processor saves our trap as pending at an exit, and that is one of a hypervisor beneath,
        // which goes on by itself, the trap comes before the instruction.
        if (step().stop == Stop::single_step && has_not_moved() && step().early_traps++ < most_early_traps)
            return nested::Entry::vmresume;
        disarm(true);
        close(cpu, true);
        if (step().stop == Stop::single_step) give_own_traps();
        return nested::Entry::vmresume;
    }
    disarm(false);
    if (reason == vmx::ExitReason::ept_violation && ++step().pages < most_pages) {
        // The same instruction at another page: what it met before stays open, or it would never get on.
        const nested::Entry entry = step().handler(frame);
        if (!step().armed) close(cpu, false);
        return entry;
    }
    close(cpu, false);
    if (reason == vmx::ExitReason::exception_or_nmi && step().stop == Stop::single_step) {
        if (const auto entry = handle_unasked_event(cpu)) return *entry;
    }
    return frame.handler(frame);
}

void begin() {
    if (step().handler == nullptr) {
        step().handler = exit_handler();
        step().pages = 0;
        step().early_traps = 0;
        exit_handler() = handle_stepped_exit;
    }
    if (!step().told && !this_processor().cpu->port.is_letting_write()) {
        step().told = true;
        log::info("a guest writes where it has no memory (L0's is reserved in the memory map): at ",
                  log::hex(get(field::guest_physical_address)), ", RIP ", log::hex(get(field::guest_rip)),
                  "; the write is dropped, and later ones are in silence");
    }
    arm();
}

}  // namespace

void prepare_hole_writes(BootResult& boot) {
    step().ept01 = boot.ept01;
    step().has_preemption_timer =
        boot.processor.capabilities.pin_based.may_set(vmx::pin::activate_vmx_preemption_timer);
}

bool let_hole_write_through(std::uint64_t guest_physical) {
    const auto found = step().ept01->lookup(x86::Gpa<x86::L1>{guest_physical});
    if (!found || !found->is_hole) return false;
    if (!step().through_ept01) step().ept01->open_holes(true);
    step().through_ept01 = true;
    begin();
    return true;
}

void let_hole_write_through_ept02() {
    step().through_ept02 = true;
    begin();
}

void let_kept_write_through_ept01() {
    step().through_ept01 = true;
    begin();
}

bool hole_write_is_under_way() {
    return step().handler != nullptr;
}

void put_off_hole_write(Cpu& cpu) {
    if (step().handler == nullptr) return;
    disarm(false);
    close(cpu, false);
}

}  // namespace flatback::metal
