// INIT and start-up IPIs on the machine, by the SDM: who takes them, who keeps them out, and what they reset.
#include <gtest/gtest.h>

#include <cstdint>

#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine::init_test {
namespace {

namespace field = vmx::field;
using vmx::ActivityState;

constexpr std::uint64_t vmcs = layout::vmcs_region(0);

class Init : public ::testing::Test {
protected:
    Observation make(const Scenario& say) {
        Observation last;
        for (const Step& step : say.program().steps) last = runner.step(step);
        return last;
    }
    void enter_l2(std::uint64_t activity = 0) {
        make(Scenario{}.edit().map(1, 0x4000'0000, layout::data_page(0)).l1().vmxon());
        make(Scenario{}.prepare(vmcs, {.vpid = 1}).vmwrite(field::guest_activity_state, activity).vmlaunch());
    }
    std::uint64_t read(auto which) { return make(Scenario{}.vmread(which)).value; }
    [[nodiscard]] const Cpu& cpu() { return world.machine().cpu(0); }

    BareWorld world;
    Runner runner{world};
};

// SDM 3A table 10-1.
TEST_F(Init, ResetsTheProcessorButForItsMsrsAndCaching) {
    constexpr std::uint64_t uncached = Registers{}.cr0 | x86::cr0::cache_disable;
    make(Scenario{}.wrmsr(x86::msr::ia32_lstar, 0x1234).wrmsr(x86::msr::ia32_pat, 0x0606'0606'0606'0606));
    make(Scenario{}.mov_to_cr0(uncached).sti().l0().init());
    const Registers& now = cpu().registers;
    EXPECT_EQ(now.activity, ActivityState::wait_for_sipi);
    EXPECT_EQ(now.cr0, 0x4000'0010U);
    EXPECT_EQ(now.cr3, 0U);
    EXPECT_EQ(now.cr4, 0U);
    EXPECT_EQ(now.efer, 0U);
    EXPECT_EQ(now.rflags, 2U);
    EXPECT_EQ(now.rip, 0xFFF0U);
    EXPECT_EQ(now.segment(SegmentName::cs), (Segment{0xF000, 0xFFFF'0000, 0xFFFF, 0x9B}));
    EXPECT_EQ(now.segment(SegmentName::ss), (Segment{0, 0, 0xFFFF, 0x93}));
    EXPECT_EQ(now.lstar, 0x1234U);
    EXPECT_EQ(now.pat, 0x0606'0606'0606'0606U);
    EXPECT_EQ(make(Scenario{}.l1().nop()).status, Observation::Status::idle);
}

TEST_F(Init, IsFollowedByAStartUpIpi) {
    make(Scenario{}.l0().init().start_up(0x9A));
    EXPECT_EQ(cpu().registers.activity, ActivityState::active);
    EXPECT_EQ(cpu().registers.rip, 0U);
    EXPECT_EQ(cpu().registers.segment(SegmentName::cs), (Segment{0x9A00, 0x9'A000, 0xFFFF, 0x9B}));
    EXPECT_EQ(make(Scenario{}.l1().nop()).status, Observation::Status::done);
    make(Scenario{}.l0().start_up(0x11));
    EXPECT_EQ(cpu().registers.segment(SegmentName::cs).selector, 0x9A00) << "it waits no longer";
    // And to a kernel as at first.
    make(Scenario{}.l1().boot());
    EXPECT_TRUE(cpu().registers.in_64_bit_mode());
    EXPECT_EQ(cpu().registers.cr0, Registers{}.cr0);
    EXPECT_EQ(cpu().registers.cr3, layout::page_root(0));
    EXPECT_EQ(make(Scenario{}.l1().vmxon()).flags, 0U);
    EXPECT_TRUE(cpu().in_vmx_operation);
}

// SDM 3C 24.8.
TEST_F(Init, IsBlockedInVmxRootOperation) {
    make(Scenario{}.l1().vmxon().l0().init());
    EXPECT_FALSE(world.machine().can_take_init(0));
    EXPECT_EQ(make(Scenario{}.l1().nop()).status, Observation::Status::done);
    make(Scenario{}.l1().vmxoff());
    EXPECT_EQ(cpu().registers.activity, ActivityState::wait_for_sipi);
}

// SDM 3C 26.2.
TEST_F(Init, EndsAnL2WhateverItsControlsAre) {
    enter_l2();
    const std::uint64_t rip = cpu().registers.rip;
    make(Scenario{}.l2().mov_to_ss().l0().init());
    EXPECT_FALSE(cpu().in_non_root());
    EXPECT_EQ(read(field::exit_reason), 3U);
    EXPECT_EQ(read(field::exit_qualification), 0U);
    EXPECT_EQ(read(field::guest_rip), rip + 2);
    EXPECT_EQ(read(field::guest_interruptibility_state), 2U) << "blocking by MOV SS does not keep it out";
    EXPECT_FALSE(world.could_take_init(0, 0)) << "the exit has used it up";
}

// SDM 3C 25.4.2.
TEST_F(Init, IsBlockedByAnL2ThatWaitsForAStartUpIpi) {
    enter_l2(3);
    make(Scenario{}.l0().init().nmi().interrupt(0x41));
    EXPECT_TRUE(cpu().in_non_root());
    EXPECT_EQ(make(Scenario{}.l2().nop()).status, Observation::Status::idle);
    make(Scenario{}.l0().start_up(0x47));
    EXPECT_FALSE(cpu().in_non_root());
    EXPECT_EQ(read(field::exit_reason), 4U);
    EXPECT_EQ(read(field::exit_qualification), 0x47U);
    EXPECT_EQ(read(field::guest_activity_state), 3U);
}

TEST_F(Init, OfAnL2ThatDoesNotWaitAStartUpIpiIsLost) {
    enter_l2();
    make(Scenario{}.l0().start_up(0x47));
    EXPECT_TRUE(cpu().in_non_root());
    make(Scenario{}.l2().vmcall());
    EXPECT_EQ(read(field::exit_reason), 18U);
}

TEST_F(Init, ResetsTheLocalApic) {
    make(Scenario{}.l0().tpr(0x50).interrupt(0x41).init());
    EXPECT_EQ(world.local_apic(0, 0), LocalApic{});
}

}  // namespace
}  // namespace flatback::machine::init_test
