#include "metal/hole_writes.hpp"

#include "metal/cpu.hpp"
#include "metal/ept01.hpp"
#include "metal/exit_handler.hpp"
#include "metal/log.hpp"
#include "metal/vmx_instructions.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {
namespace {

namespace field = vmx::field;

enum class Stop : std::uint8_t { monitor_trap, single_step, preemption_timer };

// The one instruction that is let through, with what is changed in its VMCS.
struct Step {
    Ept01* ept01 = nullptr;
    PhysicalRange region;
    bool has_monitor_trap = false;
    bool told = false;
    nested::Entry (*handler)(ExitFrame&) = nullptr;  // not null: under way
    Stop stop{};
    unsigned pages = 0;  // of the region, that it has met
    std::uint32_t pin = 0;
    std::uint32_t primary = 0;
    std::uint32_t exceptions = 0;
    std::uint64_t trap_flag = 0;
    std::uint32_t timer = 0;
};
constinit Step step{};

constexpr unsigned most_pages = 16;
constexpr std::uint32_t debug_exception = 1U << 1;
constexpr std::uint32_t blocking_by_sti_or_mov_ss = 3;
constexpr std::uint64_t pending_single_step = 1ULL << 14;
constexpr std::uint64_t pending_enabled_breakpoint = 1ULL << 12;
constexpr std::uint64_t breakpoints = 0xF;

template <vmx::FieldWidth W, vmx::FieldKind K>
vmx::field_value_t<W> get(vmx::Field<W, K> what) {
    return static_cast<vmx::field_value_t<W>>(vmread(what.encoding));
}
void put(auto what, std::uint64_t value) {
    vmwrite(what.encoding, value);
}

bool is_delivering() {
    return vmx::InterruptionInformation{get(field::idt_vectoring_information)}.is_valid();
}

void arm() {
    step.pin = get(field::pin_based_vm_execution_controls);
    step.primary = get(field::primary_processor_based_vm_execution_controls);
    step.exceptions = get(field::exception_bitmap);
    step.trap_flag = get(field::guest_rflags) & x86::rflags::trap;
    step.stop = step.has_monitor_trap ? Stop::monitor_trap
                : is_delivering()     ? Stop::preemption_timer
                                      : Stop::single_step;
    switch (step.stop) {
        case Stop::monitor_trap:
            put(field::primary_processor_based_vm_execution_controls,
                step.primary | vmx::primary::monitor_trap_flag);
            break;
        case Stop::preemption_timer:
            // At 0 it expires before the first instruction, and behind the delivery (SDM 3C 27.7.4).
            step.timer = get(field::vmx_preemption_timer_value);
            put(field::pin_based_vm_execution_controls, step.pin | vmx::pin::activate_vmx_preemption_timer);
            put(field::vmx_preemption_timer_value, 0);
            break;
        case Stop::single_step:
            // An interrupt would find TF set in the flags that its delivery saves: it exits, and comes right
            // after.
            put(field::pin_based_vm_execution_controls, step.pin | vmx::pin::external_interrupt_exiting);
            put(field::exception_bitmap, step.exceptions | debug_exception);
            put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::trap);
            // What blocking by STI or MOV SS keeps off comes no sooner so, and with it TF would need a trap
            // that is pending already (SDM 3C 27.3.1.5).
            put(field::guest_interruptibility_state,
                get(field::guest_interruptibility_state) & ~blocking_by_sti_or_mov_ss);
            break;
    }
}

void disarm() {
    put(field::pin_based_vm_execution_controls, step.pin);
    put(field::primary_processor_based_vm_execution_controls, step.primary);
    put(field::exception_bitmap, step.exceptions);
    if (step.stop == Stop::preemption_timer) put(field::vmx_preemption_timer_value, step.timer);
    if (step.stop == Stop::single_step) {
        put(field::guest_rflags, (get(field::guest_rflags) & ~x86::rflags::trap) | step.trap_flag);
        // There are processors that save our trap as pending at other exits.
        if (step.trap_flag == 0)
            put(field::guest_pending_debug_exceptions,
                get(field::guest_pending_debug_exceptions) & ~pending_single_step);
    }
}

void close() {
    step.ept01->open_l0_region(false);
    invept(vmx::InveptType::single_context, {step.ept01->pointer(), 0});
    exit_handler = step.handler;
    step.handler = nullptr;
}

bool is_ours(vmx::ExitReason reason) {
    switch (step.stop) {
        case Stop::monitor_trap:
            return reason == vmx::ExitReason::monitor_trap_flag;
        case Stop::preemption_timer:
            return reason == vmx::ExitReason::vmx_preemption_timer_expired;
        case Stop::single_step:
            return reason == vmx::ExitReason::exception_or_nmi &&
                   (get(field::vm_exit_interruption_information) & 0x7FF) ==
                       0x301;  // a hardware exception, #DB
    }
    return false;
}

nested::Entry handle_stepped_exit(ExitFrame& frame) {
    const auto exit_reason = static_cast<std::uint32_t>(vmread(field::exit_reason.encoding));
    const auto reason = vmx::ExitReasonField{exit_reason}.basic();
    disarm();
    // The same instruction at another page of the region: both are open, only its translation was old.
    if (reason == vmx::ExitReason::ept_violation && ++step.pages < most_pages &&
        step.region.contains(get(field::guest_physical_address))) {
        arm();
        if (!frame.cpu->vcpu.in_l2()) {
            frame.cpu->vcpu.retry_l1();
            return nested::Entry::vmresume;
        }
        close();
        return exit_handler(frame);
    }
    close();
    if (!is_ours(reason)) return exit_handler(frame);
    if (step.stop == Stop::single_step) {
        // Traps of the guest's own, met with ours.
        const std::uint64_t hit = get(field::exit_qualification) & breakpoints;
        const std::uint64_t traced = step.trap_flag != 0 ? pending_single_step : 0;
        if ((hit | traced) != 0)
            put(field::guest_pending_debug_exceptions,
                hit | traced | (hit != 0 ? pending_enabled_breakpoint : 0));
    }
    return nested::Entry::vmresume;
}

}  // namespace

void prepare_hole_writes(BootResult& boot) {
    step.ept01 = boot.ept01;
    step.region = boot.region;
    step.has_monitor_trap =
        boot.processor.capabilities.primary_processor_based.may_set(vmx::primary::monitor_trap_flag);
}

bool let_hole_write_through(std::uint64_t guest_physical) {
    if (!step.region.contains(guest_physical)) return false;
    if (!step.told) {
        step.told = true;
        log::info("a guest writes to L0's memory, which the memory map reserves: at ",
                  log::hex(guest_physical), ", RIP ", log::hex(get(field::guest_rip)),
                  "; the write is dropped, and later ones are in silence");
    }
    if (step.handler != nullptr) return true;
    step.handler = exit_handler;
    step.pages = 0;
    exit_handler = handle_stepped_exit;
    step.ept01->open_l0_region(true);
    arm();
    return true;
}

void put_off_hole_write() {
    if (step.handler == nullptr) return;
    disarm();
    close();
}

}  // namespace flatback::metal
