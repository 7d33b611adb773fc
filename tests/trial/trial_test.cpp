// The comparison itself: it sees what is different, and says it so that a person understands.
#include "judge/trial/trial.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "judge/trial/defect.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::trial_test {
namespace {

constexpr std::uint64_t page_a = 0x4000'0000;

class DropsInvvpid final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) run(flush);
    }
};

Program with_an_edit_and_invvpid() {
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 7, .tables = 1}).vmlaunch().l2().load(page_a).vmcall();
    say.l1().cpuid().edit().map(1, page_a, layout::data_page(3)).l1().invvpid_single(7).vmresume();
    say.l2().load(page_a);
    return say.program();
}

TEST(Trial, TheEngineIsTheSame) {
    EXPECT_FALSE(compare(with_an_edit_and_invvpid(), {}).has_value());
}

TEST(Trial, AMissingFlushIsADifferenceInWhatIsPermitted) {
    DropsInvvpid defect;
    const auto difference = compare(with_an_edit_and_invvpid(), {.defect = &defect});
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->kind, Difference::Kind::permitted);
    EXPECT_EQ(difference->step, 10U);
    EXPECT_EQ(difference->outcome.outcome.physical, layout::data_page(0));
    EXPECT_EQ(difference->outcome.provenance.made_at, 4U);
}

TEST(Trial, TheAccountIsShortAndNamesTheEntryItsTagAndTheStepThatShouldHaveDroppedIt) {
    DropsInvvpid defect;
    const std::string text = account(with_an_edit_and_invvpid(), {.defect = &defect});
    EXPECT_EQ(text.find("cpuid"), std::string::npos) << text;
    EXPECT_NE(text.find("The entry was made at step 4 (l2 load 0x40000000) under hardware VPID 2, and should "
                        "have gone at "
                        "step 7 (l1 invvpid 1 7 0)"),
              std::string::npos)
        << text;
}

TEST(Trial, AnEventThatL1InjectsAndAnExceptionThatExitsAreCompared) {
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 7, .tables = 1});
    say.vmwrite(vmx::field::vm_entry_exception_error_code, 0x18);
    say.vmwrite(vmx::field::vm_entry_interruption_information, 0x8000'0B0D);  // #GP, with its error code
    say.vmwrite(vmx::field::exception_bitmap, 1U << 14).vmlaunch().l2().load(page_a + 0x5000);
    const Program program = say.program();
    EXPECT_FALSE(compare(program, {}).has_value());

    // Both did come about, under the engine too.
    NestedWorld world(NestedWorld::Options{});
    const std::vector<Observation> seen = Runner(world).run(program);
    const Observation& entry = seen[program.steps.size() - 2];
    EXPECT_EQ(entry.status, Observation::Status::entry);
    EXPECT_EQ(entry.event.vector, 13);
    EXPECT_EQ(entry.event.error_code, 0x18U);
    const Observation& exit = seen.back();
    EXPECT_EQ(exit.status, Observation::Status::exit);
    EXPECT_EQ(exit.exit.interruption_information, 0x8000'0B0EU);
    EXPECT_EQ(exit.exit.qualification, page_a + 0x5000);
}

TEST(Trial, AVmFindsNothingThatAnEarlierOneLeftInMemory) {
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).poke(layout::data_page(0), 7).l0().destroy_vm();
    say.create_vm(1).edit().map(2, page_a, layout::data_page(0));
    EXPECT_FALSE(compare(say.program(), {}).has_value());
}

TEST(Trial, APageFaultOfAVmxInstructionsOperandDropsWhatIsCachedForItsAddress) {
    // Hierarchy 1 does not map the operand of VMPTRST; the exit of L2 goes back to hierarchy 0, which does.
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 1, .tables = 1}).vmlaunch().l2().vmcall().l1();
    say.mov_to_cr3(layout::page_root(1) | 1).fetch(page_a).vmptrst().vmresume().l2().vmcall();
    say.l1().fetch(layout::scratch(0));
    EXPECT_FALSE(compare(say.program(), {}).has_value());
}

TEST(Trial, AVmcsTakenFromAnotherProcessorEndsTheComparison) {
    // SDM 3C 25.11.1 leaves open what comes of it.
    Scenario say;
    say.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .tables = 1});
    say.on(0, 1).l1().vmxon().vmptrld(layout::vmcs_region(0)).vmlaunch();
    EXPECT_FALSE(compare(say.program(), {.vcpus = 2}).has_value());
}

TEST(Trial, WhatTheProgramItselfLeavesOpenIsNotADifference) {
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 7, .tables = 1}).vmlaunch().l2().load(page_a);
    say.edit().map(1, page_a, layout::data_page(3)).l2().load(page_a).vmcall();
    EXPECT_FALSE(compare(say.program(), {}).has_value());
}

TEST(Trial, AnL1ThatFetchesAheadMayFindWhatItsEptMapped) {
    // EPT02 was filled for the neighbours too; a bare processor may have cached them as well.
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).map(1, page_a + 0x1000, layout::data_page(1));
    for (unsigned page = 0; page < 3; ++page)
        say.ept_map(0, layout::data_page(page), layout::data_page(page));
    say.l1()
        .vmxon()
        .prepare(layout::vmcs_region(0), {.vpid = 7, .ept = 0, .tables = 1})
        .vmlaunch()
        .l2()
        .load(page_a);
    say.edit().ept_map(0, layout::data_page(1), layout::data_page(2)).l2().load(page_a + 0x1000);
    EXPECT_FALSE(compare(say.program(), {}).has_value());
}

}  // namespace
}  // namespace flatback::machine::trial_test
