// Fields that L1 uses often and the field sheet does not shadow: L0 learns them, one VMCS at a time
// (nested/vmcs/learned_fields.hpp). L1 then reaches them in its shadow VMCS, by bitmaps of that VMCS's own.
//
// What L0 does for one is what it does for those of the sheet: where exits change it, its value goes to the
// shadow VMCS at each exit that L1 gets to see; where L1 may write it, each entry looks at it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "nested_vcpu.hpp"

namespace flatback::nested {

// A VMREAD or VMWRITE of L1's has exited that was not noted yet. It begins again, as it is then.
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::note_vmread(std::size_t index) {
    learn_by_use(*current_, index, false);
    --counters_.vmread_exits;
    return vmread();
}
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::note_vmwrite(std::size_t index) {
    learn_by_use(*current_, index, true);
    --counters_.vmwrite_exits;
    return vmwrite();
}

// slot: L1's current VMCS, of which L1 uses a field by an exit.
template <Port P>
void NestedVcpu<P>::learn_by_use(Slot& slot, std::size_t index, bool written) {
    if (!slot.learned.note_use(configuration_.learning, index, counters_.l2_entries)) return;
    for (unsigned half = 0; half < 2; ++half) {
        x86::Hpa& page = slot.learned_bitmaps[half];
        if (page.value() != 0) continue;
        const auto fresh_page = port_.allocate_page();
        if (!fresh_page) return;  // L1 goes on exiting
        page = *fresh_page;
        std::memcpy(port_.page(page), port_.page(half == 0 ? vmread_bitmap_ : vmwrite_bitmap_),
                    x86::page_size);
    }
    const bool saved = detail::stored_by_exits[index] != 0 && !detail::shadowed.contains(index);
    slot.learned.learn(index, written, saved);
    slot.work |= detail::learned_fields;
    ++counters_.fields_learned;
    slot.activity = Activity::ordinary_learned;
    let_l1_reach(slot, index, true, written);
    if (slot.newest.bits_in_vmcs02(index) != 0) fetch_for_l1(slot, index);
    const std::uint32_t encoding = vmx::all_fields[index].encoding;
    while_loaded(slot.shadow, vmcs01_, [&] { put_raw(encoding, slot.vmcs12.word(index)); });
    if (l1_link_ == L1Link::shadowed_fields) link_bitmaps_of(&slot);
}

// Without an exit, or by exits again but for what the field sheet has.
template <Port P>
void NestedVcpu<P>::let_l1_reach(const Slot& slot, std::size_t index, bool reads, bool writes) {
    const std::uint32_t encoding = vmx::all_fields[index].encoding;
    const auto set = [&](x86::Hpa page, bool free) {
        std::uint64_t& word = port_.page(page)[encoding / 64];
        const std::uint64_t bit = std::uint64_t{1} << (encoding % 64);
        word = free ? word & ~bit : word | bit;
    };
    set(slot.learned_bitmaps[0], reads || detail::shadowed.contains(index));
    set(slot.learned_bitmaps[1], writes || detail::shadow_writable.contains(index));
}

// vmcs01, which is current, gets the bitmaps of L1's current VMCS; nullptr: of none.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::link_bitmaps_of(const Slot* slot) {
    current_shadow_ = nullptr;
    if (l1_link_ == L1Link::none) return;
    const bool own = slot != nullptr && slot->learned.any();
    put(vmx::field::vmread_bitmap_address, (own ? slot->learned_bitmaps[0] : vmread_bitmap_).value());
    put(vmx::field::vmwrite_bitmap_address, (own ? slot->learned_bitmaps[1] : vmwrite_bitmap_).value());
    l1_link_ = own ? L1Link::learned_fields : L1Link::shadowed_fields;
}

// Another VMCS of L1's has the slot.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::forget_learned(Slot& slot) {
    const FieldSet fields = slot.learned.read();
    fields.for_each([&](std::size_t index) { forget_learned(slot, index); });
}
template <Port P>
void NestedVcpu<P>::forget_learned(Slot& slot, std::size_t index) {
    slot.learned.forget(index);
    ++counters_.fields_forgotten;
    let_l1_reach(slot, index, false, false);
    if (slot.learned.any()) return;
    slot.work &= ~std::uint32_t{detail::learned_fields};
    slot.activity = Activity::ordinary;
}

// What L1 wrote to them in the shadow VMCS, which is current.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::collect_learned(Slot& slot) {
    const auto& places = slot.learned.places_written();
    counters_.vmreads += static_cast<std::uint64_t>(places.end() - places.begin());
#pragma GCC unroll 4
    for (const LearnedFields::Place& place : places) {
        const std::uint64_t value = port_.vmread(place.encoding);
        if (value == slot.vmcs12.word(place.index)) [[likely]]
            continue;
        if ((value & unpromised_bits(place.index)) != 0)
            slot.unchecked.guest_state = slot.unchecked.unpromised = true;
        write_field(slot, place.index, value);
    }
}

// An entry: one of them has to show that L1 still uses it. Behind collect_learned().
template <Port P>
void NestedVcpu<P>::try_learned(Slot& slot) {
    if (const auto index = slot.learned.next_to_try(configuration_.learning, counters_.l2_entries))
        forget_learned(slot, *index);
}

// What an exit that L1 gets to see saved of them goes to vmcs12; those that changed. vmcs02 is current.
template <Port P>
[[gnu::noinline]] FieldSet NestedVcpu<P>::bring_learned(Slot& slot) {
    FieldSet changed;
    const auto& places = slot.learned.places_saved();
    counters_.vmreads += static_cast<std::uint64_t>(places.end() - places.begin());
#pragma GCC unroll 4
    for (const LearnedFields::Place& place : places) {
        const std::uint64_t value = port_.vmread(place.encoding);
        if (value == slot.vmcs12.word(place.index) || slot.newest.not_saved().contains(place.index))
            [[likely]]
            continue;
        slot.vmcs12.set_word(place.index, value);
        changed.insert(place.index);
    }
    slot.newest.are_in_vmcs12(slot.learned.saved());
    return changed;
}

}  // namespace flatback::nested
