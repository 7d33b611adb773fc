// The fields of the running L2's list (docs/state.md).
#pragma once

#include <cstddef>

#include "../vmcs/field_sheet.hpp"
#include "../vmcs/vmcs12.hpp"

namespace flatback::nested::detail {

// What an L2 that runs has in vmcs02 and nowhere else: its state, what this entry delivers to it, and of the
// entry controls the bit that VM exits store.
inline constexpr FieldSet running_l2_fields = [] {
    FieldSet set =
        FieldSet::of(vmx::field::vm_entry_interruption_information, vmx::field::vm_entry_exception_error_code,
                     vmx::field::vm_entry_instruction_length, vmx::field::vm_entry_controls);
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (field_handling[i] == FieldHandling::guest_state) set.insert(i);
    }
    return set;
}();

}  // namespace flatback::nested::detail
