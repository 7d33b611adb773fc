// What the host demands of L2 (nested/demands.hpp): vmcs02's part of it, the exits that are the host's and
// how they go on, and the preemption timer that the host shares with L1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "nested_vcpu.hpp"

namespace flatback::nested {

// --- demands ---

template <Port P>
bool NestedVcpu<P>::set_demands(const Demands& demands) {
    if (!can_meet(demands, capabilities_)) return false;
    if (demands.turn_ends && !detail::HasTimeStampCounter<P>) return false;
    if (demands.kept_ports && !io_bitmaps_.keeps_ports()) return false;
    // A turn ends and another begins: nothing else is to be made anew.
    Demands with_same_end = demands;
    with_same_end.turn_ends = demands_.turn_ends;
    if (demands.turn_ends && demands_.turn_ends && with_same_end == demands_) {
        demands_.turn_ends = demands.turn_ends;
        if (in_l2_ && on_processor_) put_timer(*current_);
        return true;
    }
    // The window is opened in the controls that are made anew here; the host asks for it before each entry.
    close_window();
    demands_ = demands;
    has_demands_ = demands != Demands{};
    demanded_work_ =
        (changes_fields(demands) ? detail::demanded : 0U) | (demands.turn_ends ? detail::timer : 0U);
    if (!configuration_.host_takes_nmis)
        routes_beneath_[static_cast<std::size_t>(vmx::ExitReason::exception_or_nmi)] =
            demands.nmis ? Route::by_window : Route::to_l1;
    set_all_routes();
    for (unsigned i = 0; i < slots_used_; ++i) {
        slots_[i].unchecked.controls = true;
        demanded_fields.for_each([&](std::size_t index) {
            if (copied_to_vmcs02_.contains(index)) slots_[i].vmcs02.pending.insert(index);
        });
    }
    if (in_l2_) {
        demands_wait_ = !on_processor_;
        if (on_processor_) demand_of_running_l2(*current_);
    }
    return true;
}

// route: without the host's demands.
template <Port P>
void NestedVcpu<P>::set_route(vmx::ExitReason reason, Route route) {
    const auto index = static_cast<std::size_t>(reason);
    routes_beneath_[index] = route;
    routes_[index] = vmcs01_is_clear_                    ? Route::after_move
                     : may_be_demanded(demands_, reason) ? Route::to_host_first
                                                         : route;
}

template <Port P>
[[gnu::always_inline]] inline HostControls NestedVcpu<P>::host_controls() const {
    return {.pin_based = configuration_.host_takes_nmis ? vmx::pin::nmi_exiting | vmx::pin::virtual_nmis : 0,
            .secondary = capabilities_.l0_secondary,
            .hidden_cr4 = capabilities_.unpromised_cr4,
            .keeps_ports = io_bitmaps_.keeps_ports()};
}

// vmcs02, which is current, has its controls without demands, or with earlier ones.
template <Port P>
[[gnu::noinline, gnu::cold]] void NestedVcpu<P>::put_demanded_controls(Slot& slot) {
    namespace field = vmx::field;
    const ComposedControls composed = with_demands(compose(slot.vmcs12, host_controls()), demands_);
    put(field::pin_based_vm_execution_controls, composed.pin_based);
    put(field::primary_processor_based_vm_execution_controls, composed.primary);
    slot.vmcs02.primary = composed.primary;
    slot.vmcs02.primary_changed = false;
    put(field::vm_exit_controls, composed.exit);
    // "Enable VPID" goes with the tag (select_tag).
    slot.vmcs02.secondary = composed.secondary;
    put(field::secondary_processor_based_vm_execution_controls,
        composed.secondary | (slot.vmcs02.tag != tag::TagNumber::none ? vmx::secondary::enable_vpid : 0));
}

// L2 is current, and is entered next without an entry of L1's. Its mode and CR4 are vmcs02's own.
template <Port P>
void NestedVcpu<P>::demand_of_running_l2(Slot& slot) {
    namespace field = vmx::field;
    put_demanded_controls(slot);
    put_demanded_fields(slot);
    put_demanded_masks(slot);
    constexpr std::uint32_t of_demands = detail::demanded | detail::timer;
    slot.work = (slot.work & ~of_demands) | demanded_work_ | (l1_uses_timer(slot) ? detail::timer : 0U);
    if ((slot.work & detail::timer) != 0) put_timer(slot);
}

// The fields of vmcs02 that are L1's but for the host's demands. It is current, and has L1's.
template <Port P>
[[gnu::noinline, gnu::cold]] void NestedVcpu<P>::put_demanded_fields(Slot& slot) {
    namespace field = vmx::field;
    const DemandedFields fields =
        fields_with_demands(slot.vmcs12, demands_, capabilities_.promised.misc.cr3_target_count());
    put(field::exception_bitmap, fields.exception_bitmap);
    put(field::page_fault_error_code_mask, fields.page_fault_error_code_mask);
    put(field::page_fault_error_code_match, fields.page_fault_error_code_match);
    put(field::cr3_target_count, fields.cr3_target_count);
    put(field::tsc_offset, fields.tsc_offset);
    if ((slot.vmcs02.secondary & vmx::secondary::use_tsc_scaling) != 0)
        put(field::tsc_multiplier, fields.tsc_multiplier);
    slot.vmcs02.below_demands_changed = false;
}

// The bits of CR0 and CR4 that the host alone masks L2 reads as they are, so that the shadows follow the
// registers. vmcs02 is current.
template <Port P>
[[gnu::noinline, gnu::cold]] void NestedVcpu<P>::put_demanded_masks(const Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    const bool masks_what_stays = (demands_.cr0_mask & cr0_kept_by_entries) != 0;
    const DemandedMask cr0 =
        mask_with_demands({vmcs12.get(field::cr0_guest_host_mask), vmcs12.get(field::cr0_read_shadow)},
                          demands_.cr0_mask, masks_what_stays ? l2_cr0(slot) : get(field::guest_cr0));
    put(field::cr0_guest_host_mask, cr0.mask);
    put(field::cr0_read_shadow, cr0.shadow);
    const ComposedControls composed = compose(vmcs12, host_controls());
    const DemandedMask cr4 = mask_with_demands({composed.cr4_guest_host_mask, composed.cr4_read_shadow},
                                               demands_.cr4_mask, get(field::guest_cr4));
    put(field::cr4_guest_host_mask, cr4.mask);
    put(field::cr4_read_shadow, cr4.shadow);
}

// CR0 as L2, whose VMCS is current, has it at the coming entry. Where that is one of L1's, what no entry
// loads is as L1 has it, and not as its VMCS says; behind an exit L2's VMCS has all of it.
template <Port P>
[[gnu::cold]] std::uint64_t NestedVcpu<P>::l2_cr0(const Slot& slot) {
    namespace field = vmx::field;
    const std::uint64_t loaded = get(field::guest_cr0);
    if (reentering_) return loaded;
    const std::uint64_t l1s = while_loaded(vmcs01_, slot.vmcs02.page, [&] { return get(field::guest_cr0); });
    return (loaded & ~cr0_kept_by_entries) | (l1s & cr0_kept_by_entries);
}

// What a MOV of L2's to a control register writes.
template <Port P>
std::uint64_t NestedVcpu<P>::l2_value(vmx::ControlRegisterAccess access) {
    const bool is_64_bit = x86::is_64_bit_mode(get(vmx::field::guest_ia32_efer),
                                               x86::AccessRights{get(vmx::field::guest_cs_access_rights)});
    return l1_register(access.general_register) & (is_64_bit ? ~std::uint64_t{0} : 0xffff'ffff);
}

// --- the host's exits ---

// Whether the host asked for the exit that L2, which is current, has had.
template <Port P>
bool NestedVcpu<P>::is_the_hosts(const Slot& slot, vmx::ExitReason reason) {
    namespace field = vmx::field;
    switch (reason) {
        case vmx::ExitReason::external_interrupt:
            return demands_.external_interrupts;
        case vmx::ExitReason::exception_or_nmi: {
            const vmx::InterruptionInformation event{get(field::vm_exit_interruption_information)};
            return event.is_valid() && event.type() != vmx::InterruptionType::nmi && event.vector() < 32 &&
                   (demands_.exceptions >> event.vector() & 1) != 0;
        }
        case vmx::ExitReason::io_instruction:
            return demands_.all_ports ||
                   (demands_.kept_ports &&
                    io_bitmaps_.keeps(vmx::IoAccess::decode(get(field::exit_qualification))));
        case vmx::ExitReason::control_register_access: {
            const auto access = vmx::ControlRegisterAccess::decode(get(field::exit_qualification));
            if (access.control_register == 0)
                return exits_by({demands_.cr0_mask, get(field::cr0_read_shadow)}, access, l2_value(access));
            if (access.control_register == 4)
                return exits_by({demands_.cr4_mask, get(field::cr4_read_shadow)}, access, l2_value(access));
            std::uint32_t control = control_of(access);
            if ((slot.vmcs02.primary & vmx::primary::use_tpr_shadow) != 0)
                control &= ~(vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting);
            return (demands_.instructions & control) != 0;
        }
        case vmx::ExitReason::rdmsr:
        case vmx::ExitReason::wrmsr:
            return demands_.kept_msrs &&
                   msr_bitmap_has(reinterpret_cast<const std::byte*>(port_.page(port_.l0_msr_bitmap())),
                                  static_cast<std::uint32_t>(port_.general_register(1)),
                                  reason == vmx::ExitReason::wrmsr);
        default:
            return (demands_.instructions & instruction_control_of(reason)) != 0 ||
                   (demands_.secondary_instructions & secondary_control_of(reason)) != 0;
    }
}

// Whether L1 has asked for it too. Of interrupts it is the host that says which are L1's.
template <Port P>
bool NestedVcpu<P>::l1_asked_for(Slot& slot, vmx::ExitReason reason) {
    namespace field = vmx::field;
    const std::uint32_t primary12 = slot.vmcs12.get(field::primary_processor_based_vm_execution_controls);
    switch (reason) {
        case vmx::ExitReason::external_interrupt:
            return false;
        case vmx::ExitReason::exception_or_nmi:
            return l1_asked_for_exception(slot, {get(field::vm_exit_interruption_information)});
        case vmx::ExitReason::io_instruction:
            return l1_asked_for_io(slot, vmx::IoAccess::decode(get(field::exit_qualification)));
        case vmx::ExitReason::control_register_access: {
            const auto access = vmx::ControlRegisterAccess::decode(get(field::exit_qualification));
            const Vmcs12& vmcs12 = slot.vmcs12;
            if (access.control_register == 0) {
                return exits_by({vmcs12.get(field::cr0_guest_host_mask), vmcs12.get(field::cr0_read_shadow)},
                                access, l2_value(access));
            }
            if (access.control_register == 4) {
                return exits_by({vmcs12.get(field::cr4_guest_host_mask), vmcs12.get(field::cr4_read_shadow)},
                                access, l2_value(access));
            }
            const std::uint32_t control = control_of(access);
            if ((primary12 & control) == 0) return false;
            return control != vmx::primary::cr3_load_exiting || l1_asked_for_cr3_load(slot, access);
        }
        case vmx::ExitReason::rdmsr:
        case vmx::ExitReason::wrmsr:
            return l1_wants_msr(slot, static_cast<std::uint32_t>(port_.general_register(1)),
                                reason == vmx::ExitReason::wrmsr);
        case vmx::ExitReason::pause:
            // What exits where L1 counts loops is its own (with_demands).
            if ((slot.vmcs02.secondary & vmx::secondary::pause_loop_exiting) != 0) return true;
            [[fallthrough]];
        default:
            return (primary12 & instruction_control_of(reason)) != 0 ||
                   (secondary_controls_of(slot.vmcs12) & secondary_control_of(reason)) != 0;
    }
}

// SDM 3C 25.6.3.
template <Port P>
bool NestedVcpu<P>::l1_asked_for_exception(const Slot& slot, vmx::InterruptionInformation event) {
    namespace field = vmx::field;
    const bool asked = (slot.vmcs12.get(field::exception_bitmap) >> event.vector() & 1) != 0;
    if (event.vector() != static_cast<std::uint8_t>(x86::Vector::page_fault)) return asked;
    const bool matches =
        (get(field::vm_exit_interruption_error_code) & slot.vmcs12.get(field::page_fault_error_code_mask)) ==
        slot.vmcs12.get(field::page_fault_error_code_match);
    return asked == matches;
}

// SDM 3C 25.6.7: not a value that L1 has named.
template <Port P>
bool NestedVcpu<P>::l1_asked_for_cr3_load(const Slot& slot, vmx::ControlRegisterAccess access) {
    namespace field = vmx::field;
    const std::uint64_t value = l2_value(access);
    const std::uint32_t count = std::min(slot.vmcs12.get(field::cr3_target_count), 4U);
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::size_t index = detail::index_of(field::cr3_target_value_0.encoding + 2 * i);
        if (slot.vmcs12.word(index) == value) return false;
    }
    return true;
}

// SDM 3C 26.1.3.
template <Port P>
bool NestedVcpu<P>::l1_asked_for_io(const Slot& slot, vmx::IoAccess access) {
    namespace field = vmx::field;
    const std::uint32_t primary12 = slot.vmcs12.get(field::primary_processor_based_vm_execution_controls);
    if ((primary12 & vmx::primary::use_io_bitmaps) == 0)
        return (primary12 & vmx::primary::unconditional_io_exiting) != 0;
    return io_bitmaps_have(
        [&](std::uint32_t half) {
            return port_.l1_page(x86::Gpa<x86::L1>{
                slot.vmcs12.get(half == 0 ? field::address_of_io_bitmap_a : field::address_of_io_bitmap_b)});
        },
        access);
}

// What L1 asked for is read now, once.
template <Port P>
Entry NestedVcpu<P>::offer_to_host(Slot& slot, std::uint32_t exit_reason) {
    const auto reason = vmx::ExitReasonField{exit_reason}.basic();
    hosts_exit_ = {.exit_reason = exit_reason, .pending = true, .l1_wants = l1_asked_for(slot, reason)};
    reentering_ = true;
    return Entry::the_hosts;
}

template <Port P>
Entry NestedVcpu<P>::resume() {
    Slot& slot = *current_;
    if (!hosts_exit_.pending) port_.fatal("resume() without an exit that is the host's");
    if (!hosts_exit_.l1_wants) {
        switch (vmx::ExitReasonField{hosts_exit_.exit_reason}.basic()) {
            case vmx::ExitReason::exception_or_nmi: {
                hosts_exit_ = {};
                return launched_anew(pass_exception_on());
            }
            case vmx::ExitReason::external_interrupt:
            case vmx::ExitReason::vmx_preemption_timer_expired:
                break;  // between two instructions
            default:
                // The instruction begins again; it has met its code breakpoint already, and the exit saved RF
                // as 0 (SDM 3C 28.3.3).
                put(vmx::field::guest_rflags, get(vmx::field::guest_rflags) | x86::rflags::resume);
                drop_single_step();
                break;
        }
        requeue_vectoring_event();
    }
    return go_on(slot);
}

template <Port P>
Entry NestedVcpu<P>::resume_behind_instruction() {
    if (!hosts_exit_.pending) port_.fatal("resume() without an exit that is the host's");
    if (!hosts_exit_.l1_wants) advance(get(vmx::field::guest_rflags));
    return go_on(*current_);
}

template <Port P>
Entry NestedVcpu<P>::resume_with_fault(const Fault& fault) {
    if (!hosts_exit_.pending) port_.fatal("resume() without an exit that is the host's");
    if (hosts_exit_.l1_wants) return go_on(*current_);
    const auto basic = static_cast<std::size_t>(vmx::ExitReasonField{hosts_exit_.exit_reason}.basic());
    hosts_exit_ = {};
    return launched_anew(raise_in_l2(*current_, basic, fault));
}

// L1's share of the host's exit, or into L2 again, whose VMCS is current.
template <Port P>
Entry NestedVcpu<P>::go_on(Slot& slot) {
    const std::uint32_t exit_reason = hosts_exit_.exit_reason;
    const bool l1_wants = hosts_exit_.l1_wants;
    hosts_exit_ = {};
    if (l1_wants) return launched_anew(reflect(slot, exit_reason, get(vmx::field::exit_qualification)));
    if ((demands_.cr0_mask | demands_.cr4_mask) != 0) put_demanded_masks(slot);
    return launched_anew(
        reenter_l2(slot, static_cast<std::size_t>(vmx::ExitReasonField{exit_reason}.basic())));
}

template <Port P>
void NestedVcpu<P>::l2_translations_changed() {
    Slot& slot = *current_;
    if (slot.l1_uses_vpid) {
        pay(tags_.invvpid_single(vpid12_of(slot), port_.cpu()));
    } else {
        vpid01_.invalidate();  // under whose tag it runs
    }
    select_tag(slot);
}

// --- the preemption timer ---
//
// It counts down by one each time the bit of the TSC that IA32_VMX_MISC[4:0] names changes (SDM 3C 26.5.1),
// so that its units since the TSC was 0 are a number that L0 can compare. vmcs02 has what is left to the
// nearer of two ends, at each entry anew: L1's own goes on by the clock, also while L0 or the host works. For
// a Port that cannot read the clock it stands meanwhile, where the processor's exit left it.

template <Port P>
std::uint64_t NestedVcpu<P>::timer_now() {
    if constexpr (detail::HasTimeStampCounter<P>) {
        return port_.time_stamp_counter() >> capabilities_.promised.misc.preemption_timer_rate();
    } else {
        return 0;
    }
}

// Rounded up: not before the counter is there.
template <Port P>
std::uint64_t NestedVcpu<P>::host_timer_ends() const {
    const unsigned rate = capabilities_.promised.misc.preemption_timer_rate();
    const std::uint64_t ends = *demands_.turn_ends;
    return (ends >> rate) + ((ends & ((std::uint64_t{1} << rate) - 1)) != 0 ? 1 : 0);
}

// Of an L2 that runs, whose VMCS is current.
template <Port P>
std::uint32_t NestedVcpu<P>::l1_timer_left() {
    if constexpr (!detail::HasTimeStampCounter<P>) {
        return get(vmx::field::vmx_preemption_timer_value);
    } else {
        const std::uint64_t now = timer_now();
        return l1_timer_ends_ > now ? static_cast<std::uint32_t>(l1_timer_ends_ - now) : 0;
    }
}

// At an entry of L1's. vmcs02 is current.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::start_timer(Slot& slot) {
    if (l1_uses_timer(slot)) begin_l1_timer(slot.vmcs12.get(vmx::field::vmx_preemption_timer_value));
    put_timer(slot);
}

// left: in its units. vmcs02 is current.
template <Port P>
void NestedVcpu<P>::begin_l1_timer(std::uint32_t left) {
    if constexpr (detail::HasTimeStampCounter<P>) {
        l1_timer_ends_ = timer_now() + left;
    } else {
        put(vmx::field::vmx_preemption_timer_value, left);
    }
}

// Right before an entry: what is left now to the nearer end of those that there are.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::put_timer(const Slot& slot) {
    if constexpr (detail::HasTimeStampCounter<P>) {
        // An event waits for the end of what this entry delivers (nested/vcpu/deliver.hpp).
        if (window_.for_boundary != 0 && window_.vmcs == slot.vmcs02.page) [[unlikely]] {
            put(vmx::field::vmx_preemption_timer_value, 0);
            return;
        }
        const std::uint64_t now = timer_now();
        std::uint64_t ends = ~std::uint64_t{0};
        if (demands_.turn_ends) ends = host_timer_ends();
        if (l1_uses_timer(slot)) ends = std::min(ends, l1_timer_ends_);
        constexpr std::uint64_t most = 0xffff'ffff;
        put(vmx::field::vmx_preemption_timer_value,
            static_cast<std::uint32_t>(ends > now ? std::min(ends - now, most) : 0));
    }
}

// Its exit is that of whoever has come to the end: the host's first. An end of L1's that has come too makes
// L2 exit once more, right behind the next entry.
template <Port P>
Entry NestedVcpu<P>::handle_end_of_turn(Slot& slot, std::uint32_t exit_reason) {
    const std::uint64_t now = timer_now();
    if (host_timer_ends() <= now) return offer_to_host(slot, exit_reason);
    if (l1_uses_timer(slot) && l1_timer_ends_ <= now)
        return reflect(slot, exit_reason, get(vmx::field::exit_qualification));
    return reenter_l2(slot, static_cast<std::size_t>(vmx::ExitReason::vmx_preemption_timer_expired));
}

}  // namespace flatback::nested
