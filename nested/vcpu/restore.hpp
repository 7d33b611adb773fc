// NestedVcpu::restore() and reset(). The bytes are looked through whole, and what they say is checked, before
// anything of the virtual CPU changes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../entry/checks.hpp"
#include "../state/format.hpp"
#include "nested_vcpu.hpp"
#include "save.hpp"

namespace flatback::nested {

// --- reset ---

template <Port P>
void NestedVcpu<P>::reset() {
    close_window();
    // Whether vmcs01 was launched, and whether it was cleared since, is not what L1's next entry hangs on.
    port_.clear_vmcs(vmcs01_);
    load(vmcs01_);
    in_l2_ = false;
    vmcs01_is_clear_ = demands_wait_ = false;
    set_all_routes();
    reentering_ = false;
    entering_by_launch_ = false;
    hosts_exit_ = {};
    current_ = nullptr;
    // What is active is lost, so that leaving VMX operation writes nothing to L1's memory.
    current_shadow_ = nullptr;
    for (Slot& slot : slots_) slot.activity = Activity::none;
    slots_used_ = 0;
    leave_vmx_operation();
    // L1's memory may be another, and so its page tables, its EPTs and its bitmaps.
    vpid01_.invalidate();
    tags_.ept_contexts_stale();
    ept02_.forget_host();
    msr_bitmaps_.forget();
    forget_walks();
}

// --- what may be restored ---

// Into `words`, each by its field: all of one list, in the order of the encodings.
template <Port P>
Expected<void, StateError> NestedVcpu<P>::read_fields(state::Reader& in, std::uint32_t count,
                                                      const FieldSet& permitted, Vmcs12& words) const {
    std::uint32_t least = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const state::FieldValue field = in.field();
        if (!in.all_there()) return Unexpected{StateError::not_a_state};
        const int index = vmx::is_high(field.encoding) ? -1 : vmx::dense_index(field.encoding);
        if (index < 0 || !permitted.contains(static_cast<std::size_t>(index)))
            return Unexpected{StateError::unknown_field};
        if (field.encoding < least) return Unexpected{StateError::fields_not_sorted};
        if ((field.value & ~field_mask(field.encoding)) != 0) return Unexpected{StateError::value_too_wide};
        words.set_word(static_cast<std::size_t>(index), field.value);
        least = field.encoding + 1;
    }
    return {};
}

template <Port P>
Expected<void, StateError> NestedVcpu<P>::judge_state(state::Reader in) {
    const auto bad = [](StateError error) { return Unexpected{error}; };
    const auto header = in.header();
    if (!header) return bad(header.error());
    const std::uint32_t flags = header->flags;
    const auto has = [flags](std::uint32_t flag) { return (flags & flag) != 0; };
    constexpr std::uint32_t of_l2 = state::l2_has_run | state::entering_by_vmlaunch;
    if ((flags & ~(state::in_vmx_operation | state::in_l2 | of_l2)) != 0 ||
        (!has(state::in_l2) && has(of_l2)) || (flags & of_l2) == of_l2)
        return bad(StateError::not_a_state);
    if (!state::covers(capabilities_.promised, header->promised)) return bad(StateError::promise_not_kept);
    if (!has(state::in_vmx_operation)) {
        if (has(state::in_l2) || header->vmcs_count != 0) return bad(StateError::impossible);
        if (header->vmxon_pointer != state::no_pointer || header->current_pointer != state::no_pointer)
            return bad(StateError::bad_pointer);
        return in.at_end() ? Expected<void, StateError>{} : bad(StateError::not_a_state);
    }
    if (!is_region(x86::Gpa<x86::L1>{header->vmxon_pointer})) return bad(StateError::bad_pointer);
    if (header->vmcs_count > vmcs_slots) return bad(StateError::not_a_state);

    std::array<std::uint64_t, vmcs_slots> pointers{};
    std::array<std::uint64_t, vmcs_slots> shadows;  // of these, the shadow VMCSs
    shadows.fill(state::no_pointer);
    Vmcs12 of_current;
    bool found = false;
    bool launched = false;
    for (std::uint32_t i = 0; i < header->vmcs_count; ++i) {
        const state::VmcsHeader vmcs = in.vmcs();
        constexpr std::uint32_t both = state::launched | state::shadow;
        if (!in.all_there() || (vmcs.flags & ~both) != 0 || (vmcs.flags & both) == both)
            return bad(StateError::not_a_state);
        const bool shadow = (vmcs.flags & state::shadow) != 0;
        const auto* const known = pointers.data() + i;
        if (!is_region(x86::Gpa<x86::L1>{vmcs.pointer}) || vmcs.pointer == header->vmxon_pointer ||
            (shadow && !offers_vmcs_shadowing()) ||
            std::find(static_cast<const std::uint64_t*>(pointers.data()), known, vmcs.pointer) != known)
            return bad(StateError::bad_pointer);
        pointers[i] = vmcs.pointer;
        if (shadow) shadows[i] = vmcs.pointer;
        Vmcs12 words;
        if (const auto read = read_fields(in, vmcs.field_count, supported_, words); !read)
            return bad(read.error());
        if (vmcs.pointer != header->current_pointer) continue;
        found = true;
        launched = (vmcs.flags & state::launched) != 0;
        of_current = words;
    }
    if (!found && header->current_pointer != state::no_pointer) return bad(StateError::bad_pointer);
    if (has(state::in_l2)) {
        Vmcs12 running;
        FieldSet permitted = detail::running_l2_fields;
        for (std::size_t i = 0; i < vmx::field_count; ++i) {
            if (!supported_.contains(i)) permitted.erase(i);
        }
        if (const auto read = read_fields(in, in.count(), permitted, running); !read)
            return bad(read.error());
        // What it is shown was made active by L1's entry.
        const std::uint64_t link = of_current.get(vmx::field::vmcs_link_pointer);
        const bool shows = (secondary_controls_of(of_current) & vmx::secondary::vmcs_shadowing) != 0 &&
                           link != ~std::uint64_t{0};
        if (shows && std::find(shadows.begin(), shadows.end(), link) == shadows.end())
            return bad(StateError::impossible);
        if (!found || !launched || !may_run(of_current, running, has(state::l2_has_run)))
            return bad(StateError::impossible);
    }
    return in.at_end() ? Expected<void, StateError>{} : bad(StateError::not_a_state);
}

// Whether an L2 may be found so. vmcs12 with these controls must have let L1 enter it; and of the rest all
// that the processor would take at the next entry but L0 would not have let come so far. What the processor
// refuses itself is its own affair.
template <Port P>
bool NestedVcpu<P>::may_run(Vmcs12 vmcs12, const Vmcs12& running, bool has_run) {
    namespace field = vmx::field;
    // These two rules are left to the processor (judge_entry).
    vmcs12.set(field::cr3_target_count, 0);
    vmcs12.set(field::tpr_threshold, 0);
    // What L1's entry had to deliver is delivered, and was good with the guest's state of then.
    const vmx::InterruptionInformation waiting{running.get(field::vm_entry_interruption_information)};
    if (has_run || !waiting.is_valid()) {
        vmcs12.set(
            field::vm_entry_interruption_information,
            vmcs12.get(field::vm_entry_interruption_information) & ~vmx::InterruptionInformation::valid_bit);
    }
    const bool ia32e_mode = (get(field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    if (!check_control_fields(vmcs12, rules()) ||
        !check_host_state(vmcs12, rules(), EntryContext{.ia32e_mode = ia32e_mode}))
        return false;
    if ((running.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest) != 0 ||
        (running.get(field::guest_cr4) & ~capabilities_.promised.cr4.fixed1) != 0)
        return false;
    // Such bits no entry of L1's loads, but a host may let WRMSR set them.
    const std::uint64_t debugctl = running.get(field::guest_ia32_debugctl);
    if ((debugctl & capabilities_.unpromised_debugctl) != 0 &&
        !port_.write_l1_msr(x86::msr::ia32_debugctl, debugctl))
        return false;
    // Halted it may be found whatever L1's control says now.
    const std::uint32_t activity = running.get(field::guest_activity_state);
    return activity == static_cast<std::uint32_t>(vmx::ActivityState::hlt) ||
           activity_state_is_offered(activity, vmcs12);
}

// --- to restore ---

template <Port P>
Expected<Entry, StateError> NestedVcpu<P>::restore(std::span<const std::byte> from) {
    const x86::Hpa before = current_vmcs();
    if (in_l2_) load(vmcs01_);  // its state is a part of what is judged
    const auto judged = judge_state(state::Reader{from});
    if (in_l2_) load(before);
    if (!judged) return Unexpected{judged.error()};
    state::Reader in{from};
    const state::Header header = *in.header();
    for (std::uint32_t i = 0; i < header.vmcs_count; ++i) {
        if (!give_pages(slots_[i])) return Unexpected{StateError::no_memory};
    }

    reset();
    if ((header.flags & state::in_vmx_operation) == 0) return Entry::vmlaunch;
    begin_vmx_operation(header.vmxon_pointer);
    for (std::uint32_t i = 0; i < header.vmcs_count; ++i) {
        Slot& slot = slots_[i];
        const state::VmcsHeader vmcs = in.vmcs();
        const bool shadow = (vmcs.flags & state::shadow) != 0;
        begin_slot(slot, x86::Gpa<x86::L1>{vmcs.pointer}, shadow ? Activity::shadow : Activity::ordinary);
        slot.launched = (vmcs.flags & state::launched) != 0;
        static_cast<void>(read_fields(in, vmcs.field_count, supported_, slot.vmcs12));
        slot.last_used = ++use_clock_;
        // Whether it was launched, the host may know better: now nobody needs to.
        port_.clear_vmcs(slot.vmcs02.page);
        slot.vmcs02.launched = false;
        // What the next exit does not define is to stay, for L1 to find.
        if (capabilities_.vmcs_shadowing) {
            supported_.for_each([&slot](std::size_t index) {
                if (field_handling[index] == FieldHandling::information) slot.vmcs02.pending.insert(index);
            });
        }
        if (shadow) {
            fill_l1s_shadow(slot);
        } else if (shadowing_) {
            fill_shadow(slot);
        }
    }
    slots_used_ = header.vmcs_count;
    Slot* const current = header.current_pointer != state::no_pointer
                              ? find(x86::Gpa<x86::L1>{header.current_pointer})
                              : nullptr;
    if (current != nullptr && current->activity == Activity::shadow) {
        make_l1s_shadow_current(*current);
    } else {
        make_current(current);
    }
    if ((header.flags & state::in_l2) == 0) return Entry::vmlaunch;

    vmcs01_is_clear_ = true;
    set_all_routes();
    reentering_ = (header.flags & state::l2_has_run) != 0;
    entering_by_launch_ = (header.flags & state::entering_by_vmlaunch) != 0;
    Vmcs12 running;
    static_cast<void>(read_fields(in, in.count(), detail::running_l2_fields, running));
    restore_running_l2(*current_, running);
    return Entry::vmlaunch;
}

// vmcs02 as it was between an exit and the next entry. vmcs01 is current; then vmcs02 is.
template <Port P>
void NestedVcpu<P>::restore_running_l2(Slot& slot, const Vmcs12& running) {
    namespace field = vmx::field;
    in_l2_ = true;
    load(slot.vmcs02.page);
    if (!slot.vmcs02.prepared) prepare_vmcs02(slot);
    compose_controls(slot);
    slot.unchecked.controls = false;
    if (slot.vmcs02.primary_changed)
        put(field::primary_processor_based_vm_execution_controls, slot.vmcs02.primary);
    slot.vmcs02.primary_changed = false;
    slot.vmcs02.pending.for_each(
        [&](std::size_t index) { put_raw(vmx::all_fields[index].encoding, slot.vmcs12.word(index)); });
    slot.vmcs02.pending.clear();
    slot.vmcs02.overwritten.clear();
    // Where vmcs02 has another word than L1's VMCS, L1's goes there again: at its next entry, or where this
    // one fails.
    detail::running_l2_fields.for_each([&](std::size_t index) {
        if (!copied_to_vmcs02_.contains(index)) return;
        put_raw(vmx::all_fields[index].encoding, running.word(index));
        if (running.word(index) == slot.vmcs12.word(index)) return;
        if (field_handling[index] == FieldHandling::guest_state) {
            slot.vmcs02.overwritten.insert(index);
        } else {
            slot.vmcs02.pending.insert(index);
        }
    });
    const std::uint32_t controls = get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest;
    put(field::vm_entry_controls, controls | running.get(field::vm_entry_controls));
    if ((slot.work & detail::msr_bitmap) != 0) {
        msr_bitmaps_.merge(slot.msr_bitmap, slot.vmcs12.get(field::address_of_msr_bitmaps),
                           slot.vmcs02.secondary);
    }
    if ((slot.work & detail::shows_vmcs) != 0) {
        if (names_linked_vmcs(slot))
            slot.linked = find(x86::Gpa<x86::L1>{slot.vmcs12.get(field::vmcs_link_pointer)});
        put_link_pointer(slot);
    }
    if ((slot.work & detail::no_virtual_apic) != 0)
        std::memset(port_.page(no_virtual_apic_), 0xff, x86::page_size);
    if ((slot.work & detail::demanded) != 0) {
        put_demanded_fields(slot);
        if ((demands_.cr0_mask | demands_.cr4_mask) != 0) put_demanded_masks(slot);
    }
    if ((slot.work & detail::timer) != 0) {
        if (l1_uses_timer(slot)) begin_l1_timer(running.get(field::vmx_preemption_timer_value));
        put_timer(slot);
    }
    select_ept(slot);
    select_tag(slot);
}

}  // namespace flatback::nested
