// L1's shadow VMCSs, by which its guests execute VMREAD and VMWRITE without an exit (SDM 3C 25.10).
//
// Every field of one lives in the hardware's shadow VMCS of its slot, whoever reaches it: L1, while it is
// L1's current VMCS, through vmcs01, and L2 through vmcs02 while L1's link pointer names it. The slot's words
// hold it only on the way between there and L1's region; but for fields that the processor does not have
// (Capabilities::emulated_fields), which are nowhere else, and with which each access exits: of L2's to L1,
// whatever its bitmaps say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "nested_vcpu.hpp"

namespace flatback::nested {

// vmcs01 is current, before and after.
template <Port P>
void NestedVcpu<P>::fill_l1s_shadow(Slot& slot) {
    while_loaded(slot.shadow, vmcs01_, [&] {
        in_hardware_.for_each(
            [&](std::size_t index) { put_raw(vmx::all_fields[index].encoding, slot.vmcs12.word(index)); });
    });
}
template <Port P>
void NestedVcpu<P>::collect_l1s_shadow(Slot& slot) {
    while_loaded(slot.shadow, vmcs01_, [&] {
        in_hardware_.for_each([&](std::size_t index) {
            slot.vmcs12.set_word(index, get_raw(vmx::all_fields[index].encoding));
        });
    });
}

// --- as L1's current VMCS ---

// VMPTRLD of a region that does not begin as an ordinary VMCS does.
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::load_l1s_shadow(x86::Gpa<x86::L1> region, std::uint32_t revision) {
    const std::uint32_t identifier = revision ^ shadow_vmcs_indicator;
    if (!offers_vmcs_shadowing() ||
        (identifier != vmcs12_revision && identifier != capabilities_.promised.basic.revision()))
        return fail(vmx::InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier);
    if (current_shadow_ == nullptr || current_shadow_->region != region) {
        Slot* slot = find(region);
        if (slot == nullptr || slot->activity != Activity::shadow)
            slot = activate(region, Activity::shadow, slot);
        make_l1s_shadow_current(*slot);
    }
    return succeed();
}

template <Port P>
void NestedVcpu<P>::make_l1s_shadow_current(Slot& slot) {
    current_ = nullptr;
    current_shadow_ = &slot;
    slot.last_used = ++use_clock_;
    if (!shadowing_) return;
    put_one(vmx::field::vmcs_link_pointer, slot.shadow.value());
    if (l1_link_ == L1Link::every_field) return;
    put(vmx::field::vmread_bitmap_address, every_field_bitmap_.value());
    put(vmx::field::vmwrite_bitmap_address, every_field_bitmap_.value());
    l1_link_ = L1Link::every_field;
}

// VMfail where no ordinary VMCS is current: the error number goes to the shadow VMCS that is.
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::fail_without_ordinary_vmcs(vmx::InstructionError error) {
    if (current_shadow_ == nullptr) return fail_invalid();
    while_loaded(current_shadow_->shadow, vmcs01_,
                 [&] { put(vmx::field::vm_instruction_error, static_cast<std::uint32_t>(error)); });
    return finish(x86::rflags::zero);
}

// L1's VMREAD or VMWRITE that exits where no ordinary VMCS is current.
template <Port P>
[[gnu::noinline, gnu::cold]] Entry NestedVcpu<P>::access_l1s_shadow(bool write) {
    if (current_shadow_ == nullptr) return fail_invalid();
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    std::uint64_t value = 0;
    if (write && information.has_register_operand()) {
        value = l1_operand(information.register1(), 0xffffffff);
    } else if (write) {
        if (!read_any_operand(information, &value, sizeof value, 4)) return Entry::vmresume;
    }
    const std::uint64_t encoding = l1_operand(information.register2(), 0x7fff);
    const bool emulated = is_emulated_field(encoding);
    if (!emulated && !vmcs_bitmaps_.is_field_of_l1(encoding))
        return fail_without_ordinary_vmcs(
            vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    const std::uint32_t whole = static_cast<std::uint32_t>(encoding) & ~1U;
    const bool high = vmx::is_high(encoding);
    const auto read = [&] {
        if (emulated) return current_shadow_->vmcs12.word(detail::index_of(whole));
        return while_loaded(current_shadow_->shadow, vmcs01_, [&] { return get_raw(whole); });
    };
    if (write) {
        if (high) value = value << 32 | (read() & 0xffffffff);
        if (emulated) {
            current_shadow_->vmcs12.set_word(detail::index_of(whole), value);
        } else {
            while_loaded(current_shadow_->shadow, vmcs01_,
                         [&] { put_raw(whole, value & field_mask(whole)); });
        }
        return succeed();
    }
    value = read();
    if (high) value >>= 32;
    if (information.has_register_operand()) {
        set_l1_register(information.register1(), l1_is_64_bit() ? value : value & 0xffffffff);
    } else if (!write_any_operand(information, value, 4)) {
        return Entry::vmresume;
    }
    return succeed();
}

// --- as L2's ---

// The VMREAD and VMWRITE bitmaps of an L2 whose controls are composed anew. vmcs02 is current.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::put_vmcs_bitmaps(Slot& slot) {
    namespace field = vmx::field;
    MergedVmcsBitmaps& merged = slot.vmcs_bitmaps;
    const std::array addresses{field::vmread_bitmap_address, field::vmwrite_bitmap_address};
    for (unsigned half = 0; half < 2; ++half) {
        if (merged.pages[half].value() == 0) {
            merged.pages[half] = page_for_vmcs02("no memory for a VMREAD or VMWRITE bitmap");
            vmcs_bitmaps_.all_exit(merged.pages[half]);
        }
        put(addresses[half], merged.pages[half].value());
        const std::uint64_t from = slot.vmcs12.get(addresses[half]);
        if (from == merged.from[half]) continue;
        merged.from[half] = from;
        merged.copied = {};
    }
    merge_vmcs_bitmaps(slot);
}
template <Port P>
void NestedVcpu<P>::merge_vmcs_bitmaps(Slot& slot) {
    if (!vmcs_bitmaps_.is_current(slot.vmcs_bitmaps, msr_bitmaps_)) [[unlikely]]
        vmcs_bitmaps_.merge(slot.vmcs_bitmaps, msr_bitmaps_);
}

// vmcs02 is current.
template <Port P>
void NestedVcpu<P>::put_link_pointer(Slot& slot) {
    const std::uint64_t pointer = slot.linked != nullptr ? slot.linked->shadow.value() : ~std::uint64_t{0};
    if (pointer == slot.vmcs02.link_pointer) return;
    put(vmx::field::vmcs_link_pointer, pointer);
    slot.vmcs02.link_pointer = pointer;
}

// At each entry of an L2 with VMCS shadowing. The VMCS that the link pointer names becomes active, if it is
// not. vmcs02 is current.
//
// False: the pointer names none, or what no entry may link (SDM 3C 27.3.1.5); what L1 gets to see of that
// judge_entry() tells.
template <Port P>
[[gnu::noinline]] bool NestedVcpu<P>::link_shadow(Slot& slot) {
    merge_vmcs_bitmaps(slot);
    const x86::Gpa<x86::L1> region{slot.vmcs12.get(vmx::field::vmcs_link_pointer)};
    Slot* linked = nullptr;
    if (is_region(region) && region != slot.region) {
        const auto* page = port_.l1_page(region);
        if (page != nullptr && x86::read_word<std::uint32_t>(page) ==
                                   (capabilities_.promised.basic.revision() | shadow_vmcs_indicator)) {
            linked = slot.linked;
            if (linked == nullptr || linked->region != region || linked->activity != Activity::shadow)
                linked = find(region);
            if (linked == nullptr || linked->activity != Activity::shadow) {
                linked = activate(region, Activity::shadow, linked);
                load(slot.vmcs02.page);
            }
            linked->last_used = ++use_clock_;
            slot.last_used = ++use_clock_;  // the current one stays the last
        }
    }
    slot.linked = linked;
    put_link_pointer(slot);
    return linked != nullptr;
}

// --- L2's VMREAD and VMWRITE that exit ---

// The operand that names the field. vmcs02 is current.
template <Port P>
std::uint64_t NestedVcpu<P>::l2_vmcs_encoding() {
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    return l1_operand(information.register2(), 0x7fff);
}

// Of L1's, and of no VMCS of the hardware's.
template <Port P>
bool NestedVcpu<P>::is_emulated_field(std::uint64_t encoding) const {
    const int index = vmx::dense_index(encoding);
    return index >= 0 && capabilities_.emulated_fields.contains(static_cast<std::size_t>(index));
}

template <Port P>
bool NestedVcpu<P>::l1_wants_vmcs_access(const Slot& slot, bool write) {
    if ((slot.work & detail::shows_vmcs) == 0 || is_emulated_field(l2_vmcs_encoding())) return true;
    const auto* bitmap = port_.l1_page(x86::Gpa<x86::L1>{
        slot.vmcs12.get(write ? vmx::field::vmwrite_bitmap_address : vmx::field::vmread_bitmap_address)});
    return bitmap == nullptr || vmcs_bitmap_has(bitmap, l2_vmcs_encoding());
}

// L1 lets L2 access it, and the processor would have: what is no field of L1's is none for L2, and the error
// goes to the current VMCS, which is the one that L2 runs under (SDM 3C 31.2).
template <Port P>
[[gnu::noinline]] Entry NestedVcpu<P>::fail_vmcs_access_of_l2(Slot& slot, std::size_t basic_reason) {
    if (slot.linked == nullptr) {
        finish(x86::rflags::carry);
    } else if (vmcs_bitmaps_.is_field_of_l1(l2_vmcs_encoding())) {
        // L1 has cleared the bit since the bitmaps were merged. The instruction is executed again.
        vmcs_bitmaps_.merge(slot.vmcs_bitmaps, msr_bitmaps_);
        drop_single_step();
    } else {
        fail_valid(vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    return reenter_l2(slot, basic_reason);
}

}  // namespace flatback::nested
