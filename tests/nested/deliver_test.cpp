// What the host gives its virtual CPU: the exit, the injection, the wait and its window, of each kind of
// event.
#include <gtest/gtest.h>

#include "tests/nested/engine.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::deliver_test {
namespace {

using nested::Delivery;
using nested::Event;
namespace bit = vmx::interruptibility;
constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t external_41 = 0x8000'0041;
constexpr std::uint32_t external_80 = 0x8000'0080;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t machine_check = 0x8000'0312;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint64_t refused_cr0 = 0x8005'0032;  // paging without protection
constexpr std::uint32_t halted = 1;
constexpr std::uint32_t waits_for_sipi = 3;

class Deliver : public ::testing::TestWithParam<bool> {
protected:
    Deliver() {
        l1.has_one_queue = true;
        l1.prepare();
        l1.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
    }
    void ask_for_interrupts(bool acknowledge) {
        l1.raise(field::pin_based_vm_execution_controls, vmx::pin::external_interrupt_exiting);
        if (acknowledge) l1.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
    }
    void l2_takes_interrupts(bool enabled) {
        l1.vmcs02().set(field::guest_rflags,
                        x86::rflags::fixed_one | (enabled ? x86::rflags::interrupt_enable : 0));
    }
    Outcome l0_takes(L2Exit exit = {}) {
        exit.reason = ExitReason::ept_violation;
        return l1.l2_exits(exit);
    }
    static bool has(FakeVmcs& v, std::uint32_t window) {
        return (v.get(field::primary_processor_based_vm_execution_controls) & window) != 0;
    }
    bool interrupt_window() { return has(l1.vmcs02(), vmx::primary::interrupt_window_exiting); }
    bool nmi_window() { return has(l1.vmcs02(), vmx::primary::nmi_window_exiting); }
    // An exit right behind what the entry delivers.
    static bool exits_behind_delivery(FakeVmcs& v) {
        return (v.get(field::pin_based_vm_execution_controls) & vmx::pin::activate_vmx_preemption_timer) !=
                   0 &&
               v.get(field::vmx_preemption_timer_value) == 0;
    }
    bool exits_behind_delivery() { return exits_behind_delivery(l1.vmcs02()); }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Deliver, ::testing::Bool());

// --- external interrupts

TEST_P(Deliver, AnInterruptGoesThroughL2sIdtWhereL1DoesNotWantIt) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), external_41);
    EXPECT_TRUE(l1.events.empty());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected() & valid, 0U) << "once";
}

TEST_P(Deliver, AnInterruptIsAnExitWithItsVectorWhereL1Acknowledges) {
    ask_for_interrupts(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.vmcs02().set(field::guest_activity_state, halted);
    l1.vmcs02().set(field::guest_rip, 0x4444'0000);
    l1.events.add(Event::interrupt(0x41));
    const auto exits = l1.counters().exits_from_l2;
    ASSERT_EQ(l0_takes({.vectoring = 0x30}), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.counters().exits_from_l2, exits + 2) << "L0's own, and this";
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), external_41);
    EXPECT_EQ(l1.read(field::idt_vectoring_information), 0U);
    EXPECT_EQ(l1.read(field::exit_qualification), 0U);
    EXPECT_EQ(l1.read(field::guest_activity_state), halted) << "as before the event: SDM 3C 28.3.4";
    EXPECT_EQ(l1.read(field::guest_rip), 0x4444'0000U);
    EXPECT_TRUE(l1.events.empty());
    EXPECT_EQ(l1.vmcs01().get(field::guest_activity_state), 0U);
}

// SDM 3C 27.3.2.1: what no entry loads of CR0 is as L1 had it, and so an exit right behind the entry saves
// it.
TEST_P(Deliver, AnExitRightBehindL1sEntrySavesWhatTheEntryDidNotLoad) {
    constexpr std::uint64_t uncached = x86::cr0::cache_disable;
    ask_for_interrupts(true);
    FakeVmcs& of_l1 = l1.vmcs01();
    of_l1.set(field::guest_cr0, of_l1.get(field::guest_cr0) | uncached);
    const std::uint64_t written = l1.read(field::guest_cr0) | x86::cr0::not_write_through;
    l1.write(field::guest_cr0, written);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::guest_cr0), (written & ~std::uint64_t{x86::cr0::not_write_through}) | uncached);
    // One that comes when L2 has run finds what L2 made of it.
    of_l1.set(field::guest_cr0, of_l1.get(field::guest_cr0) | uncached);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_cr0, l1.vmcs02().get(field::guest_cr0) & ~uncached);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::guest_cr0) & uncached, 0U);
}

TEST_P(Deliver, ATripleFaultRightBehindL1sEntrySavesWhatTheEntryDidNotLoad) {
    FakeVmcs& of_l1 = l1.vmcs01();
    of_l1.set(field::guest_cr0, of_l1.get(field::guest_cr0) | x86::cr0::cache_disable);
    l1.write(field::guest_cr4, l1.read(field::guest_cr4) & ~x86::cr4::machine_check_enable);
    l1.events.add(Event::machine_check());
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::triple_fault));
    EXPECT_EQ(l1.read(field::guest_cr0) & x86::cr0::cache_disable, x86::cr0::cache_disable);
}

TEST_P(Deliver, AnInterruptThatL1DoesNotAcknowledgeComesToItWhenItTakesInterrupts) {
    ask_for_interrupts(false);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information) & valid, 0U);
    EXPECT_FALSE(l1.events.empty());
    EXPECT_TRUE(has(l1.vmcs01(), vmx::primary::interrupt_window_exiting)) << "RFLAGS.IF is 0 behind an exit";
    l1.close_window();
    EXPECT_FALSE(has(l1.vmcs01(), vmx::primary::interrupt_window_exiting));
    l1.extra_rflags = x86::rflags::interrupt_enable;
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.taken_by_l1, std::vector<std::uint8_t>{0x41});
    EXPECT_TRUE(l1.events.empty());
}

TEST_P(Deliver, AnInterruptIsAcknowledgedWhenTheGuestTakesItAndNotBefore) {
    l1.port.acknowledged_vector = 0x80;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.events.add(Event::interrupt_to_acknowledge());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.port.interrupts_acknowledged, 0U);
    EXPECT_TRUE(interrupt_window());
    l2_takes_interrupts(true);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l2_runs);
    EXPECT_EQ(l1.injected(), external_80);
    EXPECT_EQ(l1.port.interrupts_acknowledged, 1U);
    EXPECT_FALSE(interrupt_window());
}

TEST_P(Deliver, AnExitThatDoesNotAcknowledgeLeavesTheInterruptWithTheController) {
    ask_for_interrupts(false);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::interrupt_to_acknowledge());
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.port.interrupts_acknowledged, 0U);
    EXPECT_EQ(l1.events.first(nested::EventKind::external_interrupt), Event::interrupt_to_acknowledge());
}

TEST_P(Deliver, SeveralInterruptsComeTheHighestFirstOneAnEntry) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    for (const unsigned vector : {0x30U, 0x80U, 0x41U})
        l1.events.add(Event::interrupt(static_cast<std::uint8_t>(vector)));
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), external_80);
    EXPECT_TRUE(interrupt_window()) << "for the next";
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l2_runs);
    EXPECT_EQ(l1.injected(), external_41);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    EXPECT_FALSE(interrupt_window());
}

TEST_P(Deliver, AnInterruptOfAnEntryThatFailsIsTheHostsAgain) {
    using Refusal = VirtualCpu::Refusal;
    for (const Refusal refusal : {Refusal::vmfail, Refusal::guest_state, Refusal::msr_list}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.has_one_queue = true;
        other.prepare();
        other.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
        other.events.add(Event::interrupt(0x41));
        other.refusal = refusal;
        EXPECT_NE(other.vmlaunch(), l2_runs);
        if (refusal == Refusal::vmfail) {
            EXPECT_TRUE(other.events.empty() || other.taken_by_l1.empty());
        }
        EXPECT_TRUE(other.taken_by_l2.empty());
        other.extra_rflags = x86::rflags::interrupt_enable;
        EXPECT_EQ(other.vmptrst(), vm_succeed);
        EXPECT_EQ(other.taken_by_l1, std::vector<std::uint8_t>{0x41}) << "once, and acknowledged once";
    }
}

TEST_P(Deliver, AnInterruptThatIsWithdrawnLeavesNoWindow) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    ASSERT_TRUE(interrupt_window());
    l1.events.remove(Event::interrupt(0x41));
    l1.close_window();
    EXPECT_FALSE(interrupt_window());
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l1_sees(ExitReason::interrupt_window));
}

// ... nor does one that is withdrawn without a word keep controls of before.
TEST_P(Deliver, AWindowThatIsForgottenDoesNotOutliveL1sControls) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    ASSERT_TRUE(interrupt_window());
    l1.events.clear();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.close_window();
    EXPECT_TRUE(has(l1.vmcs02(), vmx::primary::hlt_exiting));
    EXPECT_FALSE(interrupt_window());
}

TEST_P(Deliver, AForgottenWindowDoesNotUndoL1sOwn) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    l1.events.clear();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::interrupt_window_exiting);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.close_window();
    EXPECT_TRUE(interrupt_window()) << "which L1 has opened meanwhile";
}

TEST_P(Deliver, AnInterruptWithMovSsAndInterruptsOffIsAnExitRightBehindTheInstruction) {
    ask_for_interrupts(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.vmcs02().set(field::guest_interruptibility_state, bit::blocking_by_mov_ss);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_TRUE(nmi_window()) << "an interrupt window does not open with RFLAGS.IF = 0";
    l1.vmcs02().set(field::guest_interruptibility_state, 0);
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::nmi_window}), l1_sees(ExitReason::external_interrupt));
}

TEST_P(Deliver, L1sOwnWindowComesBeforeAnInterrupt) {
    for (const bool acknowledge : {false, true}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.has_one_queue = true;
        other.prepare();
        other.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
        other.raise(field::primary_processor_based_vm_execution_controls,
                    vmx::primary::interrupt_window_exiting);
        if (acknowledge) {
            other.raise(field::pin_based_vm_execution_controls, vmx::pin::external_interrupt_exiting);
            other.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
        }
        other.events.add(Event::interrupt(0x41));
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_EQ(other.injected() & valid, 0U);
        EXPECT_EQ(other.l2_exits({.reason = ExitReason::interrupt_window}),
                  l1_sees(ExitReason::interrupt_window));
        EXPECT_FALSE(other.events.empty());
        EXPECT_TRUE(has(other.vmcs01(), vmx::primary::interrupt_window_exiting));
    }
}

TEST_P(Deliver, AnExitBehindWhatL1InjectsDoesNotWaitForIf) {
    ask_for_interrupts(true);
    l1.write(field::vm_entry_interruption_information, external_30);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    EXPECT_TRUE(exits_behind_delivery()) << "L2's gate for it may have cleared RFLAGS.IF";
    l2_takes_interrupts(false);
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}),
              l1_sees(ExitReason::external_interrupt));
}

// SDM 3A table 6-2: the NMI comes first, but L1's choice of virtual NMIs leaves L0 no window for it.
TEST_P(Deliver, AnNmiComesBeforeAnInterruptBehindWhatL1Injects) {
    ask_for_interrupts(true);
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
    l1.write(field::vm_entry_interruption_information, external_30);
    l1.events.add(Event::nmi());
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(exits_behind_delivery());
    l2_takes_interrupts(false);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), nmi);
    EXPECT_TRUE(l1.events.has(nested::EventKind::external_interrupt));
}

// Another guest had the processor meanwhile: the event still waits for the end of the delivery.
TEST_P(Deliver, TheExitBehindADeliveryIsAlsoThatOfAGuestThatComesBack) {
    ask_for_interrupts(true);
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
    l1.write(field::vmx_preemption_timer_value, 100);
    l1.write(field::vm_entry_interruption_information, external_30);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_TRUE(exits_behind_delivery());
    l1.prepare_reentry();
    EXPECT_TRUE(exits_behind_delivery());
}

// Its delivery is interrupted, and the exit comes behind it all the same; L1's own timer runs on.
TEST_P(Deliver, TheExitBehindADeliveryIsNotTheEndOfL1sTimer) {
    ask_for_interrupts(true);
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
    l1.write(field::vmx_preemption_timer_value, 100);
    l1.write(field::vm_entry_interruption_information, external_30);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 100U);
    l1.events.add(Event::init());
    ASSERT_EQ(l0_takes({.vectoring = external_30}), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    EXPECT_TRUE(exits_behind_delivery());
    l1.events.clear();
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}), l2_runs) << "withdrawn";
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 100U);
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}),
              l1_sees(ExitReason::vmx_preemption_timer_expired));
}

// --- what is due to L2 itself

TEST_P(Deliver, NoEventComesBeforeADebugExceptionThatIsDue) {
    for (const std::uint64_t due :
         {vmx::pending_debug::single_step, vmx::pending_debug::enabled_breakpoint | 1}) {
        for (const Event& event : {Event::nmi(), Event::interrupt(0x41), Event::machine_check()}) {
            for (const bool exits : {false, true}) {
                if (exits && event.kind == nested::EventKind::machine_check) continue;
                VirtualCpu other{{.shadow_vmcs = GetParam()}};
                other.has_one_queue = true;
                other.prepare();
                other.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
                other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
                if (exits)
                    other.raise(field::pin_based_vm_execution_controls,
                                vmx::pin::nmi_exiting | vmx::pin::external_interrupt_exiting);
                ASSERT_EQ(other.vmlaunch(), l2_runs);
                other.vmcs02().set(field::guest_pending_debug_exceptions, due);
                other.events.add(event);
                // Between two instructions, where an exit saves what is pending: a window of L0's.
                ASSERT_EQ(other.deliver(event), Delivery::waits)
                    << "an entry with another event would lose it: SDM 3C 27.7.3";
                EXPECT_EQ(other.vmcs02().get(field::guest_pending_debug_exceptions), due);
                EXPECT_EQ(other.vmcs02().get(field::vm_entry_interruption_information) & valid, 0U);
                EXPECT_TRUE(exits_behind_delivery(other.vmcs02()) ||
                            has(other.vmcs02(),
                                vmx::primary::interrupt_window_exiting | vmx::primary::nmi_window_exiting));
                other.vmcs02().set(field::guest_pending_debug_exceptions, 0);
                EXPECT_NE(other.deliver(event), Delivery::waits);
            }
        }
    }
}

TEST_P(Deliver, NorBeforeOneThatIsDueToL1) {
    l1.vmcs01().set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
    EXPECT_EQ(l1.deliver(Event::nmi()), Delivery::waits);
    EXPECT_TRUE(has(l1.vmcs01(), vmx::primary::nmi_window_exiting));
}

TEST_P(Deliver, AnExitByInitOrMachineCheckSavesADebugExceptionThatIsDue) {
    for (const Event& event : {Event::init(), Event::machine_check()}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
        other.raise(field::exception_bitmap, 1U << 18);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
        other.vmcs02().set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
        ASSERT_EQ(other.deliver(event), Delivery::given);
        EXPECT_EQ(other.read(field::guest_pending_debug_exceptions), vmx::pending_debug::single_step);
    }
}

TEST_P(Deliver, AnExitByAnNmiOrInterruptSavesNoBreakpointThatIsNotEnabled) {
    ask_for_interrupts(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l0_takes(), l2_runs);
    l1.vmcs02().set(field::guest_pending_debug_exceptions, 2);
    ASSERT_EQ(l1.deliver(Event::interrupt(0x41)), Delivery::given);
    EXPECT_EQ(l1.read(field::guest_pending_debug_exceptions), 0U) << "SDM 3C 28.3.4";
}

// --- what L1 injects comes first, and is not lost

TEST_P(Deliver, NothingTakesThePlaceOfWhatL1Injects) {
    for (const Event& event : {Event::machine_check(), Event::init(), Event::nmi(), Event::interrupt(0x41)}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.has_one_queue = true;
        other.prepare();
        other.write(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::interrupt_enable);
        other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
        other.raise(field::pin_based_vm_execution_controls,
                    vmx::pin::nmi_exiting | vmx::pin::external_interrupt_exiting);
        other.raise(field::exception_bitmap, 1U << 18);
        other.write(field::vm_entry_interruption_information, external_30);
        other.events.add(event);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_EQ(other.injected(), external_30);
        ASSERT_TRUE(exits_behind_delivery(other.vmcs02()))
            << "L2 exits when it has been delivered, whatever comes";
        const Outcome outcome = other.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired});
        EXPECT_EQ(outcome.kind, Outcome::Kind::l1_sees_exit);
        EXPECT_NE(outcome, l1_sees(ExitReason::vmx_preemption_timer_expired));
        EXPECT_EQ(other.read(field::idt_vectoring_information), 0U);
    }
}

// --- INIT and start-up IPIs

TEST_P(Deliver, AnInitSignalIsL2sExitWaitsInL1AndIsTheHostsOutside) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::init());
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::init_signal));
    EXPECT_TRUE(l1.events.empty());
    l1.events.add(Event::init());
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_FALSE(l1.events.empty()) << "blocked in VMX root operation";
    EXPECT_EQ(l1.vmxoff(), vm_succeed);
    EXPECT_EQ(l1.left_to_host, std::vector<Event>{Event::init()});
    EXPECT_TRUE(l1.events.empty());
}

TEST_P(Deliver, AStartUpIpiIsAnExitOfAnL2ThatWaitsForIt) {
    l1.write(field::guest_activity_state, waits_for_sipi);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_activity_state, waits_for_sipi);
    l1.events.add(Event::init());
    l1.events.add(Event::interrupt(0x41));
    l1.events.add(Event::nmi());
    ASSERT_EQ(l0_takes(), l2_runs) << "all but a start-up IPI is blocked";
    EXPECT_EQ(l1.injected() & valid, 0U);
    l1.events.clear();
    l1.events.add(Event::start_up(0x9f));
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::startup_ipi));
    EXPECT_EQ(l1.read(field::exit_qualification), 0x9fU);
    EXPECT_EQ(l1.read(field::guest_activity_state), waits_for_sipi);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information) & valid, 0U);
}

TEST_P(Deliver, AStartUpIpiThatNobodyWaitsForIsDiscarded) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::start_up(0x9f));
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_TRUE(l1.events.empty());
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.events.add(Event::start_up(0x9f));
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_TRUE(l1.events.empty());
    EXPECT_TRUE(l1.left_to_host.empty());
    EXPECT_EQ(l1.vmxoff(), vm_succeed);
    EXPECT_EQ(l1.deliver(Event::start_up(0x9f)), Delivery::reset);
}

// --- several kinds

TEST_P(Deliver, TheOrderIsThatOfTheProcessor) {
    l1.raise(field::exception_bitmap, 1U << 18);
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting);
    ask_for_interrupts(true);
    l1.write(field::guest_cr4, l1.read(field::guest_cr4) | x86::cr4::machine_check_enable);
    l1.write(field::host_cr4, l1.read(field::host_cr4) | x86::cr4::machine_check_enable);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.events.add(Event::interrupt(0x41));
    l1.events.add(Event::nmi());
    l1.events.add(Event::init());
    l1.events.add(Event::machine_check());
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), machine_check);
    EXPECT_EQ(l1.taken_by_l1, std::vector<std::uint8_t>{2}) << "INIT is blocked in L1, the NMI is not";
    l1.vmcs01().set(field::guest_interruptibility_state, 0);
    EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::init_signal));
    EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::external_interrupt));
    EXPECT_TRUE(l1.events.empty());
}

TEST_P(Deliver, EachKindOfEventHasItsOwnWindow) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l2_takes_interrupts(false);
    l1.vmcs02().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
    l1.events.add(Event::interrupt(0x41));
    l1.events.add(Event::nmi());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_TRUE(interrupt_window());
    EXPECT_TRUE(nmi_window());
    l1.vmcs02().set(field::guest_interruptibility_state, 0);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::nmi_window}), l2_runs);
    EXPECT_EQ(l1.injected(), nmi);
    EXPECT_TRUE(interrupt_window()) << "the interrupt still waits";
    EXPECT_FALSE(nmi_window());
    EXPECT_EQ(l1.vmcs02().get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting, 0U);
}

TEST_P(Deliver, AWindowAddsTheControlsOfItsKindAlone) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const FakeVmcs before = l1.vmcs02();
    const auto pin = field::pin_based_vm_execution_controls;
    const auto primary = field::primary_processor_based_vm_execution_controls;
    l2_takes_interrupts(false);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(pin), before.get(pin));
    EXPECT_EQ(l1.vmcs02().get(primary), before.get(primary) | vmx::primary::interrupt_window_exiting);
    // The host has no interrupt any more, but an NMI.
    l1.events.remove(Event::interrupt(0x41));
    l1.events.add(Event::nmi());
    l1.vmcs02().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(pin), before.get(pin) | vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
    EXPECT_EQ(l1.vmcs02().get(primary), before.get(primary) | vmx::primary::nmi_window_exiting);
}

TEST_P(Deliver, AMachineCheckBehindAnNmiLeavesNmisInL1AsTheyWere) {
    l1.write(field::guest_cr4, l1.read(field::guest_cr4) | x86::cr4::machine_check_enable);
    l1.raise(field::exception_bitmap, 1U << 18);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    // L0's window has told of an NMI; the exit's fields still say so.
    l1.vmcs02().set(field::vm_exit_interruption_information, nmi);
    ASSERT_EQ(l1.deliver(Event::machine_check()), Delivery::given);
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), 0U);
}

TEST_P(Deliver, AnEntryThatIsToFailFailsFirst) {
    ask_for_interrupts(true);
    l1.write(field::guest_cr0, refused_cr0);
    l1.events.add(Event::interrupt(0x41));
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_guest_state))
        << "an entry that is to fail fails first";
    EXPECT_FALSE(l1.events.empty());
}

}  // namespace
}  // namespace flatback::nested_test::deliver_test
