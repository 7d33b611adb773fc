// What only L0 can see: tags and their owners.
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/trial/nested_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::l0_state_test {
namespace {

constexpr std::uint64_t page_a = 0x4000'0000;

Scenario one_l2(std::uint8_t vm, std::uint16_t vpid12) {
    Scenario say;
    say.on(vm, 0).edit().map(1, page_a, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = vpid12, .tables = 1}).vmlaunch().l2().load(page_a).vmcall();
    say.l1().vmxoff();
    return say;
}

TEST(LedgerRow02, VmxonAndVmxoffThreeTimesBesideASecondVmLeaveNoTag) {
    NestedWorld world(NestedWorld::Options{});
    Runner runner(world);
    const auto idle = world.tags_owned();
    EXPECT_EQ(idle, 1U);  // vpid01
    Scenario create;
    create.on(1, 0).l0().create_vm(1);
    runner.run(create.program());
    for (unsigned round = 0; round < 3; ++round) {
        for (const std::uint8_t vm : {std::uint8_t{0}, std::uint8_t{1}}) {
            const Program program = one_l2(vm, 1).program();
            for (const Step& step : program.steps) {
                const Observation seen = runner.step(step);
                EXPECT_TRUE(seen.status == Observation::Status::done ||
                            seen.status == Observation::Status::entry ||
                            seen.status == Observation::Status::exit)
                    << describe(seen);
            }
        }
        EXPECT_EQ(world.tags_owned(), 2U);
    }
}

TEST(LedgerRow02, VirtualCpusWithoutVmxonLeaveThePoolFullButForTheirVpid01) {
    NestedWorld world({.vcpus = 8});
    EXPECT_EQ(world.tags_owned(), 8U);
    EXPECT_TRUE(world.destroy_vm(0));
    EXPECT_EQ(world.tags_owned(), 0U);
}

TEST(LedgerRow10, DestroyingAVmAtAnyPointGivesEveryTagBack) {
    const Program program = find_ledger_case("TwoVpid12TakingTurnsFlushNothing")->program;
    for (std::size_t point = 0; point <= program.steps.size(); ++point) {
        NestedWorld world(NestedWorld::Options{});
        Runner runner(world);
        for (std::size_t number = 0; number < point; ++number) runner.step(program.steps[number]);
        EXPECT_TRUE(world.destroy_vm(0));
        EXPECT_EQ(world.tags_owned(), 0U) << "after step " << point;
    }
}

TEST(LedgerRow32, TheHardwareVmcsNeverHoldsVpid12) {
    NestedWorld world(NestedWorld::Options{});
    Runner runner(world);
    bool ran = false;
    const Program program = one_l2(0, 500).program();
    for (const Step& step : program.steps) {
        runner.step(step);
        const std::uint16_t tag = world.running_tag(0, 0);
        EXPECT_NE(tag, 500);
        if (world.running(0, 0) == Actor::l2) {
            ran = true;
            EXPECT_NE(tag, 0);
            EXPECT_NE(tag, world.vpid01(0, 0));
        } else {
            EXPECT_EQ(tag, world.vpid01(0, 0));
        }
    }
    EXPECT_TRUE(ran);
}

TEST(LedgerRow33, InvvpidOfAllContextsLeavesOtherVmsTheirTags) {
    NestedWorld world({.record_flushes = true});
    Runner runner(world);
    Scenario say;
    say.l0().on(1, 0).create_vm(1);
    runner.run(say.program());
    // VM 1's L2 keeps its tag: it has only ended, VMX operation goes on.
    Program other = one_l2(1, 1).program();
    other.steps.pop_back();
    std::set<std::uint16_t> of_vm_1;
    for (const Step& step : other.steps) {
        runner.step(step);
        of_vm_1.insert(world.running_tag(1, 0));
    }
    EXPECT_EQ(of_vm_1.size(), 2U);  // L1's and the L2's
    static_cast<void>(world.take_flushes());
    Scenario all;
    all.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .tables = 1}).vmlaunch().l2().vmcall();
    all.l1().invvpid_all().vmresume();
    runner.run(all.program());
    const std::vector<HardwareFlush> flushes = world.take_flushes();
    EXPECT_FALSE(flushes.empty());
    for (const HardwareFlush& flush : flushes) {
        EXPECT_NE(flush.type, 2U);
        EXPECT_FALSE(!flush.invept && of_vm_1.contains(flush.vpid));
    }
}

}  // namespace
}  // namespace flatback::machine::l0_state_test
