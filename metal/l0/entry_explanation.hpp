// Why a VM entry of L1's failed, in the log: the rule, its section of the SDM, and the fields that it is
// about with their values. For a cold path only.
#pragma once

#include <cstdint>

#include "metal/boot/boot_result.hpp"
#include "nested/entry/checks_table.hpp"
#include "nested/entry/msr_list.hpp"
#include "nested/notice.hpp"
#include "nested/vmcs/vmcs12.hpp"

namespace flatback::metal {

// A rule that L0 found broken, with the values of L1's VMCS.
void explain_entry_check(nested::EntryCheck check, const nested::Vmcs12& vmcs12);

// An entry of an MSR list of L1's.
void explain_refused_msr(nested::Notice what, const nested::RefusedMsr& refused);

// The processor ended the entry into vmcs02, which is current, with this exit reason. It does not say which
// rule the guest state breaks: L0's own checks of the same state do (SDM 3C 27.3.1).
void explain_refused_entry(std::uint32_t exit_reason, const BootResult& boot);

}  // namespace flatback::metal
