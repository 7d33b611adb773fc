// Which fields L1 may read or write without an exit where the processor shadows VMCSs, chosen by counting the
// VMREADs and VMWRITEs of Linux's KVM (docs/engine.md). Also the fields that L0 reads at once when L2 exits.
#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/field.hpp"
#include "vmcs12.hpp"

namespace flatback::nested {

// Read in vmcs02 at every exit that L1 will see, and written to the shadow VMCS where they changed.
inline constexpr std::array exit_fields = {
    vmx::field::exit_reason.encoding,
    vmx::field::exit_qualification.encoding,
    vmx::field::vm_exit_interruption_information.encoding,
    vmx::field::idt_vectoring_information.encoding,
    vmx::field::vm_exit_instruction_length.encoding,
    vmx::field::guest_rip.encoding,
    vmx::field::guest_rsp.encoding,
    vmx::field::guest_rflags.encoding,
    vmx::field::guest_interruptibility_state.encoding,
    vmx::field::guest_cs_access_rights.encoding,  // KVM looks for 64-bit mode where user space is to help ...
    vmx::field::guest_ss_access_rights.encoding,  // ... and for the privilege level
};

// Defined only for some exits; read and shadowed there.
inline constexpr std::array conditional_exit_fields = {
    vmx::field::vm_exit_interruption_error_code.encoding,
    vmx::field::idt_vectoring_error_code.encoding,
    vmx::field::guest_physical_address.encoding,
    vmx::field::guest_linear_address.encoding,
};

// L1 may write these in its shadow VMCS; L0 looks at every entry.
inline constexpr std::array written_fields = {
    vmx::field::guest_rip.encoding,
    vmx::field::guest_rsp.encoding,
    vmx::field::guest_rflags.encoding,
    vmx::field::guest_interruptibility_state.encoding,
    vmx::field::vm_entry_interruption_information.encoding,
    vmx::field::primary_processor_based_vm_execution_controls.encoding,
    vmx::field::virtual_processor_identifier.encoding,
    vmx::field::host_rsp.encoding,  // another one with each system call, where kernel stacks are randomized
};

// The same, of controls that are in use: L0 looks only then. Linux's timer ticks and interrupts write them.
inline constexpr std::array written_with_timer = {
    vmx::field::vmx_preemption_timer_value.encoding,
};
inline constexpr std::array written_with_tpr_shadow = {
    vmx::field::tpr_threshold.encoding,
};

// Written by L1 with an event to inject; L0 looks only where the interruption information is valid.
inline constexpr std::array written_with_event = {
    vmx::field::vm_entry_exception_error_code.encoding,
    vmx::field::vm_entry_instruction_length.encoding,
};

}  // namespace flatback::nested
