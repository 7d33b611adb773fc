// The ledger of known bugs: each row that can be met in the tag manager is a test here, named for the row.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/tag/virtual_cpu.hpp"

namespace ledger_test {
namespace {

using namespace flatback::tag_test;
using flatback::tag::Entry;
using flatback::tag::Extent;
using flatback::tag::FlushTarget;
using flatback::tag::Policy;
using flatback::tag::TagNumber;
using flatback::tag::Vpid;
using flatback::tag::Vpid12;
using flatback::tag::VpidPool;
using flatback::x86::LinearAddress;

constexpr LinearAddress address{0x5000};

class Ledger : public testing::Test {
protected:
    VpidPool pool_{64};
    VirtualCpu<4> vcpu_{pool_};
};

// Row 2: tag allocated at vCPU creation, freed at VMXOFF: leak, use after free, double free.
TEST_F(Ledger, Row2_VirtualCpusThatNeverRanAnL2HoldOnlyTheirOwnTag) {
    std::vector<std::unique_ptr<VirtualCpu<4>>> vcpus;
    const std::uint32_t before = pool_.owned();
    for (unsigned i = 0; i < 10; ++i) vcpus.push_back(std::make_unique<VirtualCpu<4>>(pool_));
    EXPECT_EQ(pool_.owned(), before + 10);
    for (const auto& vcpu : vcpus) vcpu->map.reset();
    EXPECT_EQ(pool_.owned(), before + 10);
    vcpus.clear();
    EXPECT_EQ(pool_.owned(), before);
}

TEST_F(Ledger, Row2_VmxoffThreeTimesBesideASecondVmGivesNoTagTwoOwnersAndFreesNoneTwice) {
    VirtualCpu<4> other{pool_};
    const TagNumber others = other.l2(1, cpu_a).tag;
    for (unsigned i = 0; i < 3; ++i) {
        const TagNumber tag = vcpu_.l2(1, cpu_a).tag;
        EXPECT_NE(tag, others);
        EXPECT_NE(tag, other.vpid01.number());
        vcpu_.map.reset();
        vcpu_.map.reset();
        EXPECT_EQ(pool_.owned(), 3U);
        const Entered still = other.l2(1, cpu_a);
        EXPECT_EQ(still.tag, others);
        EXPECT_FALSE(still.flush);
    }
    // All the pool's tags are there, each once.
    std::set<TagNumber> seen;
    std::vector<Vpid> held;
    while (std::optional<Vpid> tag = pool_.allocate()) {
        EXPECT_TRUE(seen.insert(tag->number()).second);
        held.push_back(std::move(*tag));
    }
    EXPECT_EQ(seen.size(), 61U);
}

// Row 5: only type 2 offered; old L1s use type 1.
TEST_F(Ledger, Row5_TypeOneWorks) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_tag());
}

// Row 11: type 0 flushed the whole context.
TEST_F(Ledger, Row11_TypeZeroTouchesOneAddress) {
    vcpu_.l2(1, cpu_a);
    const std::optional<FlushTarget> now = pay(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a));
    ASSERT_TRUE(now);
    EXPECT_EQ(now->extent, Extent::address);
    EXPECT_EQ(now->linear_address, address);
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

TEST_F(Ledger, Row11_TypeZeroFromAnotherCpuTouchesOneAddressOnceBack) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l1(cpu_b);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_b)));
    const Entered back = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(back.flush);
    EXPECT_EQ(back.flush->extent, Extent::address);
    EXPECT_EQ(back.flush->linear_address, address);
}

// Row 13: change of vpid12 ran INVEPT of L1's root and no INVVPID.
TEST_F(Ledger, Row13_AChangeOfVpid12RunsTheRightOperationOnTheRightTagAndNoOther) {
    VirtualCpu<1> one_slot{pool_};
    one_slot.l1(cpu_a);
    one_slot.l2(1, cpu_a);
    one_slot.l1(cpu_a);
    const Entered changed = one_slot.l2(2, cpu_a);
    ASSERT_TRUE(changed.flush);
    EXPECT_EQ(changed.flush->tag, changed.tag);
    EXPECT_NE(changed.flush->tag, one_slot.vpid01.number());
    EXPECT_EQ(changed.flush->extent, Extent::single_context);
    EXPECT_FALSE(changed.flush->ept_contexts);
    EXPECT_FALSE(one_slot.l1(cpu_a).flush);
}

// Row 14: no vpid02: INVVPID did nothing though L2 ran under vpid01.
TEST(LedgerExhausted, Row14_InvvpidFlushesVpid01WhereL2RanUnderIt) {
    VpidPool pool{1};
    VirtualCpu<4> vcpu{pool};
    vcpu.l1(cpu_a);
    const auto invvpid = [&](int type) {
        switch (type) {
            case 0:
                return vcpu.map.invvpid_address(Vpid12{1}, address, cpu_a);
            case 1:
                return vcpu.map.invvpid_single(Vpid12{1}, cpu_a);
            case 2:
                return vcpu.map.invvpid_all(cpu_a);
            default:
                return vcpu.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_a);
        }
    };
    for (int type = 0; type <= 3; ++type) EXPECT_FALSE(pay(invvpid(type))) << "no L2 has run yet";
    for (int type = 0; type <= 3; ++type) {
        EXPECT_TRUE(vcpu.l2(1, cpu_a).shares_vpid01);
        vcpu.l1(cpu_a);
        const std::optional<FlushTarget> now = pay(invvpid(type));
        ASSERT_TRUE(now) << "type " << type;
        EXPECT_EQ(now->tag, vcpu.vpid01.number());
        EXPECT_EQ(now->extent, Extent::single_context);
    }
}

TEST(LedgerExhausted, Row14_InvvpidOnAnotherCpuThanTheOneThatHoldsVpid01IsPaidAtTheNextEntry) {
    VpidPool pool{1};
    VirtualCpu<4> vcpu{pool};
    vcpu.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu.map.invvpid_single(Vpid12{1}, cpu_b)));
    EXPECT_TRUE(vcpu.l2(1, cpu_a).flushed_tag());
}

// Row 15: flush ran before the destination's CR3 and EPTP were loaded.
TEST_F(Ledger, Row15_TheTargetOfEveryFlushIsTheDestination) {
    const auto aimed_at_destination = [](const Entered& entered, flatback::tag::Cpu cpu) {
        return !entered.flush || (entered.flush->tag == entered.tag && entered.flush->cpu == cpu);
    };
    for (const flatback::tag::Cpu cpu : {cpu_a, cpu_b, cpu_a}) {
        EXPECT_TRUE(aimed_at_destination(vcpu_.l1(cpu), cpu));
        EXPECT_TRUE(aimed_at_destination(vcpu_.l2(1, cpu), cpu));
        EXPECT_TRUE(aimed_at_destination(vcpu_.l2_without_vpid(cpu), cpu));
        EXPECT_TRUE(aimed_at_destination(vcpu_.l2(2, cpu), cpu));
        EXPECT_TRUE(aimed_at_destination(vcpu_.l1(cpu), cpu));
    }
}

// Row 16: every L2 exit still flushed. Row 20: over-flush on transitions.
TEST_F(Ledger, Row16And20_PingPongOfL1AndL2FlushesNothing) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    for (unsigned i = 0; i < 1000; ++i) {
        ASSERT_FALSE(vcpu_.l1(cpu_a).flush);
        ASSERT_FALSE(vcpu_.l2(1, cpu_a).flush);
    }
}

TEST_F(Ledger, Row20_AnL2WithoutVpidCostsTwoFlushesAnEntryAndNoMore) {
    vcpu_.l1(cpu_a);
    vcpu_.l2_without_vpid(cpu_a);
    unsigned flushes = 0;
    for (unsigned i = 0; i < 100; ++i) {
        flushes += vcpu_.l1(cpu_a).flushed_tag() ? 1U : 0U;
        flushes += vcpu_.l2_without_vpid(cpu_a).flushed_tag() ? 1U : 0U;
    }
    EXPECT_EQ(flushes, 200U);
}

// Row 17: remote flush reached only the current context; L2 kept a freed host page.
TEST_F(Ledger, Row17_APageTakenWhileL1RunsIsOutOfReachForAnL2WithTheSameVpid12) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l1(cpu_a);
    vcpu_.map.ept_contexts_stale();
    vcpu_.l1(cpu_a);
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_ept()) << "L1's entry paid for EPT01, not for EPT02";
}

// Row 18: INVEPT of a cached, inactive EPTP had no effect. Here: an INVEPT where the contexts have not run.
TEST_F(Ledger, Row18_InveptOnAnotherCpuThanTheContextsRanOnIsEffectiveAtTheirNextUse) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l1(cpu_b);
    ASSERT_NE(vcpu_.map.ept02_cpu(), cpu_b);
    vcpu_.map.ept02_contexts_stale();
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_ept());
}

// Row 22: guest flush always hit vpid01.
TEST_F(Ledger, Row22_AFlushByL2TakesItsOwnTagAndKeepsL1s) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    // What the engine does when it emulates L2's CR4.PGE toggle.
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    const Entered reentered = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(reentered.flushed_tag());
    EXPECT_NE(reentered.flush->tag, vcpu_.vpid01.number());
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
}

// Row 23: a request raised in L1 was consumed in L2's context.
TEST_F(Ledger, Row23_AFlushRaisedInL1IsNotConsumedByTheL2EnteredNext) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    vcpu_.l1(cpu_a);
    vcpu_.vpid01.invalidate();
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush) << "not L2's to pay";
    const Entered back = vcpu_.l1(cpu_a);
    ASSERT_TRUE(back.flushed_tag());
    EXPECT_EQ(back.flush->tag, vcpu_.vpid01.number());
    EXPECT_EQ(back.flush->extent, Extent::single_context);
}

// Row 24: a new vpid12 did not sync. Here: vpid12 1, 2, 1 with INVVPIDs between.
TEST_F(Ledger, Row24_InvvpidOfAVpid12WhileAnotherRunsIsPaidWhenItIsBack) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_tag());
}

// Row 25: L2 without VPID ran on vpid01 but flushes went to vpid02.
TEST_F(Ledger, Row25_TheFlushHitsTheTagThatL2RanUnder) {
    const TagNumber vpid02 = vcpu_.l2(1, cpu_a).tag;
    vcpu_.l1(cpu_a);
    const Entered in = vcpu_.l2_without_vpid(cpu_a);
    ASSERT_TRUE(in.flushed_tag());
    EXPECT_EQ(in.flush->tag, in.tag);
    EXPECT_NE(in.flush->tag, vpid02);
    // L0 emulates a flush of that L2's own.
    vcpu_.vpid01.invalidate();
    const Entered again = vcpu_.l2_without_vpid(cpu_a);
    ASSERT_TRUE(again.flushed_tag());
    EXPECT_EQ(again.flush->tag, vcpu_.vpid01.number());
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

// Row 27 (CVE-2026-89932): last_vpid survived VMXOFF; the new vpid02 was used without a flush.
TEST(LedgerSmallPool, Row27_ATagAfterVmxoffIsFlushedBeforeItIsUsedAgain) {
    VpidPool pool{2};
    VirtualCpu<4> vcpu{pool};
    const TagNumber tag = vcpu.l2(1, cpu_a).tag;
    vcpu.map.reset();
    {
        // Another VM takes the tag and runs with it on the same CPU.
        const std::optional<Vpid> others = pool.allocate();
        ASSERT_TRUE(others);
        ASSERT_EQ(others->number(), tag);
    }
    const Entered again = vcpu.l2(1, cpu_a);
    ASSERT_EQ(again.tag, tag);
    ASSERT_TRUE(again.flushed_tag());
    EXPECT_EQ(again.flush->tag, tag);
    EXPECT_EQ(again.flush->extent, Extent::single_context);
}

// Row 28: INVVPID ran on a CPU other than the one holding the entries.
TEST_F(Ledger, Row28_RunOnAInvvpidOnBBackOnALeavesNothingStale) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l1(cpu_b);
    for (const int type : {1, 3, 2}) {
        std::optional<FlushTarget> now;
        if (type == 1) now = pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_b));
        if (type == 3) now = pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_b));
        if (type == 2) now = pay(vcpu_.map.invvpid_all(cpu_b));
        EXPECT_FALSE(now) << "B holds nothing of it";
        const Entered back = vcpu_.l2(1, cpu_a);
        ASSERT_TRUE(back.flushed_tag()) << "type " << type;
        EXPECT_EQ(back.flush->cpu, cpu_a);
    }
}

// Row 29 (CVE-2026-89930): a failing entry took the flush and gave it to vpid01.
TEST_F(Ledger, Row29_AFailedEntryBeforeTheFlushRanLeavesItOwedExactlyOnce) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    {
        Entry failing = vcpu_.map.enter(Vpid12{2}, cpu_a);
        ASSERT_TRUE(failing.flush);
        std::move(*failing.flush).keep();
    }
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush) << "it is not vpid01's";
    EXPECT_TRUE(vcpu_.l2(2, cpu_a).flushed_tag());
    EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
}

TEST_F(Ledger, Row29_AFailedEntryAfterTheFlushRanOwesNoSecondOne) {
    vcpu_.l1(cpu_a);
    EXPECT_TRUE(vcpu_.l2(2, cpu_a).flushed_tag());  // and then VMRESUME fails
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
    EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
}

TEST_F(Ledger, Row29_AFailedEntryWithoutVpidCountsAsEntryAndExit) {
    vcpu_.l1(cpu_a);
    EXPECT_TRUE(vcpu_.l2_without_vpid(cpu_a).flushed_tag());  // and then VMRESUME fails
    EXPECT_TRUE(vcpu_.l1(cpu_a).flushed_tag());
}

// Row 30: pool exhausted twice over: VPID enabled with tag 0.
TEST(LedgerExhausted, Row30_WithoutAnyTagTheEntrySaysSoAndOwesNoInvvpid) {
    VpidPool pool{0};
    VirtualCpu<4> vcpu{pool};
    EXPECT_EQ(vcpu.l1(cpu_a).tag, TagNumber::none);
    for (const std::uint16_t vpid12 : std::array<std::uint16_t, 3>{1, 2, 1}) {
        const Entered entered = vcpu.l2(vpid12, cpu_a);
        EXPECT_EQ(entered.tag, TagNumber::none) << "rule 8: clear enable VPID";
        EXPECT_FALSE(entered.flushed_tag()) << "VM entry flushes VPID 0000H itself";
    }
    EXPECT_FALSE(pay(vcpu.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(pay(vcpu.map.invvpid_all(cpu_a)));
    EXPECT_EQ(vcpu.l2_without_vpid(cpu_a).tag, TagNumber::none);
    EXPECT_FALSE(vcpu.l1(cpu_a).flushed_tag());
}

TEST(LedgerExhausted, Row30_WithoutAnyTagGuestPhysicalMappingsAreFlushedAllTheSame) {
    VpidPool pool{0};
    VirtualCpu<4> vcpu{pool};
    const Entered first = vcpu.l2(1, cpu_a);
    ASSERT_TRUE(first.flush);
    EXPECT_TRUE(first.flush->ept_contexts);
    EXPECT_EQ(first.flush->extent, Extent::nothing);
    EXPECT_FALSE(vcpu.l2(1, cpu_a).flush);
    EXPECT_TRUE(vcpu.l2(1, cpu_b).flushed_ept());
}

// Row 31: type 3 offered, then VMfailed.
TEST_F(Ledger, Row31_TypeThreeWorks) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_a)));
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_tag());
}

// Row 32: returned vpid12 in place of the tag. The types are apart: neither converts to the other.
static_assert(!std::is_convertible_v<Vpid12, TagNumber> && !std::is_constructible_v<std::uint16_t, Vpid12>);

TEST_F(Ledger, Row32_TheTagIsNotVpid12) {
    const std::uint16_t vpid12 = 4711;
    const Entered entered = vcpu_.l2(vpid12, cpu_a);
    EXPECT_NE(raw(entered.tag), vpid12);
    EXPECT_EQ(raw(entered.flush->tag), raw(entered.tag));
}

// Row 33: raw all-contexts hits other VMs. Row 34: type 2 used the ignored VPID operand.
TEST_F(Ledger, Row33And34_TypeTwoFlushesEverySlotOfThisVirtualCpuAndNothingElse) {
    VirtualCpu<4> other{pool_};
    vcpu_.l1(cpu_a);
    other.l1(cpu_a);
    for (std::uint16_t vpid12 = 1; vpid12 <= 3; ++vpid12) {
        vcpu_.l2(vpid12, cpu_a);
        other.l2(vpid12, cpu_a);
    }
    // No operand can name a VPID: the function has none.
    EXPECT_FALSE(pay(vcpu_.map.invvpid_all(cpu_a)));
    for (std::uint16_t vpid12 = 1; vpid12 <= 3; ++vpid12) {
        EXPECT_TRUE(vcpu_.l2(vpid12, cpu_a).flushed_tag());
        EXPECT_FALSE(other.l2(vpid12, cpu_a).flush);
    }
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
    EXPECT_FALSE(other.l1(cpu_a).flush);
}

// Row 35: one VPID used with several EP4TAs. One vpid12 has one tag whatever the EPT context, and INVVPID
// takes its combined mappings of every EP4TA (SDM 3C 29.4.3.1); a stale page is stale in all of them.
TEST_F(Ledger, Row35_OneTagAndOneFlushServeEveryEptContextOfAVpid12) {
    const TagNumber with_first_eptp = vcpu_.l2(1, cpu_a).tag;
    const TagNumber with_second_eptp = vcpu_.l2(1, cpu_a).tag;
    EXPECT_EQ(with_first_eptp, with_second_eptp);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_EQ(vcpu_.l2(1, cpu_a).flush->extent, Extent::single_context);
}

// Row 36: vpid12 wraps 65535 to 1.
TEST_F(Ledger, Row36_NoEntryOfTheOld1SurvivesWhereL1FlushedItBeforeTheWrap) {
    for (const flatback::tag::Policy policy : {Policy::mapped, Policy::single}) {
        VirtualCpu<4> vcpu{pool_, policy};
        vcpu.l2(1, cpu_a);
        for (std::uint32_t vpid12 = 2; vpid12 <= 65535; ++vpid12) {
            if (vpid12 == 3) {
                EXPECT_FALSE(pay(vcpu.map.invvpid_single(Vpid12{1}, cpu_a)));
            }
            ASSERT_TRUE(vcpu.l2(static_cast<std::uint16_t>(vpid12), cpu_a).flushed_tag());
        }
        EXPECT_TRUE(vcpu.l2(1, cpu_a).flushed_tag());
    }
}

TEST_F(Ledger, Row36_AndNoneWhereTheOld1StillHasItsSlot) {
    vcpu_.l2(65535, cpu_a);
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_all(cpu_a)));
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_tag());
}

// Row 37: L1 vCPU moves A, B, A while only L1 ran.
TEST_F(Ledger, Row37_AMoveThereAndBackInWhichOnlyL1RanCostsTheSlotsNothing) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    vcpu_.l1(cpu_b);
    EXPECT_TRUE(vcpu_.l1(cpu_a).flushed_tag()) << "L1 itself did run on B";
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
    EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
}

TEST_F(Ledger, Row37_AMoveInWhichOneL2RanCostsTheOtherNoInvvpid) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    vcpu_.l2(2, cpu_b);
    const Entered back = vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(back.flushed_tag());
    EXPECT_TRUE(back.flushed_ept()) << "the EPT contexts are the virtual CPU's, and they ran on B";
}

}  // namespace
}  // namespace ledger_test
