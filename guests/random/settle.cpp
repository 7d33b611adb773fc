#include "guests/random/settle.hpp"

#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {

void settle_single_step() {
    constexpr std::uint64_t single_step = 1U << 14;
    if ((read(field::guest_interruptibility_state) & 3) == 0) return;
    const std::uint64_t pending = read(field::guest_pending_debug_exceptions) & ~single_step;
    const bool trap_flag = (read(field::guest_rflags) & 0x100) != 0;
    const std::uint64_t legal = trap_flag ? pending | single_step : pending;
    if (legal == read(field::guest_pending_debug_exceptions)) return;
    set_aside(Deviation::single_step_while_blocking);
    write(field::guest_pending_debug_exceptions, legal);
}

namespace {

// A field that was changed and a guest that left long mode can make it together.
void settle_long_mode() {
    constexpr std::uint64_t paging = 0x80000000;
    if ((read(field::guest_cr0) & paging) != 0) return;
    const std::uint32_t entry = read(field::vm_entry_controls);
    if ((entry & entry_control::ia32e_mode_guest) == 0) return;
    set_aside(Deviation::long_mode_without_paging);
    write(field::vm_entry_controls, entry & ~entry_control::ia32e_mode_guest);
}

void settle_privilege() {
    constexpr std::uint64_t virtual_8086 = 0x20000;
    constexpr std::uint64_t privilege = 0x60;
    constexpr std::uint64_t is_code = 0x8;
    constexpr std::uint64_t conforming = 0x4;
    if ((read(field::guest_rflags) & virtual_8086) != 0) return;
    const std::uint64_t code = read(field::guest_cs_access_rights);
    const std::uint64_t stack = read(field::guest_ss_access_rights);
    if ((code & is_code) == 0) return;
    const std::uint64_t level = (code & privilege) >> 5;
    const std::uint64_t selector = read(field::guest_cs_selector);
    if ((selector & 3) != level) {
        set_aside(Deviation::code_selector_privilege);
        write(field::guest_cs_selector, (selector & ~std::uint64_t{3}) | level);
    }
    if ((code & privilege) == (stack & privilege)) return;
    if ((code & conforming) != 0 && (code & privilege) < (stack & privilege)) return;
    set_aside(Deviation::stack_privilege);
    write(field::guest_ss_access_rights, (stack & ~privilege) | (code & privilege));
}

void settle_null_stack() {
    constexpr std::uint64_t unusable = 0x10000;
    constexpr std::uint64_t long_code = 0x2000;
    const std::uint64_t stack = read(field::guest_ss_access_rights);
    if ((read(field::guest_ss_selector) & ~3U) != 0 || (stack & unusable) != 0) return;
    if ((read(field::guest_cs_access_rights) & long_code) == 0) return;
    set_aside(Deviation::null_stack_segment);
    write(field::guest_ss_access_rights, stack | unusable);
}

// Where the older text asks for an error code and the newer for none, there is none.
void settle_error_code() {
    constexpr std::uint64_t exception = 0x80000300;
    constexpr std::uint64_t protection = 1;
    const std::uint64_t event = read(field::vm_entry_interruption_information);
    if ((event & 0x80000700) != exception || (read(field::guest_cr0) & protection) != 0) return;
    if ((read(field::secondary_processor_based_vm_execution_controls) & secondary::unrestricted_guest) != 0)
        return;
    set_aside(Deviation::error_code_without_protection);
    write(field::vm_entry_interruption_information, 0);
}

// An L0 that fills its EPT for the first fetch finds it saved as clear, and enters again without it.
void settle_resume_flag() {
    constexpr std::uint64_t resume = 0x10000;
    constexpr std::uint64_t enabled = 3;
    constexpr std::uint64_t not_executed = 0x30000;
    const std::uint64_t rflags = read(field::guest_rflags);
    const std::uint64_t dr7 = read(field::guest_dr7);
    if ((rflags & resume) == 0 || (dr7 & enabled) == 0 || (dr7 & not_executed) != 0) return;
    std::uint64_t breakpoint = 0;
    asm volatile("movq %%dr0, %0" : "=r"(breakpoint));
    if (breakpoint != read(field::guest_cs_base) + read(field::guest_rip)) return;
    set_aside(Deviation::resume_flag_cleared_early);
    write(field::guest_rflags, rflags & ~resume);
}

constexpr std::uint64_t blocking_by_nmi = 8;

bool has_virtual_nmis() {
    return (read(field::pin_based_vm_execution_controls) & pin::virtual_nmis) != 0;
}

// The emulator would have it although the field says no.
void settle_virtual_nmi_blocking() {
    const std::uint64_t state = read(field::guest_interruptibility_state);
    if (!world.virtual_nmis_are_blocked || !has_virtual_nmis() || (state & blocking_by_nmi) != 0) return;
    set_aside(Deviation::virtual_nmi_blocking_left);
    write(field::guest_interruptibility_state, state | blocking_by_nmi);
}

void settle_nmi() {
    constexpr std::uint64_t valid_nmi = 0x80000200;
    constexpr std::uint64_t blocking_by_sti = 1;
    if ((read(field::vm_entry_interruption_information) & 0x80000700) != valid_nmi) return;
    const std::uint64_t state = read(field::guest_interruptibility_state);
    // A processor may refuse it or not (SDM 3C 27.3.1.5); who judges before an MSR is loaded cannot know.
    if ((state & blocking_by_sti) != 0 && read(field::vm_entry_msr_load_count) != 0)
        write(field::guest_interruptibility_state, state & ~blocking_by_sti);
    if ((state & blocking_by_nmi) == 0 || !has_virtual_nmis()) return;
    set_aside(Deviation::nmi_while_blocked);
    write(field::guest_interruptibility_state, read(field::guest_interruptibility_state) & ~blocking_by_nmi);
}

}  // namespace

void note_virtual_nmi_blocking() {
    if (!has_virtual_nmis()) return;
    world.virtual_nmis_are_blocked = (read(field::guest_interruptibility_state) & blocking_by_nmi) != 0;
}

void settle_after_failure(std::uint32_t reason) {
    constexpr std::uint32_t msr_loading = 34;
    if (reason != (reason::entry_failure | msr_loading) ||
        (read(field::guest_interruptibility_state) & blocking_by_nmi) == 0)
        return;
    if (has_virtual_nmis()) {
        // Only a guest's IRET ends it there.
        set_aside(Deviation::virtual_nmi_blocking_left);
        world.case_over = true;
        return;
    }
    set_aside(Deviation::nmi_blocking_after_failure);
    asm volatile("int $0x30" : : : "memory");
}

void settle_before_entry(unsigned vmcs) {
    settle_single_step();
    settle_resume_flag();
    // L2 by itself does not do this. What is not read stays where it is: an L0 may have two words for it.
    if (world.guest_written[vmcs]) settle_long_mode();
    settle_null_stack();
    settle_privilege();
    settle_virtual_nmi_blocking();
    settle_nmi();
    settle_error_code();
}

}  // namespace flatback::guests
