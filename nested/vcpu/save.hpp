// NestedVcpu::save(): every active VMCS of L1's with the newest value of each field, and the L2 that runs. It
// changes nothing of what it reads; the VMCS that was current is so again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../state/format.hpp"
#include "../state/running.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

// Of one of L1's VMCSs, by dense index: what its VMREADs find, or would find if the VM entry under way
// failed.
template <Port P>
void NestedVcpu<P>::newest_words(const Slot& slot, FieldWords& words) {
    supported_.for_each([&](std::size_t index) { words[index] = slot.vmcs12.word(index); });
    if (slot.activity == Activity::shadow) {
        load(slot.shadow);
        in_hardware_.for_each(
            [&](std::size_t index) { words[index] = get_raw(vmx::all_fields[index].encoding); });
        return;
    }
    if (slot.newest.any_in_vmcs02()) {
        load(slot.vmcs02.page);
        supported_.for_each([&](std::size_t index) {
            const std::uint64_t bits = slot.newest.bits_in_vmcs02(index);
            if (bits == 0) return;
            words[index] = (words[index] & ~bits) | (get_raw(vmx::all_fields[index].encoding) & bits);
        });
    }
    if (!shadowing_) return;
    load(slot.shadow);
    FieldSet written = detail::shadow_writable;
    written.insert_all(slot.learned.written());
    written.for_each([&](std::size_t index) {
        if (supported_.contains(index)) words[index] = get_raw(vmx::all_fields[index].encoding);
    });
}

// The same of running_l2_fields for the L2 whose VMCS is current.
template <Port P>
void NestedVcpu<P>::running_words(const Slot& slot, FieldWords& words) {
    namespace field = vmx::field;
    detail::running_l2_fields.for_each([&](std::size_t index) {
        if (supported_.contains(index)) words[index] = get_raw(vmx::all_fields[index].encoding);
    });
    words[detail::index_of(field::vm_entry_controls.encoding)] &= vmx::entry_control::ia32e_mode_guest;
    if ((slot.work & detail::timer) != 0) {
        words[detail::index_of(field::vmx_preemption_timer_value.encoding)] =
            l1_uses_timer(slot) ? l1_timer_left() : 0;
    }
}

template <Port P>
Expected<std::size_t, StateError> NestedVcpu<P>::save(std::span<std::byte> into) {
    if (hosts_exit_.pending) return Unexpected{StateError::hosts_exit};
    state::Writer out{into};
    state::Header header{.promised = capabilities_.promised};
    if (in_vmx_operation_) {
        header.flags = state::in_vmx_operation;
        header.vmxon_pointer = vmxon_region_;
        for (const Slot& slot : slots_) header.vmcs_count += slot.activity != Activity::none ? 1 : 0;
    }
    const Slot* const current = current_ != nullptr ? current_ : current_shadow_;
    if (current != nullptr) header.current_pointer = current->region.value();
    if (in_l2_) {
        header.flags |= state::in_l2;
        if (reentering_) {
            header.flags |= state::l2_has_run;
        } else if (entering_by_launch_) {
            header.flags |= state::entering_by_vmlaunch;
        }
    }
    out.put(header);

    const auto count_of = [](const FieldWords& words) {
        std::uint32_t count = 0;
        for (const std::uint64_t word : words) count += word != 0 ? 1 : 0;
        return count;
    };
    const auto put_fields = [&out](const FieldWords& words) {
        for (std::size_t i = 0; i < words.size(); ++i) {
            if (words[i] != 0) out.put(state::FieldValue{vmx::all_fields[i].encoding, words[i]});
        }
    };
    std::uint64_t last_used = 0;
    for (std::uint32_t done = 0; done < header.vmcs_count; ++done) {
        const Slot* next = nullptr;  // the least recently used of what is left
        for (const Slot& slot : slots_) {
            if (slot.activity != Activity::none && slot.last_used > last_used &&
                (next == nullptr || slot.last_used < next->last_used))
                next = &slot;
        }
        if (next == nullptr) break;
        last_used = next->last_used;
        FieldWords words{};
        newest_words(*next, words);
        out.put(state::VmcsHeader{.pointer = next->region.value(),
                                  .flags = (next->launched ? state::launched : 0) |
                                           (next->activity == Activity::shadow ? state::shadow : 0),
                                  .field_count = count_of(words)});
        put_fields(words);
    }
    if (header.vmcs_count != 0) load(current_vmcs());
    if (in_l2_) {
        FieldWords words{};
        running_words(*current_, words);
        out.put_count(count_of(words));
        put_fields(words);
    }
    return out.finish();
}

}  // namespace flatback::nested
