// A virtual CPU that leaves its processor: nothing stays active behind it, each VMCS is launched anew, and
// what its tags owe on the new processor is paid, once.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <vector>

#include "nested/pending_events.hpp"
#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::moving_test {
namespace {

using Flushes = std::vector<Flush>;
using nested::Event;

class Moving : public ::testing::TestWithParam<bool> {
protected:
    Moving() {
        l1.prepare();
        l1.use_vpid(1);
    }
    Flushes flushes_of(auto&& action) {
        l1.forget_flushes();
        action();
        return l1.invvpids();
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Moving, ::testing::Bool());

TEST_P(Moving, NothingStaysActiveInL1NorInL2) {
    for (unsigned n = 1; n < 4; ++n) {
        l1.make_vmcs(n);
        l1.use_vpid(static_cast<std::uint16_t>(n + 1));
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    EXPECT_GT(l1.port.active().size(), 3U);
    EXPECT_EQ(l1.move_to(1), vm_succeed);  // which looks
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.move_to(2), l2_runs);
    l1.leave_processor();
    l1.leave_processor();
    EXPECT_TRUE(l1.port.active().empty()) << "it may be destroyed now";
}

TEST_P(Moving, InL1OwesItsTagOneFlushAndInL2ThatOfL2) {
    const std::uint16_t tag01 = l1.vpid01();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint16_t tag02 = l1.l2_tag();
    EXPECT_EQ(flushes_of([&] { EXPECT_EQ(l1.move_to(1), l2_runs); }), Flushes{whole_tag(tag02, 1)});
    EXPECT_EQ(flushes_of([&] { (void)l1.l2_executes_cpuid(); }), Flushes{whole_tag(tag01, 1)});
    EXPECT_EQ(flushes_of([&] {
                  ASSERT_EQ(l1.vmresume(), l2_runs);
                  (void)l1.l2_executes_cpuid();
              }),
              Flushes{})
        << "once";
    EXPECT_EQ(flushes_of([&] { EXPECT_EQ(l1.move_to(1), vm_succeed); }), Flushes{})
        << "to the processor that it was on, where nobody else used its tags";
    EXPECT_EQ(flushes_of([&] { EXPECT_EQ(l1.move_to(0), vm_succeed); }), Flushes{whole_tag(tag01, 0)});
}

// Between L1's VMLAUNCH and the hardware's.
TEST_P(Moving, AnEntryThatFailsWhereItMovedToOwesL1sTagItsFlush) {
    const std::uint16_t tag01 = l1.vpid01();
    l1.before_entry = [&] {
        l1.before_entry = {};
        l1.leave_processor();
        l1.port.physical_cpu = 1;
        l1.enter_processor_without_entry();
        l1.forget_flushes();
    };
    l1.refusal = VirtualCpu::Refusal::vmfail;
    EXPECT_EQ(l1.vmlaunch(), vm_fail(InstructionError::entry_with_invalid_control_fields));
    EXPECT_EQ(l1.invvpids(), (Flushes{whole_tag(tag01, 1)}));
}

TEST_P(Moving, EveryVmcsIsLaunchedOnceAfterIt) {
    l1.make_vmcs(1);
    l1.use_vpid(2);
    for (unsigned n = 0; n < 2; ++n) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    EXPECT_EQ(l1.move_to(1), vm_succeed);
    // L1 knows nothing of it; that VMLAUNCH and VMRESUME of L0's are the right ones, settle() checks.
    for (unsigned round = 0; round < 2; ++round) {
        for (unsigned n = 0; n < 2; ++n) {
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
            ASSERT_EQ(l1.vmresume(), l2_runs);
            ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        }
    }
}

TEST_P(Moving, AnL2ThatMovesIsResumedAndItsL1LaunchedWhateverLeadsThere) {
    const auto ways =
        std::vector<Outcome (*)(VirtualCpu&)>{[](VirtualCpu& it) { return it.l2_executes_cpuid(); },
                                              [](VirtualCpu& it) { return it.hardware_refuses_state(); },
                                              [](VirtualCpu& it) { return it.hardware_refuses_entry(7); },
                                              [](VirtualCpu& it) {
                                                  it.port.nmi_pending = true;
                                                  return it.l2_exits({.reason = ExitReason::ept_violation});
                                              }};
    for (const auto& way : ways) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        ASSERT_EQ(other.move_to(1), l2_runs);
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l2_runs) << "an exit of L0's own";
        ASSERT_EQ(way(other).kind, Outcome::Kind::l1_sees_exit);
        EXPECT_FALSE(other.in_l2());
        ASSERT_EQ(other.vmresume(), l2_runs);
        ASSERT_EQ(other.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_P(Moving, AnEventRightBehindItLaunchesL1) {
    l1.has_one_queue = true;
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    l1.leave_processor();
    l1.port.physical_cpu = 1;
    l1.events.add(Event::nmi());
    EXPECT_EQ(l1.enter_processor(), l1_sees(ExitReason::exception_or_nmi));
    ASSERT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(Moving, WhatL1HasGivenItsGuestGoesWithIt) {
    l1.write(field::vm_entry_interruption_information, 0x8000'0030);
    l1.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
    // Between VMLAUNCH and the entry itself.
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().launched = false;
    EXPECT_EQ(l1.move_to(1), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0030U);
}

TEST_P(Moving, AnOpenWindowIsClosedAndAskedForAgain) {
    l1.has_one_queue = true;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_rflags, x86::rflags::fixed_one);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    const auto window = [&] {
        return (l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) &
                vmx::primary::interrupt_window_exiting) != 0;
    };
    EXPECT_TRUE(window());
    l1.leave_processor();
    EXPECT_FALSE(window());
    EXPECT_EQ(l1.enter_processor(), l2_runs);
    EXPECT_TRUE(window());
}

TEST_P(Moving, EveryVmcsHasTheHostStateOfItsProcessor) {
    l1.make_vmcs(1);
    for (unsigned n = 0; n < 2; ++n) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        if (n == 0) {
            ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        }
    }
    l1.port.host_state_written.clear();
    EXPECT_EQ(l1.move_to(1), l2_runs);
    EXPECT_EQ(l1.port.host_state_written.size(), 2U) << "vmcs01's and this L2's";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.port.host_state_written.size(), 3U) << "the other's, before it is entered";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.port.host_state_written.size(), 3U);
}

// The host takes an exit for itself, and has the virtual CPU go on elsewhere.
TEST_P(Moving, AHostsExitGoesOnOnAnotherProcessor) {
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    ASSERT_TRUE(l1.set_demands({.instructions = vmx::primary::hlt_exiting}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::hlt, .instruction_length = 1}), hosts_exit);
    const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
    l1.leave_processor();
    ASSERT_TRUE(l1.set_demands({.instructions = vmx::primary::pause_exiting}));
    l1.port.physical_cpu = 1;
    l1.enter_processor_without_entry();
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip + 1);
    const auto primary = l1.vmcs02().get(field::primary_processor_based_vm_execution_controls);
    EXPECT_NE(primary & vmx::primary::pause_exiting, 0U) << "demanded meanwhile";
    EXPECT_EQ(primary & vmx::primary::hlt_exiting, 0U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
}

// --- beginning anew

TEST_P(Moving, ResetLeavesNothingOfL1s) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_FALSE(l1.reset(true)) << "VMX operation blocks INIT";
    EXPECT_TRUE(l1.in_l2());
    const std::uint32_t tags = l1.pool().owned();
    const std::uint16_t tag01 = l1.vpid01();
    EXPECT_EQ(flushes_of([&] { EXPECT_TRUE(l1.reset(false)); }), Flushes{whole_tag(tag01)});
    EXPECT_FALSE(l1.in_l2());
    EXPECT_FALSE(l1.in_vmx_operation());
    EXPECT_EQ(l1.pool().owned(), tags - 1) << "L2's tag is given back";
    EXPECT_EQ(l1.vmcs01().get(field::cr0_guest_host_mask) & x86::cr0::paging, 0U);
    EXPECT_EQ(l1.vmptrst(), invalid_opcode);
    EXPECT_TRUE(l1.reset(true)) << "outside of VMX operation";
    l1.prepare();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
}

TEST_P(Moving, ResetLosesWhatWasOnItsWay) {
    l1.has_one_queue = true;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_rflags, x86::rflags::fixed_one);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    l1.events.clear();
    ASSERT_TRUE(l1.reset(false));
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information), 0U);
    l1.prepare();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) &
                  vmx::primary::interrupt_window_exiting,
              0U);
}

TEST_P(Moving, ResetForgetsWhatWasMadeOfL1sEpt) {
    VirtualCpu other{{.shadow_vmcs = GetParam()}};
    other.prepare();
    Ept12 ept{other};
    ept.map(0x5000, 0x10'0000);
    other.use_ept(ept.eptp());
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    ASSERT_EQ(other.l2_touches(0x5000, 1), l2_runs);
    ASSERT_TRUE(other.ept02_leaf(0x5000));
    ASSERT_TRUE(other.reset(false));
    other.prepare();
    other.use_ept(ept.eptp());
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    EXPECT_FALSE(other.ept02_leaf(0x5000)) << "a processor that begins has cached nothing";
}

// --- in any order

RC_GTEST_PROP(MovingModel, EveryFlushIsOwedOnceAndNoVmcsStaysBehind, (bool shadow)) {
    VirtualCpu l1{{.shadow_vmcs = shadow}};
    l1.enter_vmx_operation();
    for (unsigned n = 0; n < 3; ++n) {
        l1.make_vmcs(n);
        l1.use_vpid(static_cast<std::uint16_t>(n + 1));
    }
    std::array<bool, 3> launched{};
    unsigned current = 2;
    // Where each tag's content is: a processor, or nowhere.
    std::array<int, 4> content{0, -1, -1, -1};
    const auto expect = [&](std::size_t which, std::uint16_t tag) {
        const int cpu = static_cast<int>(l1.port.physical_cpu);
        const Flushes expected =
            content.at(which) == cpu ? Flushes{} : Flushes{whole_tag(tag, l1.port.physical_cpu)};
        RC_ASSERT(l1.invvpids() == expected);
        content.at(which) = cpu;
        l1.forget_flushes();
    };
    l1.prepare_first_entry();
    l1.forget_flushes();
    const int steps = *rc::gen::inRange(1, 40);
    for (int step = 0; step < steps; ++step) {
        switch (*rc::gen::inRange(0, 4)) {
            case 0: {
                const unsigned cpu = *rc::gen::inRange(0U, 3U);
                const bool in_l2 = l1.in_l2();
                RC_ASSERT(l1.move_to(cpu) == (in_l2 ? l2_runs : vm_succeed));
                in_l2 ? expect(current + 1, l1.l2_tag()) : expect(0, l1.vpid01());
                break;
            }
            case 1:
                if (l1.in_l2()) break;
                current = *rc::gen::inRange(0U, 3U);
                RC_ASSERT(l1.vmptrld(layout::vmcs_region(current)) == vm_succeed);
                break;
            case 2:
                if (l1.in_l2()) {
                    RC_ASSERT(l1.l2_exits({.reason = ExitReason::ept_violation}) == l2_runs);
                    RC_ASSERT(l1.invvpids().empty());
                }
                break;
            default:
                if (l1.in_l2()) {
                    RC_ASSERT(l1.l2_executes_cpuid() == l1_sees(ExitReason::cpuid));
                    expect(0, l1.vpid01());
                } else {
                    RC_ASSERT((launched.at(current) ? l1.vmresume() : l1.vmlaunch()) == l2_runs);
                    launched.at(current) = true;
                    expect(current + 1, l1.l2_tag());
                }
        }
    }
    l1.leave_processor();
}

}  // namespace
}  // namespace flatback::nested_test::moving_test
