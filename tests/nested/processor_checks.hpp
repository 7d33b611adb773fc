// What the simulated processor says of a VMCS at VM entry.
#pragma once

#include "nested/entry/checks_table.hpp"
#include "tests/nested/fake_port.hpp"
#include "vmx/capability.hpp"

namespace flatback::nested_test {

// The first broken rule, in the SDM's order: controls, host state, guest state.
[[nodiscard]] nested::EntryVerdict processor_verdict(const FakeVmcs& vmcs, const vmx::Capabilities& processor,
                                                     x86::Hpa address, FakePort& port);

}  // namespace flatback::nested_test
