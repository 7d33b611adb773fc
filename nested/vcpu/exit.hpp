// An exit of L2's: handled here where it is L0's own matter, else shown to L1 as the exit that it asked for
// (SDM 3C chapter 28).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../vmx/exit_qualification.hpp"
#include "../exit/routing.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

// exit_reason: the field as the hardware left it. vmcs02 is current.
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::handle_l2_exit(std::uint32_t exit_reason) {
    Slot& slot = *current_;
    ++counters_.exits_from_l2;
    const vmx::ExitReasonField field{exit_reason};
    const auto basic = static_cast<std::size_t>(field.basic());
    if (field.is_entry_failure() || basic >= exit_reason_count) [[unlikely]]
        return handle_l0s_exit(slot, field);
    const Route route = routes_[basic];
    if (route == Route::to_l1) [[likely]] {
        slot.vmcs02.launched = true;
        return reflect(slot, exit_reason, get(vmx::field::exit_qualification));
    }
    return route == Route::by_ept12 ? handle_ept_exit(slot, exit_reason) : handle_l0s_exit(slot, field);
}

// One that L0 has to look at, and perhaps handles without L1.
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::handle_l0s_exit(Slot& slot, vmx::ExitReasonField field) {
    if (field.is_entry_failure()) [[unlikely]]
        return launched_anew(handle_entry_failure(slot, field));
    slot.vmcs02.launched = true;
    const auto basic = static_cast<std::size_t>(field.basic());
    // SEAMCALL and TDCALL exit unasked where the processor has TDX, and L0 does not know their reasons.
    Route route = basic < exit_reason_count ? routes_[basic] : Route::not_there;
    const std::uint32_t exit_reason = field.value;
    if (route == Route::to_host_first) {
        if (field.basic() == vmx::ExitReason::vmx_preemption_timer_expired)
            return handle_end_of_turn(slot, exit_reason);
        if (is_the_hosts(slot, field.basic())) return offer_to_host(slot, exit_reason);
        route = routes_beneath_[basic];
    }
    switch (route) {
        case Route::to_l1:
        case Route::by_ept12:
        case Route::to_host_first:
            break;
        case Route::by_msr_bitmap: {
            const bool write = field.basic() == vmx::ExitReason::wrmsr;
            if (l1_wants_msr(slot, static_cast<std::uint32_t>(port_.general_register(1)), write)) break;
            if (!handle_msr_for_l2(write))
                return raise_in_l2(slot, basic, detail::with_code(x86::Vector::general_protection));
            return reenter_l2(slot, basic);
        }
        case Route::by_io_bitmap:
            return handle_io_exit(slot, exit_reason);
        case Route::by_vmcs_bitmap:
            if (!l1_wants_vmcs_access(slot, field.basic() == vmx::ExitReason::vmwrite))
                return launched_anew(fail_vmcs_access_of_l2(slot, basic));
            break;
        case Route::by_cr4_mask: {
            const std::uint64_t qualification = get(vmx::field::exit_qualification);
            if (!is_l0s_own_cr4_exit(slot, qualification)) return reflect(slot, exit_reason, qualification);
            return raise_in_l2(slot, basic, detail::with_code(x86::Vector::general_protection));
        }
        case Route::by_posted_interrupts:
            if (take_posted_interrupts(slot, {get(vmx::field::vm_exit_interruption_information)}))
                return reenter_l2(slot, basic);
            break;
        case Route::by_window:
            if (is_l0s_own_window_exit(slot, field.basic()))
                return reenter_l2(slot, basic);  // the host has an event to give, and calls deliver() now
            break;
        case Route::not_there:
            // To L2 it is no instruction; the exit is counted as the exception.
            return launched_anew(raise_in_l2(
                slot, static_cast<std::size_t>(vmx::ExitReason::exception_or_nmi), detail::invalid_opcode()));
        case Route::after_move:
            return exit_after_move(field);
        case Route::never:
            port_.fatal("an exit of L2's that neither L0 nor L1 asked for");
    }
    return reflect(slot, exit_reason, get(vmx::field::exit_qualification));
}

// The entry failed as an exit does.
template <Port P>
[[gnu::cold]] Entry NestedVcpu<P>::handle_entry_failure(Slot& slot, vmx::ExitReasonField field) {
    // L2 ran before, and L1 asked for no entry that could fail (SDM 3C 27.9).
    if (reentering_ && field.basic() == vmx::ExitReason::entry_failure_machine_check &&
        return_machine_check()) {
        return reenter_l2(slot, static_cast<std::size_t>(field.basic()));
    }
    notice(Notice::guest_state_refused, field.value);
    take_back_hosts_event(slot);
    if (reentering_) return reflect_failed_reentry(slot);
    return reflect_failed_entry(slot, field.basic(), get(vmx::field::exit_qualification));
}

template <Port P>
std::optional<Entry> NestedVcpu<P>::handle_failed_entry(std::uint32_t vm_instruction_error) {
    if (!in_l2_) return std::nullopt;
    // A rule about controls or host state that nested/entry/checks.hpp does not have. vmcs02's host state is
    // L0's own, so that what the processor refused came from L1.
    Slot& slot = *current_;
    notice(Notice::hardware_refused_vmcs02, vm_instruction_error);
    take_back_hosts_event(slot);
    return launched_anew(reentering_ ? reflect_failed_reentry(slot) : fail_hardware_entry(slot));
}

// VMfail after vmcs02 was brought up to date: L1 goes on behind its VMLAUNCH or VMRESUME.
template <Port P>
Entry NestedVcpu<P>::fail_hardware_entry(Slot& slot) {
    in_l2_ = false;
    if (entering_by_launch_) slot.launched = false;
    take_back_overwritten(slot);
    slot.unchecked.controls = true;
    load(vmcs01_);
    enter_l1_tag();
    return fail_valid(vmx::InstructionError::entry_with_invalid_control_fields);
}

// L2 ran, and L0 then made a state of it that the processor does not take: a bug of L0's, but it is L2 that
// ends.
template <Port P>
Entry NestedVcpu<P>::reflect_failed_reentry(Slot& slot) {
    put(vmx::field::vm_entry_interruption_information, 0);
    return reflect_made(slot, vmx::ExitReason::triple_fault, {}, 0, {});
}

// Back into L2 after an exit that L1 does not see.
template <Port P>
Entry NestedVcpu<P>::reenter_l2(Slot& slot, std::size_t basic_reason) {
    reentering_ = true;
    ++counters_.handled_by_l0[basic_reason];
    ++counters_.l2_reentries;
    if ((slot.work & detail::timer) != 0) [[unlikely]]
        put_timer(slot);
    select_tag(slot);
    return Entry::vmresume;
}

// --- EPT ---

template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::handle_ept_exit(Slot& slot, std::uint32_t exit_reason) {
    slot.vmcs02.launched = true;
    const vmx::ExitReasonField reason{exit_reason};
    const std::uint64_t guest_physical = get(vmx::field::guest_physical_address);
    const auto basic = static_cast<std::size_t>(reason.basic());
    if (!slot.l1_uses_ept) {
        // L2 runs under EPT01, which lacks only what lies beyond all memory: L1 sent it there.
        if (!port_.handle_ept01_violation(guest_physical))
            return raise_in_l2(slot, basic, detail::with_code(x86::Vector::general_protection));
        l1_writes_noticed_page();  // L2 writes to L1's own memory
        repeat_access(get(vmx::field::exit_qualification));
        return reenter_l2(slot, basic);
    }
    if (reason.basic() == vmx::ExitReason::ept_misconfiguration) port_.fatal("EPT02 is misconfigured");

    const vmx::EptViolation violation{get(vmx::field::exit_qualification)};
    const auto outcome = with_log(slot, [&](PageModificationLog<P>* log) {
        return ept02_.resolve(ept_pointer12_of(slot), x86::Gpa<x86::L2>{guest_physical},
                              static_cast<std::uint8_t>(violation.access()), log);
    });
    using Kind = EptOutcome::Kind;
    if (outcome.wrote_ept12) [[unlikely]]
        msr_bitmaps_.note_written_somewhere();  // L1 may keep an MSR bitmap there
    if (outcome.kind == Kind::filled || outcome.kind == Kind::overtaken) [[likely]] {
        repeat_access(violation.value);
        return reenter_l2(slot, basic);
    }
    if (outcome.kind == Kind::unwritable) {
        if (!let_write_vanish())
            return raise_in_l2(slot, basic, detail::with_code(x86::Vector::general_protection));
        repeat_access(violation.value);
        return reenter_l2(slot, basic);
    }
    if (outcome.kind == Kind::log_full) {
        return reflect(slot, static_cast<std::uint32_t>(vmx::ExitReason::page_modification_log_full),
                       violation.value & vmx::EptViolation::nmi_unblocking_by_iret);
    }
    if (outcome.kind == Kind::out_of_memory) port_.fatal("no memory for EPT02; give L0 more (docs/metal.md)");
    if (outcome.kind == Kind::misconfiguration) {
        return reflect(slot, static_cast<std::uint32_t>(vmx::ExitReason::ept_misconfiguration), 0);
    }
    if (violation.permissions() != 0 || outcome.page_shift > 12) {
        ept02_.forget(x86::Gpa<x86::L2>{guest_physical}, outcome.page_shift);
    }
    if (capabilities_.misreports_virtual_interrupts) {
        const vmx::InterruptionInformation told{get(vmx::field::idt_vectoring_information)};
        if (told.is_valid())
            put(vmx::field::idt_vectoring_information, virtual_interrupt_instead(slot, told).value);
    }
    // The access is L2's; the permissions are those of L1's tables, not of EPT02 which may not be filled yet.
    constexpr std::uint64_t advanced =
        vmx::EptViolation::user_mode_address | vmx::EptViolation::writable_address |
        vmx::EptViolation::execute_disabled_address | vmx::EptViolation::user_executable;
    return reflect(slot, exit_reason, violation.with_permissions(outcome.permissions).value & ~advanced);
}

// The page-modification log has grown. No exit brings the index to L1, which may have it without one.
template <Port P>
[[gnu::cold]] void NestedVcpu<P>::note_log_index(Slot& slot, std::uint16_t index) {
    namespace field = vmx::field;
    slot.vmcs12.set(field::pml_index, index);
    if (!slot.learned.contains(detail::index_of(field::pml_index.encoding))) return;
    while_loaded(slot.shadow, slot.vmcs02.page, [&] { put(field::pml_index, index); });
}

// False: EPT02 keeps L2 from writing as before.
template <Port P>
bool NestedVcpu<P>::let_write_vanish() {
    if constexpr (requires { port_.let_write_vanish(); }) {
        if (port_.let_write_vanish()) return true;
    }
    ept02_.close_unwritable();
    return false;
}

// Qualification bit 12 is defined only so (SDM 3C table 28-7).
template <Port P>
bool NestedVcpu<P>::tells_of_nmi_unblocking() {
    const std::uint32_t pin = in_l2_ ? current_->vmcs12.get(vmx::field::pin_based_vm_execution_controls) : 0;
    const bool physical = (pin & (vmx::pin::nmi_exiting | vmx::pin::virtual_nmis)) == vmx::pin::nmi_exiting;
    return !physical && !vmx::InterruptionInformation{get(vmx::field::idt_vectoring_information)}.is_valid();
}

// --- CR4 ---

// A MOV to CR4 that L1 did not ask to see sets a bit that L1 was not promised: #GP(0), as on a processor
// without the bit. L1's mask comes first, as the processor's exit comes before that fault (SDM 3C 26.1.3).
template <Port P>
bool NestedVcpu<P>::is_l0s_own_cr4_exit(const Slot& slot, std::uint64_t qualification) {
    const auto access = vmx::ControlRegisterAccess::decode(qualification);
    if (access.control_register != 4 || access.kind != vmx::ControlRegisterAccess::Kind::mov_to) return false;
    return ((l2_value(access) ^ slot.vmcs12.get(vmx::field::cr4_read_shadow)) &
            slot.vmcs12.get(vmx::field::cr4_guest_host_mask)) == 0;
}

// --- MSRs ---

template <Port P>
bool NestedVcpu<P>::l1_wants_msr(Slot& slot, std::uint32_t msr, bool write) {
    if ((slot.work & detail::msr_bitmap) == 0) return true;
    const auto* page = port_.l1_page(x86::Gpa<x86::L1>{slot.vmcs12.get(vmx::field::address_of_msr_bitmaps)});
    if (page == nullptr) return true;
    return msr_bitmap_has(page, msr, write);
}

// --- I/O ports ---

template <Port P>
bool NestedVcpu<P>::l1_wants_io(const Slot& slot, vmx::IoAccess access) {
    return !io_bitmaps_.keeps(access) || l1_asked_for_io(slot, access);
}

template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::handle_io_exit(Slot& slot, std::uint32_t exit_reason) {
    const std::uint64_t qualification = get(vmx::field::exit_qualification);
    const auto access = vmx::IoAccess::decode(qualification);
    if (l1_wants_io(slot, access)) return reflect(slot, exit_reason, qualification);
    constexpr auto basic = static_cast<std::size_t>(vmx::ExitReason::io_instruction);
    if (access.is_string) {
        if (const auto entry = l2_string_io(slot)) return *entry;
    }
    if constexpr (requires { port_.handle_io(); }) {
        if (port_.handle_io()) {
            advance(get(vmx::field::guest_rflags));
            return reenter_l2(slot, basic);
        }
    }
    return raise_in_l2(slot, basic, detail::with_code(x86::Vector::general_protection));
}

// L1 lets L2 have the MSR but L0 does not: L0 does it as it would for L1. False: #GP(0). vmcs02 is current.
template <Port P>
bool NestedVcpu<P>::handle_msr_for_l2(bool write) {
    const auto msr = static_cast<std::uint32_t>(port_.general_register(1));
    std::uint64_t& rax = port_.general_register(0);
    std::uint64_t& rdx = port_.general_register(2);
    if (write) {
        if (!write_guest_msr(msr, (rdx << 32) | (rax & 0xffffffff))) return false;
    } else {
        const auto value = read_guest_msr(msr);
        if (!value) return false;
        rax = *value & 0xffffffff;
        rdx = *value >> 32;
    }
    advance(get(vmx::field::guest_rflags));
    return true;
}

// --- to L1 ---

// An exit that L2 really had. vmcs02 is current; then vmcs01, in the state that L1's host-state area asks
// for.
template <Port P>
Entry NestedVcpu<P>::reflect(Slot& slot, std::uint32_t exit_reason, std::uint64_t qualification) {
    namespace field = vmx::field;
    Vmcs12& vmcs12 = slot.vmcs12;
    ++counters_.exits_reflected;
    ++counters_.reflected[exit_reason & 0xffff];

    // Everything below may have changed; only what did goes to the shadow VMCS.
    FieldSet changed;
    const auto note = [&](std::uint32_t encoding, std::uint64_t value) {
        const std::size_t index = detail::index_of(encoding);
        if (vmcs12.word(index) == value) return;
        vmcs12.set_word(index, value);
        changed.insert(index);
    };
    slot.newest.exit_saved();
    note(field::exit_reason.encoding, exit_reason);
    note(field::exit_qualification.encoding, qualification);
    vmx::InterruptionInformation event;
    vmx::InterruptionInformation vectoring;
    {
        Row row{*this};
        event.value = static_cast<std::uint32_t>(row.get(field::vm_exit_interruption_information));
        note(field::vm_exit_interruption_information.encoding, event.value);
        vectoring.value = static_cast<std::uint32_t>(row.get(field::idt_vectoring_information));
        note(field::idt_vectoring_information.encoding, vectoring.value);
        note(field::vm_exit_instruction_length.encoding, row.get(field::vm_exit_instruction_length));
        note(field::guest_rip.encoding, row.get(field::guest_rip));
        note(field::guest_rsp.encoding, row.get(field::guest_rsp));
        note(field::guest_rflags.encoding, row.get(field::guest_rflags));
        note(field::guest_interruptibility_state.encoding, row.get(field::guest_interruptibility_state));
        note(field::guest_cs_access_rights.encoding, row.get(field::guest_cs_access_rights));
        note(field::guest_ss_access_rights.encoding, row.get(field::guest_ss_access_rights));
    }
    const auto note_now = [&](auto what) {
        note(what.encoding, this->get(what));
        slot.newest.is_in_vmcs12(detail::index_of(what.encoding));
    };
    if (event.is_valid() && event.has_error_code()) note_now(field::vm_exit_interruption_error_code);
    if (vectoring.is_valid() && vectoring.has_error_code()) note_now(field::idt_vectoring_error_code);
    const auto basic = vmx::ExitReasonField{exit_reason}.basic();
    if (basic == vmx::ExitReason::ept_violation || basic == vmx::ExitReason::ept_misconfiguration) {
        note_now(field::guest_physical_address);
        note_now(field::guest_linear_address);
    } else if (basic == vmx::ExitReason::io_instruction ||
               basic == vmx::ExitReason::control_register_access) {
        note_now(field::guest_linear_address);  // of a string, or of LMSW's operand
    }
    if ((slot.work & (detail::saves_timer | detail::learned_fields)) != 0) [[unlikely]] {
        if ((slot.work & detail::learned_fields) != 0) changed.insert_all(bring_learned(slot));
        if ((slot.work & detail::saves_timer) != 0) {
            note(field::vmx_preemption_timer_value.encoding, l1_timer_left());
            slot.newest.is_in_vmcs12(detail::index_of(field::vmx_preemption_timer_value.encoding));
        }
    }
    // SDM 3C 28.2.4: the exit clears "valid" of the event that was injected.
    const std::uint32_t injected = vmcs12.get(field::vm_entry_interruption_information);
    note(field::vm_entry_interruption_information.encoding,
         injected & ~vmx::InterruptionInformation::valid_bit);

    pass_on_l2_state(slot);
    if ((slot.work & detail::exit_store_list) != 0) {
        const auto stored = store_msrs(vmcs12.get(field::vm_exit_msr_store_address),
                                       vmcs12.get(field::vm_exit_msr_store_count));
        if (!stored) abort_l1_by_msr(1, stored.error());
    }
    if (shadowing_ && !changed.empty()) {
        load(slot.shadow);
        changed.for_each(
            [&](std::size_t index) { put_raw(vmx::all_fields[index].encoding, vmcs12.word(index)); });
    }
    // Blocking by NMI stays what it was, but that an NMI exit brings it; with virtual NMIs L2's bit is not
    // the processor's.
    const bool by_nmi = basic == vmx::ExitReason::exception_or_nmi &&
                        event.type() == vmx::InterruptionType::nmi && event.is_valid();
    const bool virtual_nmis =
        (vmcs12.get(field::pin_based_vm_execution_controls) & vmx::pin::virtual_nmis) != 0;
    const std::uint32_t blocked =
        vmcs12.get(field::guest_interruptibility_state) & vmx::interruptibility::blocking_by_nmi;
    return enter_l1(slot, by_nmi ? vmx::interruptibility::blocking_by_nmi : virtual_nmis ? 0 : blocked);
}

// L1 gets what L2 had of what this exit does not load. vmcs02 is current.
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::pass_on_l2_state(const Slot& slot) {
    if ((slot.work & detail::pass_on_pat) != 0) inherited_.pat = get(vmx::field::guest_ia32_pat);
    if ((slot.work & detail::pass_on_efer) != 0) inherited_.efer = get(vmx::field::guest_ia32_efer);
}

// A VM entry that failed after it left L1: reason and qualification change, nothing else of the exit
// information does (SDM 3C 27.8), and the VMCS is not launched by it. vmcs02 is current.
template <Port P>
Entry NestedVcpu<P>::reflect_failed_entry(Slot& slot, vmx::ExitReason reason, std::uint64_t qualification) {
    ++counters_.exits_reflected;
    ++counters_.reflected[static_cast<std::size_t>(reason)];
    if (entering_by_launch_) slot.launched = false;
    take_back_overwritten(slot);
    // The guest state was loaded, and is known to be good, only where the MSR list came after it.
    const bool loaded = reason == vmx::ExitReason::entry_failure_msr_loading;
    if (loaded) pass_on_l2_state(slot);
    const auto set = [&](auto what, std::uint64_t value) {
        const std::size_t index = detail::index_of(what.encoding);
        slot.vmcs12.set_word(index, value);
        slot.newest.is_in_vmcs12(index);
        if (shadowing_) this->put(what, static_cast<typename decltype(what)::Value>(value));
    };
    if (shadowing_) load(slot.shadow);
    set(vmx::field::exit_reason, vmx::ExitReasonField::entry_failure(reason).value);
    set(vmx::field::exit_qualification, qualification);
    load(vmcs01_);
    if (!loaded) {
        inherited_.pat = get(vmx::field::guest_ia32_pat);
        inherited_.efer = get(vmx::field::guest_ia32_efer);
    }
    return enter_l1(slot,
                    get(vmx::field::guest_interruptibility_state) & vmx::interruptibility::blocking_by_nmi);
}

// L1 goes on at its host RIP. (Inlined, as every reflected exit ends so.)
template <Port P>
[[gnu::always_inline]] inline Entry NestedVcpu<P>::enter_l1(Slot& slot, std::uint32_t interruptibility) {
    load(vmcs01_);
    in_l2_ = false;
    load_l1_state(slot);
    put(vmx::field::guest_interruptibility_state, interruptibility);
    if ((slot.work & detail::exit_load_list) != 0) {
        const auto loaded = load_msrs(slot.vmcs12.get(vmx::field::vm_exit_msr_load_address),
                                      slot.vmcs12.get(vmx::field::vm_exit_msr_load_count));
        if (!loaded) abort_l1_by_msr(4, loaded.error());
        l1_state_known_ = false;
    }
    enter_l1_tag();
    return Entry::vmresume;
}

template <Port P>
void NestedVcpu<P>::enter_l1_tag() {
    auto entry = vpid01_.enter_l1(port_.cpu());
    pay(std::move(entry.flush));
}

// VMX abort (SDM 3C 28.7): the indicator goes to the VMCS region, the virtual processor to the shutdown
// state.
template <Port P>
void NestedVcpu<P>::abort_l1(std::uint32_t indicator) {
    if (auto* page = port_.l1_page(current_->region)) {
        x86::write_word(&reinterpret_cast<VmcsRegion*>(page)->abort_indicator, indicator);
    }
    port_.l1_shutdown(
        "a VMX abort: an MSR list of L1's for VM exits names an MSR that cannot be stored or loaded");
}

template <Port P>
[[gnu::cold]] void NestedVcpu<P>::abort_l1_by_msr(std::uint32_t indicator, const RefusedMsr& refused) {
    notice(Notice::exit_msr_refused, refused);
    abort_l1(indicator);
}

// Loads the host-state area of L1's VMCS into vmcs01 (SDM 3C 28.5).
//
// What only a WRMSR can change is known by interception. A segment register or TR that L1 has not touched is
// as L0 left it, by its mark (load_l1_data_segment); the rest is written.
template <Port P>
void NestedVcpu<P>::load_l1_state(Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    Row row{*this};
    row.put(field::guest_rip, vmcs12.get(field::host_rip));
    row.put(field::guest_rsp, vmcs12.get(field::host_rsp));
    row.put(field::guest_rflags, x86::rflags::fixed_one);
    row.put(field::guest_cr0, vmcs12.get(field::host_cr0));
    row.put(field::guest_cr3, vmcs12.get(field::host_cr3));
    row.put(field::guest_cr4, vmcs12.get(field::host_cr4));
    row.put(field::guest_fs_base, vmcs12.get(field::host_fs_base));
    row.put(field::guest_gs_base, vmcs12.get(field::host_gs_base));
    row.put(field::guest_gdtr_base, vmcs12.get(field::host_gdtr_base));
    row.put(field::guest_gdtr_limit, 0xffff);
    row.put(field::guest_idtr_base, vmcs12.get(field::host_idtr_base));
    row.put(field::guest_idtr_limit, 0xffff);
    row.put(field::guest_dr7, 0x400);
    row.put(field::guest_ia32_debugctl, 0);
    row.put(field::guest_pending_debug_exceptions, 0);
    const bool long_mode =
        (vmcs12.get(field::vm_exit_controls) & vmx::exit_control::host_address_space_size) != 0;
    if ((slot.work & (detail::pass_on_pat | detail::pass_on_efer)) != 0 &&
        l1_msrs_after(slot, long_mode) != loaded_l1_msrs_) [[unlikely]] {
        l1_state_known_ = false;
    }

    const bool same = l1_state_known_ && (l1_state_of_ == &slot || (long_mode && loads_what_is_loaded(slot)));
    using Register = x86::SegmentRegister;
    load_l1_data_segment<static_cast<std::uint32_t>(Register::ss)>(row, vmcs12, same, 0);
    load_l1_data_segment<static_cast<std::uint32_t>(Register::ds)>(row, vmcs12, same, 0);
    load_l1_data_segment<static_cast<std::uint32_t>(Register::es)>(row, vmcs12, same, 0);
    load_l1_data_segment<static_cast<std::uint32_t>(Register::fs)>(row, vmcs12, same,
                                                                   vmcs12.get(field::host_fs_base));
    load_l1_data_segment<static_cast<std::uint32_t>(Register::gs)>(row, vmcs12, same,
                                                                   vmcs12.get(field::host_gs_base));
    // Of CS 64-bit code sees nothing but the selector.
    if (!same || row.get(field::guest_cs_selector) != vmcs12.get(field::host_cs_selector)) [[unlikely]] {
        row.put(field::guest_cs_selector, vmcs12.get(field::host_cs_selector));
        row.put(field::guest_cs_base, 0);
        row.put(field::guest_cs_limit, 0xffffffff);
        row.put(field::guest_cs_access_rights, long_mode ? flat_code_rights_64 : flat_code_rights_32);
    }
    constexpr std::uint32_t marked_task = busy_task_rights | x86::AccessRights::available_bit;
    if (!same || row.get(field::guest_tr_access_rights) != marked_task) [[unlikely]] {
        row.put(field::guest_tr_selector, vmcs12.get(field::host_tr_selector));
        row.put(field::guest_tr_base, vmcs12.get(field::host_tr_base));
        row.put(field::guest_tr_limit, 0x67);
        row.put(field::guest_tr_access_rights, marked_task);
    }
    if (!same || row.get(field::guest_ldtr_selector) != 0) [[unlikely]] {
        row.put(field::guest_ldtr_selector, 0);
        row.put(field::guest_ldtr_access_rights, x86::AccessRights::unusable_bit);
    }
    if (!same) [[unlikely]]
        load_l1_rare_state(slot, long_mode);
}

// Of a virtual CPU of L1's guest that is not the last that ran: on one processor a hypervisor gives all of
// them the same host state, but for what every exit loads. What is loaded is that of an L1 in IA-32e mode.
template <Port P>
bool NestedVcpu<P>::loads_what_is_loaded(const Slot& slot) {
    const Vmcs12& loaded = l1_state_of_->vmcs12;
    for (const std::size_t index : detail::host_rarely_loaded) {
        if (slot.vmcs12.word(index) != loaded.word(index)) return false;
    }
    if (l1_msrs_after(slot, true) != loaded_l1_msrs_) return false;
    l1_state_of_ = &slot;
    return true;
}

// Where the exit does not load them, the registers are as L2 left them, but for the mode (SDM 3C 28.5.1).
template <Port P>
typename NestedVcpu<P>::LoadedMsrs NestedVcpu<P>::l1_msrs_after(const Slot& slot, bool long_mode) const {
    constexpr std::uint64_t mode = x86::efer::long_mode_active | x86::efer::long_mode_enable;
    return {.pat = (slot.work & detail::pass_on_pat) != 0 ? inherited_.pat
                                                          : slot.vmcs12.get(vmx::field::host_ia32_pat),
            .efer = (slot.work & detail::pass_on_efer) != 0
                        ? (inherited_.efer & ~mode) | (long_mode ? mode : 0)
                        : slot.vmcs12.get(vmx::field::host_ia32_efer)};
}

// ES, SS, DS, FS or GS, by its number. known: what L0 wrote into it at the last exit was for the same host
// state.
//
// Whether L1 has loaded it since, one word tells. A null selector is unusable whoever loaded it. With any
// other the access rights have a bit that the processor keeps and does not look at, and that a load replaces
// by the descriptor's, which is 0 but for an L1 that uses it for something.
template <Port P>
template <std::uint32_t Number>
[[gnu::always_inline]] inline void NestedVcpu<P>::load_l1_data_segment(Row& row, const Vmcs12& vmcs12,
                                                                       bool known, std::uint64_t base) {
    namespace field = vmx::field;
    constexpr std::uint32_t offset = 2 * Number;  // the fields follow each other (SDM 3D appendix B)
    constexpr std::size_t host = detail::index_of(field::host_es_selector.encoding + offset);
    constexpr AlwaysThere selector{field::guest_es_selector.encoding + offset};
    constexpr AlwaysThere segment_base{field::guest_es_base.encoding + offset};
    constexpr AlwaysThere limit{field::guest_es_limit.encoding + offset};
    constexpr AlwaysThere rights{field::guest_es_access_rights.encoding + offset};
    constexpr std::uint32_t marked = flat_data_rights | x86::AccessRights::available_bit;
    const std::uint64_t wanted = vmcs12.word(host);
    if (known && (wanted != 0 ? row.get(rights) == marked : row.get(selector) == 0)) [[likely]]
        return;
    row.put(selector, wanted);
    row.put(segment_base, base);
    row.put(limit, 0xffffffff);
    row.put(rights, wanted == 0 ? x86::AccessRights::unusable_bit : marked);
}

// What L1 cannot change, in VMX operation, without L0's seeing it.
template <Port P>
void NestedVcpu<P>::load_l1_rare_state(Slot& slot, bool long_mode) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    put(field::guest_activity_state, static_cast<std::uint32_t>(vmx::ActivityState::active));
    put(field::guest_ia32_sysenter_cs, vmcs12.get(field::host_ia32_sysenter_cs));
    put(field::guest_ia32_sysenter_esp, vmcs12.get(field::host_ia32_sysenter_esp));
    put(field::guest_ia32_sysenter_eip, vmcs12.get(field::host_ia32_sysenter_eip));
    loaded_l1_msrs_ = l1_msrs_after(slot, long_mode);
    put(field::guest_ia32_pat, loaded_l1_msrs_.pat);
    put(field::guest_ia32_efer, loaded_l1_msrs_.efer);
    const std::uint32_t controls = get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest;
    put(field::vm_entry_controls, controls | (long_mode ? vmx::entry_control::ia32e_mode_guest : 0));
    if (!long_mode && (vmcs12.get(field::host_cr4) & x86::cr4::physical_address_extension) != 0 &&
        !load_pdptes(vmcs12.get(field::host_cr3))) {
        abort_l1(2);
    }
    // A 32-bit L1 can see more of its segments, and its exits are rare enough to do all of this every time.
    l1_state_known_ = long_mode;
    l1_state_of_ = &slot;
}

// L0 took a page of L1's away, or gave one: every context made from EPT01 is forgotten, and the addresses in
// vmcs02 of pages that the processor itself uses.
template <Port P>
void NestedVcpu<P>::ept01_changed() {
    ept02_.forget_host();
    tags_.ept_contexts_stale();
    for (unsigned i = 0; i < slots_used_; ++i) slots_[i].unchecked.controls = true;
    if (in_l2_ && on_processor_) put_page_addresses(*current_);
    // Where L0 looks for its own writes to MSR bitmaps has moved too: each is merged anew.
    msr_bitmaps_.forget();
    forget_walks();
}

}  // namespace flatback::nested
