// vmcs02's controls as a function of L1's: what L1 asked for stays, what the host needs is there, and what
// the processor allows is not left.
#include "nested/entry/compose.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "nested/capabilities.hpp"
#include "nested/demands.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test::compose_test {
namespace {

using nested::compose;
using nested::ComposedControls;
using nested::HostControls;
using nested::Vmcs12;

// L0's own matter: tags, and L1's page-modification log.
constexpr std::uint32_t not_the_processors = vmx::secondary::enable_vpid | vmx::secondary::enable_pml;

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
    const std::uint32_t l1s = activated ? secondary12 & ~not_the_processors : 0;
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

// --- with the host's demands ---

nested::Demands any_demands() {
    const auto yes = [] { return *rc::gen::arbitrary<bool>(); };
    nested::Demands demands;
    demands.external_interrupts = yes();
    demands.acknowledge_interrupts = demands.external_interrupts && yes();
    demands.nmis = yes();
    demands.instructions = *rc::gen::arbitrary<std::uint32_t>() & nested::demandable::instructions;
    demands.exceptions = *rc::gen::arbitrary<std::uint32_t>() & nested::demandable::exceptions;
    demands.secondary_instructions =
        *rc::gen::arbitrary<std::uint32_t>() & nested::demandable::secondary_instructions;
    if (yes()) demands.cr0_mask = *rc::gen::arbitrary<std::uint64_t>();
    if (yes()) demands.cr4_mask = *rc::gen::arbitrary<std::uint64_t>();
    demands.kept_msrs = yes();
    if (yes()) demands.tsc_multiplier = *rc::gen::inRange<std::uint64_t>(1, ~0ULL);
    demands.all_ports = yes();
    demands.kept_ports = yes();
    if (yes()) demands.tsc_offset = *rc::gen::arbitrary<std::uint64_t>();
    if (yes()) demands.turn_ends = *rc::gen::arbitrary<std::uint64_t>();
    return demands;
}

RC_GTEST_FIXTURE_PROP(Compose, GivesWhatTheProcessorAllowsWithAnyDemands, ()) {
    const nested::Demands demands = any_demands();
    RC_ASSERT(can_meet(demands, capabilities));
    const ComposedControls composed = with_demands(compose(any_good_controls(capabilities), host), demands);
    const vmx::Capabilities hardware = processor();
    RC_ASSERT(hardware.pin_based.permits(composed.pin_based));
    RC_ASSERT(hardware.primary_processor_based.permits(composed.primary));
    RC_ASSERT(hardware.secondary_processor_based.permits(composed.secondary));
    RC_ASSERT(hardware.vm_exit.permits(composed.exit));
}

// What the SDM couples (SDM 3C 27.2.1.1, 27.2.1.2), where L1's controls keep to it.
RC_GTEST_FIXTURE_PROP(Compose, KeepsToWhatOneControlAsksOfAnotherWithAnyDemands, ()) {
    Vmcs12 vmcs12 = any_good_controls(capabilities);
    std::uint32_t pin12 = vmcs12.get(field::pin_based_vm_execution_controls);
    if ((pin12 & vmx::pin::nmi_exiting) == 0) pin12 &= ~vmx::pin::virtual_nmis;
    vmcs12.set(field::pin_based_vm_execution_controls, pin12);
    if ((pin12 & vmx::pin::virtual_nmis) == 0) {
        vmcs12.set(field::primary_processor_based_vm_execution_controls,
                   vmcs12.get(field::primary_processor_based_vm_execution_controls) &
                       ~vmx::primary::nmi_window_exiting);
    }
    const ComposedControls composed = with_demands(compose(vmcs12, host), any_demands());
    const auto pin = [&](std::uint32_t bit) { return (composed.pin_based & bit) != 0; };
    RC_ASSERT(!pin(vmx::pin::virtual_nmis) || pin(vmx::pin::nmi_exiting));
    RC_ASSERT((composed.primary & vmx::primary::nmi_window_exiting) == 0U || pin(vmx::pin::virtual_nmis));
    // L0 tells by it how much of L1's timer is left.
    RC_ASSERT(!pin(vmx::pin::activate_vmx_preemption_timer) ||
              (composed.exit & vmx::exit_control::save_vmx_preemption_timer_value) != 0U);
}

// Event by event: L2 exits where L1 or its host wants it, and nowhere else.
RC_GTEST_FIXTURE_PROP(Compose, ExitsWhereEitherWantsItAndNowhereElse, ()) {
    const Vmcs12 vmcs12 = any_good_controls(capabilities);
    const nested::Demands demands = any_demands();
    const HostControls plain_host{.hidden_cr4 = host.hidden_cr4, .keeps_ports = demands.kept_ports};
    const ComposedControls composed = with_demands(compose(vmcs12, plain_host), demands);
    const std::uint32_t primary12 = vmcs12.get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t pin12 = vmcs12.get(field::pin_based_vm_execution_controls);
    const std::uint32_t secondary12 = nested::secondary_controls_of(vmcs12);

    const auto both = [](std::uint32_t l1s, bool hosts, std::uint32_t bit) {
        return (l1s & bit) != 0 || hosts;
    };
    const auto has = [](std::uint32_t controls, std::uint32_t bit) { return (controls & bit) != 0; };
    using namespace vmx;
    RC_ASSERT(has(composed.pin_based, pin::external_interrupt_exiting) ==
              both(pin12, demands.external_interrupts, pin::external_interrupt_exiting));
    RC_ASSERT(has(composed.pin_based, pin::nmi_exiting) == both(pin12, demands.nmis, pin::nmi_exiting));
    RC_ASSERT(has(composed.pin_based, pin::activate_vmx_preemption_timer) ==
              both(pin12, demands.turn_ends.has_value(), pin::activate_vmx_preemption_timer));
    const bool l1_acknowledges =
        has(vmcs12.get(field::vm_exit_controls), exit_control::acknowledge_interrupt_on_exit);
    RC_ASSERT(has(composed.exit, exit_control::acknowledge_interrupt_on_exit) ==
              (demands.external_interrupts ? demands.acknowledge_interrupts : l1_acknowledges));

    for (const std::uint32_t control :
         {primary::hlt_exiting, primary::invlpg_exiting, primary::mwait_exiting, primary::rdpmc_exiting,
          primary::rdtsc_exiting, primary::cr3_load_exiting, primary::cr3_store_exiting,
          primary::mov_dr_exiting, primary::monitor_exiting}) {
        RC_ASSERT(has(composed.primary, control) ==
                  both(primary12, has(demands.instructions, control), control));
    }
    const bool is_shadow = has(primary12, primary::use_tpr_shadow);
    for (const std::uint32_t control : {primary::cr8_load_exiting, primary::cr8_store_exiting}) {
        RC_ASSERT(has(composed.primary, control) ==
                  both(primary12, !is_shadow && has(demands.instructions, control), control));
    }
    const bool counts_loops = has(secondary12, secondary::pause_loop_exiting);
    RC_ASSERT(has(composed.primary, primary::pause_exiting) ==
              both(primary12, !counts_loops && has(demands.instructions, primary::pause_exiting),
                   primary::pause_exiting));
    for (const std::uint32_t control : {secondary::wbinvd_exiting, secondary::descriptor_table_exiting,
                                        secondary::rdrand_exiting, secondary::rdseed_exiting}) {
        RC_ASSERT(has(composed.secondary, control) ==
                  both(secondary12, has(demands.secondary_instructions, control), control));
    }
    constexpr std::uint32_t other_secondary =
        ~(nested::demandable::secondary_instructions | secondary::use_tsc_scaling);
    RC_ASSERT((composed.secondary & other_secondary) ==
              (((secondary12 & ~not_the_processors) | secondary::enable_ept) & other_secondary));
    // What no demand is about is as without.
    constexpr std::uint32_t others = ~(nested::demandable::instructions | primary::use_tsc_offsetting |
                                       primary::unconditional_io_exiting | primary::use_io_bitmaps);
    RC_ASSERT((composed.primary & others) == ((primary12 | primary::activate_secondary_controls) & others));
}

// By the SDM's table of I/O instructions (SDM 3C 26.1.3, table 25-6), for a port that L1's bitmaps have or
// not, and that the host keeps or not.
RC_GTEST_FIXTURE_PROP(Compose, MakesIoExitWhereEitherWantsIt, (bool in_l1s_bitmap, bool kept)) {
    const Vmcs12 vmcs12 = any_good_controls(capabilities);
    nested::Demands demands = any_demands();
    const HostControls plain_host{.hidden_cr4 = host.hidden_cr4, .keeps_ports = true};
    const ComposedControls composed = with_demands(compose(vmcs12, plain_host), demands);
    const auto exits = [](std::uint32_t controls, bool in_bitmap) {
        if ((controls & vmx::primary::use_io_bitmaps) != 0) return in_bitmap;
        return (controls & vmx::primary::unconditional_io_exiting) != 0;
    };
    const std::uint32_t primary12 = vmcs12.get(field::primary_processor_based_vm_execution_controls);
    const bool l1_wants = exits(primary12, in_l1s_bitmap);
    // As vmcs02's bitmaps are: L1's with the host's bits, or the host's where L1 uses none.
    const bool l1_uses_bitmaps = (primary12 & vmx::primary::use_io_bitmaps) != 0;
    const bool merged = (l1_uses_bitmaps && in_l1s_bitmap) || kept;
    RC_ASSERT(exits(composed.primary, merged) == (l1_wants || kept || demands.all_ports));
}

// SDM 3C 25.6.3, for an error code of a page fault and for every other exception.
RC_GTEST_FIXTURE_PROP(Compose, MakesExceptionsExitWhereEitherWantsThem, (std::uint32_t error_code)) {
    Vmcs12 vmcs12 = any_good_controls(capabilities);
    vmcs12.set(field::exception_bitmap, *rc::gen::arbitrary<std::uint32_t>());
    vmcs12.set(field::page_fault_error_code_mask, *rc::gen::arbitrary<std::uint32_t>() & 0x1f);
    vmcs12.set(field::page_fault_error_code_match, *rc::gen::arbitrary<std::uint32_t>() & 0x1f);
    const nested::Demands demands = any_demands();
    const nested::DemandedFields fields = fields_with_demands(vmcs12, demands, 4);
    const auto exits = [&](std::uint32_t bitmap, std::uint32_t mask, std::uint32_t match, unsigned vector) {
        const bool set = (bitmap >> vector & 1) != 0;
        return vector == 14 ? set == ((error_code & mask) == match) : set;
    };
    for (unsigned vector = 0; vector < 32; ++vector) {
        const bool l1_wants =
            exits(vmcs12.get(field::exception_bitmap), vmcs12.get(field::page_fault_error_code_mask),
                  vmcs12.get(field::page_fault_error_code_match), vector);
        const bool hosts = (demands.exceptions >> vector & 1) != 0;
        RC_ASSERT(exits(fields.exception_bitmap, fields.page_fault_error_code_mask,
                        fields.page_fault_error_code_match, vector) == (l1_wants || hosts));
    }
}

// SDM 3C 26.3: RDTSC without an exit.
RC_GTEST_FIXTURE_PROP(Compose, AddsBothOffsetsOfTheTimeStampCounter, (std::uint64_t counter)) {
    Vmcs12 vmcs12 = any_good_controls(capabilities);
    vmcs12.set(field::secondary_processor_based_vm_execution_controls,
               vmcs12.get(field::secondary_processor_based_vm_execution_controls) &
                   ~vmx::secondary::use_tsc_scaling);
    vmcs12.set(field::tsc_offset, *rc::gen::arbitrary<std::uint64_t>());
    const nested::Demands demands = any_demands();
    const ComposedControls composed = with_demands(compose(vmcs12, host), demands);
    const nested::DemandedFields fields = fields_with_demands(vmcs12, demands, 4);
    const auto scaled = [](std::uint64_t from, std::uint64_t multiplier) {
        __extension__ using Wide = unsigned __int128;
        return static_cast<std::uint64_t>(Wide{from} * multiplier >> 48);
    };
    const auto read = [](std::uint32_t controls, std::uint64_t offset, std::uint64_t from) {
        return from + ((controls & vmx::primary::use_tsc_offsetting) != 0 ? offset : 0);
    };
    const std::uint64_t l1s = scaled(counter, demands.tsc_multiplier) + demands.tsc_offset;
    const std::uint64_t l2s = read(vmcs12.get(field::primary_processor_based_vm_execution_controls),
                                   vmcs12.get(field::tsc_offset), l1s);
    // The processor scales where both controls are set.
    const bool scales = (composed.secondary & vmx::secondary::use_tsc_scaling) != 0 &&
                        (composed.primary & vmx::primary::use_tsc_offsetting) != 0;
    RC_ASSERT(read(composed.primary, fields.tsc_offset,
                   scales ? scaled(counter, demands.tsc_multiplier) : counter) == l2s);
}

// SDM 3C 25.6.5, 26.3: L1 multiplies what its host has made of the processor's counter.
RC_GTEST_FIXTURE_PROP(Compose, MultipliesTheTimeStampCounterByBoth, ()) {
    constexpr std::uint64_t one = std::uint64_t{1} << 48;
    __extension__ using Wide = unsigned __int128;
    const auto read = [](bool offsets, bool scales, std::uint64_t multiplier, std::uint64_t offset,
                         std::uint64_t from) {
        if (!offsets) return from;
        return (scales ? static_cast<std::uint64_t>(Wide{from} * multiplier >> 48) : from) + offset;
    };
    const auto multiplier = [&] { return *rc::gen::inRange<std::uint64_t>(one / 8, one * 8); };
    const std::uint64_t counter =
        *rc::gen::inRange<std::uint64_t>(std::uint64_t{1} << 42, std::uint64_t{1} << 56);
    Vmcs12 vmcs12 = any_good_controls(capabilities);
    vmcs12.set(field::tsc_offset, *rc::gen::arbitrary<std::uint64_t>());
    vmcs12.set(field::tsc_multiplier, multiplier());
    nested::Demands demands = any_demands();
    const auto distance = *rc::gen::inRange<std::int64_t>(-(std::int64_t{1} << 38), std::int64_t{1} << 40);
    demands.tsc_offset = *rc::gen::arbitrary<bool>() ? 0 : static_cast<std::uint64_t>(distance);
    demands.tsc_multiplier = *rc::gen::arbitrary<bool>() ? one : multiplier();

    const std::uint32_t primary12 = vmcs12.get(field::primary_processor_based_vm_execution_controls);
    const bool offsets12 = (primary12 & vmx::primary::use_tsc_offsetting) != 0;
    const bool scales12 = (primary12 & vmx::primary::activate_secondary_controls) != 0 &&
                          (vmcs12.get(field::secondary_processor_based_vm_execution_controls) &
                           vmx::secondary::use_tsc_scaling) != 0;
    const std::uint64_t l1s = read(true, true, demands.tsc_multiplier, demands.tsc_offset, counter);
    const std::uint64_t l2s =
        read(offsets12, scales12, vmcs12.get(field::tsc_multiplier), vmcs12.get(field::tsc_offset), l1s);
    const ComposedControls composed = with_demands(compose(vmcs12, host), demands);
    const nested::DemandedFields fields = fields_with_demands(vmcs12, demands, 4);
    const std::uint64_t found = read((composed.primary & vmx::primary::use_tsc_offsetting) != 0,
                                     (composed.secondary & vmx::secondary::use_tsc_scaling) != 0,
                                     fields.tsc_multiplier, fields.tsc_offset, counter);
    // Each product of two rounds by itself.
    const bool both = offsets12 && scales12 && (demands.tsc_offset != 0 || demands.tsc_multiplier != one);
    const std::uint64_t rounded = both ? 10 + (counter >> 48) : 0;
    RC_ASSERT(l2s - found + rounded <= 2 * rounded);
}

// SDM 3C 26.1.3, bit by bit: a MOV exits where it would change, as L2 sees it, a bit that L1 or its host
// masks; what L2 reads is as without the host.
RC_GTEST_FIXTURE_PROP(Compose, MasksWhatEitherWants,
                      (std::uint64_t mask12, std::uint64_t shadow12, std::uint64_t demanded,
                       std::uint64_t real, std::uint64_t written)) {
    const nested::DemandedMask without{mask12, shadow12};
    const nested::DemandedMask masked = nested::mask_with_demands(without, demanded, real);
    const auto read = [&](nested::DemandedMask by) { return (real & ~by.mask) | (by.shadow & by.mask); };
    RC_ASSERT(read(masked) == read(without));
    const bool l1_wants = ((written ^ shadow12) & mask12) != 0;
    const bool host_wants = ((written ^ read(without)) & demanded) != 0;
    using Access = vmx::ControlRegisterAccess;
    RC_ASSERT(exits_by(masked, {.kind = Access::Kind::mov_to}, written) == (l1_wants || host_wants));
    RC_ASSERT(exits_by(without, {.kind = Access::Kind::mov_to}, written) == l1_wants);
    RC_ASSERT(!exits_by(masked, {.kind = Access::Kind::mov_from}, written));
    // CLTS: where TS is masked and set, as L2 sees it.
    const bool ts_is_masked = ((mask12 | demanded) >> 3 & 1) != 0;
    RC_ASSERT(exits_by(masked, {.kind = Access::Kind::clts}, 0) ==
              (ts_is_masked && (read(without) >> 3 & 1) != 0));
    // LMSW: MP, EM and TS that differ, and PE that it sets.
    const auto source = static_cast<std::uint16_t>(written);
    bool differs = false;
    for (unsigned index = 0; index < 4; ++index) {
        const bool is_masked = ((mask12 | demanded) >> index & 1) != 0;
        const bool from = (read(without) >> index & 1) != 0;
        const bool to = (source >> index & 1) != 0;
        differs = differs || (is_masked && (index == 0 ? to && !from : to != from));
    }
    RC_ASSERT(exits_by(masked, {.kind = Access::Kind::lmsw, .lmsw_source = source}, 0) == differs);
}

RC_GTEST_FIXTURE_PROP(Compose, LeavesNoCr3TargetWhereTheHostWantsEachLoad, ()) {
    Vmcs12 vmcs12 = any_good_controls(capabilities);
    vmcs12.set(field::cr3_target_count, *rc::gen::inRange(0U, 9U));
    const nested::Demands demands = any_demands();
    const bool wanted = (demands.instructions & vmx::primary::cr3_load_exiting) != 0 &&
                        vmcs12.get(field::cr3_target_count) <= 4;  // else the processor refuses them
    RC_ASSERT(fields_with_demands(vmcs12, demands, 4).cr3_target_count ==
              (wanted ? 0U : vmcs12.get(field::cr3_target_count)));
}

TEST_F(Compose, WithoutDemandsChangesNothing) {
    const ComposedControls composed = compose(Vmcs12{}, host);
    EXPECT_EQ(with_demands(composed, {}), composed);
    EXPECT_FALSE(nested::changes_fields({}));
}

TEST_F(Compose, RefusesDemandsThatThisProcessorOrTheEngineCannotMeet) {
    const auto can = [&](const nested::Demands& demands) { return can_meet(demands, capabilities); };
    EXPECT_TRUE(can({}));
    EXPECT_FALSE(can({.acknowledge_interrupts = true})) << "of interrupts that are L1's";
    EXPECT_FALSE(can({.instructions = vmx::primary::use_msr_bitmaps}));
    EXPECT_FALSE(can({.secondary_instructions = vmx::secondary::enable_ept}));
    EXPECT_FALSE(can({.tsc_multiplier = 0})) << "SDM 3C 27.2.1.1";
    EXPECT_TRUE(can({.exceptions = 1U << 18}));
    for (const unsigned vector : {1U, 2U, 31U}) {
        EXPECT_EQ(can({.exceptions = 1U << vector}), false) << vector;
    }
    vmx::Capabilities old = processor();
    old.secondary_processor_based.allowed1 &=
        ~(vmx::secondary::use_tsc_scaling | vmx::secondary::wbinvd_exiting);
    old.pin_based.allowed1 &= ~(vmx::pin::virtual_nmis | vmx::pin::activate_vmx_preemption_timer);
    const auto promised = nested::make_capabilities(old, physical_width, /*offer_vpid=*/true);
    EXPECT_FALSE(can_meet({.nmis = true}, promised));
    EXPECT_FALSE(can_meet({.turn_ends = 0}, promised));
    EXPECT_FALSE(can_meet({.secondary_instructions = vmx::secondary::wbinvd_exiting}, promised));
    EXPECT_FALSE(can_meet({.tsc_multiplier = nested::Demands::same_rate * 2}, promised));
    EXPECT_TRUE(can_meet({.external_interrupts = true}, promised));
}

}  // namespace
}  // namespace flatback::nested_test::compose_test
