// Which of L1's VMCSs are active and which is current, and the ways to their fields.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "../entry/work.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

namespace detail {
inline constexpr FieldSet shadow_writable = [] {
    FieldSet set;
    for (auto encoding : written_fields) set.insert(index_of(encoding));
    for (auto encoding : written_with_event) set.insert(index_of(encoding));
    for (auto encoding : written_with_timer) set.insert(index_of(encoding));
    for (auto encoding : written_with_tpr_shadow) set.insert(index_of(encoding));
    return set;
}();

inline constexpr FieldSet shadowed = [] {
    FieldSet set = kept_at_exit;
    set.insert_all(shadow_writable);
    return set;
}();

// L1's VMREADs of these, and its VMWRITEs, have L0 learn the field.
//
// Not the error number, which instructions change besides exits; nor the entry controls, of which an exit
// changes a part. A control that is composed is no more than written: its rules are checked and vmcs02 made
// anew at the entry, beside which an exit is nothing.
inline constexpr FieldSet learned_by_reads = FieldSet::all().without(shadowed).without(
    FieldSet::of(vmx::field::vm_instruction_error, vmx::field::vm_entry_controls));
inline constexpr FieldSet learned_by_writes = [] {
    FieldSet set;
    FieldSet::all().without(shadow_writable).for_each([&set](std::size_t index) {
        const FieldHandling handling = field_handling[index];
        if (handling == FieldHandling::direct_control || handling == FieldHandling::guest_state ||
            handling == FieldHandling::host_state)
            set.insert(index);
    });
    return set;
}();

// Host state that every exit loads or compares, so that a change of it needs nothing more.
inline constexpr FieldSet host_always_loaded =
    FieldSet::of(vmx::field::host_rip, vmx::field::host_rsp, vmx::field::host_cr0, vmx::field::host_cr3,
                 vmx::field::host_cr4, vmx::field::host_fs_base, vmx::field::host_gs_base,
                 vmx::field::host_gdtr_base, vmx::field::host_idtr_base, vmx::field::host_cs_selector);

// The rest, but for the MSRs that an exit may leave as L2 had them.
inline constexpr auto host_rarely_loaded = [] {
    constexpr auto is_one = [](std::size_t index) {
        return field_handling[index] == FieldHandling::host_state && !host_always_loaded.contains(index) &&
               index != index_of(vmx::field::host_ia32_pat.encoding) &&
               index != index_of(vmx::field::host_ia32_efer.encoding);
    };
    constexpr std::size_t count = [is_one] {
        std::size_t sum = 0;
        for (std::size_t i = 0; i < vmx::field_count; ++i) sum += is_one(i) ? 1U : 0U;
        return sum;
    }();
    std::array<std::size_t, count> list{};
    std::size_t next = 0;
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (is_one(i)) list[next++] = i;
    }
    return list;
}();

// Exit information that no exit of L2's defines, so that it is what L1 wrote; after an exit vmcs02 has it.
inline constexpr std::array left_by_exits{
    index_of(vmx::field::io_rcx.encoding), index_of(vmx::field::io_rsi.encoding),
    index_of(vmx::field::io_rdi.encoding), index_of(vmx::field::io_rip.encoding)};

// The fields that L1 has: those of the engine and of the processor, less what belongs to controls that this
// processor lacks.
constexpr FieldSet supported_fields(const Capabilities& capabilities) {
    FieldSet set = fields_of_l1(capabilities);
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (!has_what_it_needs(field_sheet[i].needs, capabilities.promised)) set.erase(i);
    }
    return set;
}

// Of these, what goes to vmcs02 as it is.
constexpr FieldSet copied_to_vmcs02(const FieldSet& supported) {
    FieldSet set;
    supported.for_each([&set](std::size_t i) {
        if (field_handling[i] == FieldHandling::direct_control ||
            field_handling[i] == FieldHandling::guest_state) {
            set.insert(i);
        }
    });
    return set;
}
}  // namespace detail

// Of whatever kind.
template <Port P>
Slot* NestedVcpu<P>::find(x86::Gpa<x86::L1> region) {
    for (unsigned i = 0; i < slots_used_; ++i) {
        if (slots_[i].region == region && slots_[i].activity != Activity::none) return &slots_[i];
    }
    return nullptr;
}

// Makes L1's VMCS active: what its region holds is read, once, into a slot. found: where it is active as
// another kind, which L1 should not have changed then (SDM 3C 25.2). Behind it vmcs01 is current.
template <Port P>
[[gnu::noinline]] Slot* NestedVcpu<P>::activate(x86::Gpa<x86::L1> region, Activity as, Slot* found) {
    if (found != nullptr) {
        write_back(*found);
        if (found == current_ || found == current_shadow_) make_current(nullptr);
    }
    Slot* slot = nullptr;
    for (Slot& candidate : slots_) {
        if (candidate.activity == Activity::none) {
            slot = &candidate;
            break;
        }
        // (A shadow VMCS that is current was used last.)
        if (&candidate != current_ && (slot == nullptr || candidate.last_used < slot->last_used))
            slot = &candidate;
    }
    if (slot->activity != Activity::none) write_back(*slot);
    slots_used_ = std::max(slots_used_, static_cast<unsigned>(slot - slots_.data()) + 1);
    if (!give_pages(*slot)) port_.fatal("no memory for a VMCS of L1's; give L0 more (docs/metal.md)");
    const LeftByExits left = left_by_exits(*slot);
    begin_slot(*slot, region, as);
    if (const auto* page = port_.l1_page(region)) {
        const auto* stored = reinterpret_cast<const VmcsRegion*>(page);
        slot->launched = as == Activity::ordinary && x86::read_word(&stored->launched) == 1;
        for (std::size_t i = 0; i < vmx::field_count; ++i) {
            slot->vmcs12.set_word(i, x86::read_word(&stored->words[i]));
        }
        if (capabilities_.vmcs_shadowing) keep_information(*slot, left);
    }
    if (as == Activity::shadow) {
        fill_l1s_shadow(*slot);
    } else if (shadowing_) {
        fill_shadow(*slot);
    }
    return slot;
}

// The pages that a VMCS needs. False: there are none.
template <Port P>
bool NestedVcpu<P>::give_pages(Slot& slot) {
    for (x86::Hpa* page : {&slot.vmcs02.page, &slot.shadow, &slot.msr_bitmap.page}) {
        if (page->value() != 0) continue;
        auto fresh_page = port_.allocate_page();
        // EPT02 may have taken all there was. What it gives back it fills again when L2 asks for it.
        if (!fresh_page) fresh_page = ept02_.give_page();
        if (!fresh_page) return false;
        *page = *fresh_page;
        if (page == &slot.msr_bitmap.page) continue;
        const bool is_shadow = page == &slot.shadow;
        if (is_shadow && !capabilities_.vmcs_shadowing) continue;
        auto* revision = reinterpret_cast<std::uint32_t*>(port_.page(*page));
        *revision = port_.hardware_vmcs_revision() | (is_shadow ? shadow_vmcs_indicator : 0U);
        port_.clear_vmcs(*page);
    }
    return true;
}

// What is in vmcs02 of it, from the VMCS that had the slot before.
template <Port P>
typename NestedVcpu<P>::LeftByExits NestedVcpu<P>::left_by_exits(const Slot& slot) {
    LeftByExits left;
    for (std::size_t i = 0; i < left.size(); ++i) {
        const std::size_t index = detail::left_by_exits[i];
        if (!slot.vmcs02.pending.contains(index)) left[i] = slot.vmcs12.word(index);
    }
    return left;
}
// What L1's VMCS has goes there.
template <Port P>
void NestedVcpu<P>::keep_information(Slot& slot, const LeftByExits& left) {
    for (std::size_t i = 0; i < left.size(); ++i) {
        const std::size_t index = detail::left_by_exits[i];
        if (left[i] != slot.vmcs12.word(index)) slot.vmcs02.pending.insert(index);
    }
}

// A VMCS becomes active here, with every field 0 as yet. The slot has its pages.
template <Port P>
void NestedVcpu<P>::begin_slot(Slot& slot, x86::Gpa<x86::L1> region, Activity as) {
    slot.region = region;
    if (slot.learned.any()) forget_learned(slot);
    slot.learned.begin();
    slot.activity = as;
    slot.linked = nullptr;
    slot.launched = false;
    slot.newest.all_in_vmcs12();
    slot.unchecked = {};
    slot.vmcs02.primary_changed = false;
    slot.vmcs02.pending = copied_to_vmcs02_;
    slot.vmcs12.clear();
    if (l1_state_of_ == &slot) l1_state_known_ = false;
}

// What VMCLEAR does to an active VMCS, but for the launch state: its data go to its region, the slot is free.
template <Port P>
void NestedVcpu<P>::write_back(Slot& slot) {
    if (slot.activity == Activity::shadow) {
        collect_l1s_shadow(slot);
    } else if (shadowing_) {
        collect_shadow<true>(slot);
        load(vmcs01_);
    }
    if (slot.newest.any_in_vmcs02()) collect_all(slot);
    if (auto* page = port_.l1_page(slot.region)) {
        auto* stored = reinterpret_cast<VmcsRegion*>(page);
        x86::write_word(&stored->launched, std::uint32_t{slot.launched});
        for (std::size_t i = 0; i < vmx::field_count; ++i)
            x86::write_word(&stored->words[i], slot.vmcs12.word(i));
        msr_bitmaps_.note_written(page);
    }
    slot.activity = Activity::none;
    // What is left to be looked through by find().
    while (slots_used_ > 0 && slots_[slots_used_ - 1].activity == Activity::none) --slots_used_;
}

// slot: of an ordinary VMCS. nullptr: none is current.
template <Port P>
void NestedVcpu<P>::make_current(Slot* slot) {
    current_ = slot;
    if (slot != nullptr) slot->last_used = ++use_clock_;
    if (l1_link_ != L1Link::shadowed_fields) [[unlikely]] {
        link_bitmaps_of(slot);
        if (l1_link_ == L1Link::none) return;
    }
    // With no current VMCS the processor's own shadowed VMREAD gives VMfailInvalid, as it must.
    put(vmx::field::vmcs_link_pointer, slot != nullptr ? slot->shadow.value() : ~std::uint64_t{0});
}

template <Port P>
void NestedVcpu<P>::fill_shadow(Slot& slot) {
    while_loaded(slot.shadow, vmcs01_, [&] {
        detail::shadowed.for_each([&](std::size_t index) {
            // What L1 was not promised the processor may not have either.
            if (supported_.contains(index)) put_raw(vmx::all_fields[index].encoding, slot.vmcs12.word(index));
        });
    });
}

// Takes what L1 wrote to its shadow VMCS, which is then the hardware's current one. Whole: also what does not
// matter to an entry now.
template <Port P>
template <bool Whole>
void NestedVcpu<P>::collect_shadow(Slot& slot) {
    load(slot.shadow);
    const auto take = [&](std::size_t index, std::uint64_t value) {
        if (value != slot.vmcs12.word(index)) [[unlikely]]
            write_field(slot, index, value);
    };
    const auto collect = [&](std::uint32_t encoding) {
        const std::size_t index = detail::index_of(encoding);
        take(index, get_raw(encoding));
    };
    {
        Row row{*this};
        const auto collect_in_row = [&]<std::size_t I>() {
            constexpr std::uint32_t encoding = written_fields[I];
            if constexpr (is_always_there(encoding)) {
                constexpr AlwaysThere there{encoding};
                take(detail::index_of(encoding), row.get(there));
            } else {
                collect(encoding);
            }
        };
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (collect_in_row.template operator()<I>(), ...);
        }
        (std::make_index_sequence<written_fields.size()>{});
    }
    const vmx::InterruptionInformation event{slot.vmcs12.get(vmx::field::vm_entry_interruption_information)};
    if (Whole || event.is_valid()) {
        for (auto encoding : written_with_event) collect(encoding);
    }
    const auto collect_if = [&](bool in_use, const auto& encodings) {
        if (!Whole && !in_use) return;
        for (auto encoding : encodings) {
            if (supported_.contains(detail::index_of(encoding))) collect(encoding);
        }
    };
    if (Whole || (slot.work & (detail::timer | detail::learned_fields)) != 0) [[unlikely]] {
        collect_if((slot.work & detail::timer) != 0, written_with_timer);
        if (Whole || (slot.work & detail::learned_fields) != 0) collect_learned(slot);
        if (!Whole && (slot.work & detail::learned_fields) != 0) try_learned(slot);
    }
    // By the controls as they are now: L1 may have written the primary ones just so.
    collect_if((slot.vmcs12.get(vmx::field::primary_processor_based_vm_execution_controls) &
                vmx::primary::use_tpr_shadow) != 0,
               written_with_tpr_shadow);
}

// Brings to vmcs12 all that is newest in vmcs02. vmcs01 is current, before and after.
template <Port P>
void NestedVcpu<P>::collect_all(Slot& slot) {
    while_loaded(slot.vmcs02.page, vmcs01_,
                 [&] { supported_.for_each([&](std::size_t index) { fetch(slot, index); }); });
    slot.newest.all_in_vmcs12();
}

// Brings a field's newest value to vmcs12. vmcs02 is current.
template <Port P>
void NestedVcpu<P>::fetch(Slot& slot, std::size_t index) {
    if (const std::uint64_t bits = slot.newest.bits_in_vmcs02(index); bits != 0)
        fetch_bits(slot, index, bits);
}
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::fetch_bits(Slot& slot, std::size_t index,
                                                             std::uint64_t bits) {
    const std::uint64_t saved = get_raw(vmx::all_fields[index].encoding);
    slot.vmcs12.set_word(index, (slot.vmcs12.word(index) & ~bits) | (saved & bits));
    slot.newest.is_in_vmcs12(index);
}

// The same where vmcs01 or a shadow VMCS is current; then vmcs01 is.
template <Port P>
void NestedVcpu<P>::fetch_for_l1(Slot& slot, std::size_t index) {
    const std::uint64_t bits = slot.newest.bits_in_vmcs02(index);
    if (bits == 0) return;
    while_loaded(slot.vmcs02.page, vmcs01_, [&] { fetch_bits(slot, index, bits); });
}

// As L1's VMREAD finds it. shadows: L1 may have it, or a part of it, in its shadow VMCS. vmcs01 is current,
// before and after.
template <Port P>
std::uint64_t NestedVcpu<P>::read_field(Slot& slot, std::size_t index, bool shadows) {
    if (shadows && (detail::shadow_writable.contains(index) || slot.learned.written().contains(index))) {
        return while_loaded(slot.shadow, vmcs01_, [&] { return get_raw(vmx::all_fields[index].encoding); });
    }
    if (slot.newest.bits_in_vmcs02(index) != 0) [[unlikely]]
        fetch_for_l1(slot, index);
    return slot.vmcs12.word(index);
}

template <Port P>
void NestedVcpu<P>::write_field(Slot& slot, std::size_t index, std::uint64_t value) {
    const std::uint64_t before = slot.vmcs12.word(index);
    slot.vmcs12.set_word(index, value);
    slot.newest.is_in_vmcs12(index);
    switch (field_handling[index]) {
        case FieldHandling::direct_control:
            slot.vmcs02.below_demands_changed = true;
            [[fallthrough]];
        case FieldHandling::guest_state:
            slot.vmcs02.pending.insert(index);
            return;
        case FieldHandling::composed_control:
            // Opening and closing the interrupt window is what L1 does most; it can break no rule.
            if (index ==
                    detail::index_of(vmx::field::primary_processor_based_vm_execution_controls.encoding) &&
                ((before ^ value) & ~std::uint64_t{vmx::primary::interrupt_window_exiting}) == 0) {
                slot.vmcs02.primary ^= static_cast<std::uint32_t>(before ^ value);
                slot.vmcs02.primary_changed = true;
                return;
            }
            // The VPID field is looked at on every entry anyway.
            if (index != detail::index_of(vmx::field::virtual_processor_identifier.encoding)) {
                // The rules of host state, and what an exit loads of it, depend on the exit and entry
                // controls.
                slot.unchecked.controls = slot.unchecked.host_state = true;
                if (l1_state_of_ == &slot) l1_state_known_ = false;
            }
            return;
        case FieldHandling::host_state:
            // No rule is about RSP, and every exit loads it (SDM 3C 27.2.2, 27.2.3).
            if (index == detail::index_of(vmx::field::host_rsp.encoding)) return;
            slot.unchecked.host_state = true;
            if (l1_state_of_ == &slot && !detail::host_always_loaded.contains(index)) l1_state_known_ = false;
            return;
        case FieldHandling::kept:
            slot.unchecked.guest_state = true;
            return;
        case FieldHandling::information:
            // What the next exit does not define stays. The error number is never an exit's.
            if (index != detail::index_of(vmx::field::vm_instruction_error.encoding))
                slot.vmcs02.pending.insert(index);
            return;
        default:
            return;
    }
}

}  // namespace flatback::nested
