// vmcs02's controls as a function of L1's: what L1 asked for stays, what the host needs is there, and what
// the processor allows is not left.
#include "nested/entry/compose.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nested/capabilities.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test {
namespace {

using nested::compose;
using nested::ComposedControls;
using nested::HostControls;
using nested::Vmcs12;

// Of a capability's controls, some that may be set, with all that must be.
std::uint32_t some_of(vmx::ControlCapability capability) {
    return (*rc::gen::arbitrary<std::uint32_t>() & capability.allowed1) | capability.allowed0;
}

Vmcs12 any_good_controls(const nested::Capabilities& capabilities) {
    const vmx::Capabilities& promised = capabilities.promised;
    Vmcs12 vmcs12;
    vmcs12.set(field::pin_based_vm_execution_controls, some_of(promised.pin_based));
    vmcs12.set(field::primary_processor_based_vm_execution_controls,
               some_of(promised.primary_processor_based));
    vmcs12.set(field::secondary_processor_based_vm_execution_controls,
               some_of(promised.secondary_processor_based));
    vmcs12.set(field::vm_exit_controls, some_of(promised.vm_exit));
    vmcs12.set(field::vm_entry_controls, some_of(promised.vm_entry));
    vmcs12.set(field::cr4_guest_host_mask, *rc::gen::arbitrary<std::uint64_t>());
    vmcs12.set(field::cr4_read_shadow, *rc::gen::arbitrary<std::uint64_t>());
    return vmcs12;
}

class Compose : public ::testing::Test {
protected:
    const nested::Capabilities capabilities =
        nested::make_capabilities(processor(), physical_width, /*offer_vpid=*/true);
    const HostControls host{.hidden_cr4 = capabilities.unpromised_cr4};
};

RC_GTEST_FIXTURE_PROP(Compose, GivesWhatTheProcessorAllowsWhereL1sAreWhatItWasPromised, ()) {
    const ComposedControls composed = compose(any_good_controls(capabilities), host);
    const vmx::Capabilities hardware = processor();
    RC_ASSERT(hardware.pin_based.permits(composed.pin_based));
    RC_ASSERT(hardware.primary_processor_based.permits(composed.primary));
    RC_ASSERT(hardware.secondary_processor_based.permits(composed.secondary));
    RC_ASSERT(hardware.secondary_processor_based.permits(composed.secondary | vmx::secondary::enable_vpid));
    RC_ASSERT(hardware.vm_exit.permits(composed.exit));
    RC_ASSERT(hardware.vm_entry.permits(composed.entry));
}

RC_GTEST_FIXTURE_PROP(Compose, LeavesOutNothingThatL1OrItsHostAskedFor, ()) {
    const Vmcs12 vmcs12 = any_good_controls(capabilities);
    const ComposedControls composed = compose(vmcs12, host);
    const std::uint32_t primary12 = vmcs12.get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t secondary12 = vmcs12.get(field::secondary_processor_based_vm_execution_controls);
    const bool activated = (primary12 & vmx::primary::activate_secondary_controls) != 0;
    RC_ASSERT(composed.pin_based == vmcs12.get(field::pin_based_vm_execution_controls));
    RC_ASSERT(composed.primary == (primary12 | vmx::primary::activate_secondary_controls));
    const std::uint32_t l1s = activated ? secondary12 & ~vmx::secondary::enable_vpid : 0;
    RC_ASSERT(composed.secondary == (l1s | vmx::secondary::enable_ept));
    RC_ASSERT((composed.exit & vmcs12.get(field::vm_exit_controls)) == vmcs12.get(field::vm_exit_controls));
    RC_ASSERT((composed.exit & host.exit) == host.exit);
    RC_ASSERT((composed.entry & vmcs12.get(field::vm_entry_controls)) ==
              vmcs12.get(field::vm_entry_controls));
    RC_ASSERT((composed.entry & host.entry) == host.entry);
    RC_ASSERT(composed.l1_uses_vpid == (activated && (secondary12 & vmx::secondary::enable_vpid) != 0));
    RC_ASSERT(composed.l1_uses_ept == (activated && (secondary12 & vmx::secondary::enable_ept) != 0));
    // Which guest runs is L1's alone.
    constexpr std::uint32_t mode = vmx::entry_control::ia32e_mode_guest;
    RC_ASSERT((composed.entry & mode) == (vmcs12.get(field::vm_entry_controls) & mode));
}

RC_GTEST_FIXTURE_PROP(Compose, SavesTheTimerWhereverItRuns, ()) {
    const Vmcs12 vmcs12 = any_good_controls(capabilities);
    const ComposedControls composed = compose(vmcs12, host);
    const bool runs = (composed.pin_based & vmx::pin::activate_vmx_preemption_timer) != 0;
    const bool saved = (composed.exit & vmx::exit_control::save_vmx_preemption_timer_value) != 0;
    const bool asked =
        (vmcs12.get(field::vm_exit_controls) & vmx::exit_control::save_vmx_preemption_timer_value) != 0;
    RC_ASSERT(saved == (runs || asked));
}

// As L2 reads CR4: a bit that L1 masks is L1's shadow, one that only the host hides is 0, any other is real.
RC_GTEST_FIXTURE_PROP(Compose, ShowsL2ItsCr4AsL1WantsAndHidesTheRest, (std::uint64_t real)) {
    const Vmcs12 vmcs12 = any_good_controls(capabilities);
    const ComposedControls composed = compose(vmcs12, host);
    const std::uint64_t mask12 = vmcs12.get(field::cr4_guest_host_mask);
    const std::uint64_t shadow12 = vmcs12.get(field::cr4_read_shadow);
    const std::uint64_t seen =
        (real & ~composed.cr4_guest_host_mask) | (composed.cr4_read_shadow & composed.cr4_guest_host_mask);
    RC_ASSERT((seen & mask12) == (shadow12 & mask12));
    RC_ASSERT((seen & host.hidden_cr4 & ~mask12) == 0U);
    const std::uint64_t others = ~mask12 & ~host.hidden_cr4;
    RC_ASSERT((seen & others) == (real & others));
}

}  // namespace
}  // namespace flatback::nested_test
