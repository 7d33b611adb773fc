#include "tag/vpid12_map.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/tag/virtual_cpu.hpp"

namespace vpid12_map_test {
namespace {

using namespace flatback::tag_test;
using flatback::tag::Extent;
using flatback::tag::FlushTarget;
using flatback::tag::raw;
using flatback::tag::TagNumber;
using flatback::tag::Vpid12;
using flatback::tag::VpidPool;
using flatback::x86::LinearAddress;

constexpr LinearAddress address{0xffff'8000'0000'5000};
constexpr LinearAddress other_address{0x7000};

class Vpid12MapTest : public testing::Test {
protected:
    VpidPool pool_{64};
    VirtualCpu<4> vcpu_{pool_};
    VirtualCpu<4> other_{pool_};
};

TEST_F(Vpid12MapTest, FlushesAFreshTagBeforeItsFirstUse) {
    const Entered entered = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(entered.flush);
    EXPECT_EQ(entered.flush->tag, entered.tag);
    EXPECT_EQ(entered.flush->cpu, cpu_a);
    EXPECT_EQ(entered.flush->extent, Extent::single_context);
    EXPECT_TRUE(entered.flush->ept_contexts) << "no INVEPT has run here either";
}

TEST_F(Vpid12MapTest, SameVpid12EntersWithoutFlushing) {
    const TagNumber tag = vcpu_.l2(1, cpu_a).tag;
    for (unsigned i = 0; i < 100; ++i) {
        const Entered again = vcpu_.l2(1, cpu_a);
        EXPECT_EQ(again.tag, tag);
        EXPECT_FALSE(again.flush);
        EXPECT_FALSE(again.shares_vpid01);
    }
}

TEST_F(Vpid12MapTest, AlternatingVpid12sEnterWithoutFlushing) {
    const TagNumber tag_of_1 = vcpu_.l2(1, cpu_a).tag;
    const TagNumber tag_of_2 = vcpu_.l2(2, cpu_a).tag;
    EXPECT_NE(tag_of_1, tag_of_2);
    for (unsigned i = 0; i < 10; ++i) {
        EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
        EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
    }
}

TEST_F(Vpid12MapTest, Vpid12sWhoseLowBitsAgreeDoNotMeet) {
    // Far apart enough to have one hint between them, whatever its size.
    const TagNumber low = vcpu_.l2(1, cpu_a).tag;
    const TagNumber high = vcpu_.l2(1 + 0x4000, cpu_a).tag;
    EXPECT_NE(low, high);
    for (unsigned i = 0; i < 4; ++i) {
        const Entered low_again = vcpu_.l2(1, cpu_a);
        EXPECT_EQ(low_again.tag, low);
        EXPECT_FALSE(low_again.flush);
        const Entered high_again = vcpu_.l2(1 + 0x4000, cpu_a);
        EXPECT_EQ(high_again.tag, high);
        EXPECT_FALSE(high_again.flush);
    }
}

TEST_F(Vpid12MapTest, VirtualCpusShareNoTag) {
    std::set<TagNumber> tags{vcpu_.vpid01.number(), other_.vpid01.number()};
    for (std::uint16_t vpid12 = 1; vpid12 <= 4; ++vpid12) {
        tags.insert(vcpu_.l2(vpid12, cpu_a).tag);
        tags.insert(other_.l2(vpid12, cpu_a).tag);
    }
    EXPECT_EQ(tags.size(), 10U);
    EXPECT_FALSE(tags.contains(TagNumber::none));
}

TEST_F(Vpid12MapTest, AFlushThatWasKeptIsOwedAgain) {
    flatback::tag::Entry entry = vcpu_.map.enter(Vpid12{1}, cpu_a);
    ASSERT_TRUE(entry.flush);
    std::move(*entry.flush).keep();
    const Entered again = vcpu_.l2(1, cpu_a);
    EXPECT_TRUE(again.flushed_tag());
    EXPECT_TRUE(again.flushed_ept());
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

// The least recently used slot goes.

TEST_F(Vpid12MapTest, EvictsTheLeastRecentlyUsedSlot) {
    std::vector<TagNumber> tag_of{TagNumber::none};
    for (std::uint16_t vpid12 = 1; vpid12 <= 4; ++vpid12) tag_of.push_back(vcpu_.l2(vpid12, cpu_a).tag);
    vcpu_.l2(1, cpu_a);

    const Entered fifth = vcpu_.l2(5, cpu_a);
    EXPECT_EQ(fifth.tag, tag_of[2]) << "2 was used longest ago";
    ASSERT_TRUE(fifth.flushed_tag());
    EXPECT_EQ(fifth.flush->extent, Extent::single_context);
    EXPECT_FALSE(fifth.flushed_ept());

    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
    EXPECT_FALSE(vcpu_.l2(3, cpu_a).flush);
    EXPECT_FALSE(vcpu_.l2(4, cpu_a).flush);
    EXPECT_TRUE(vcpu_.l2(2, cpu_a).flushed_tag());
    EXPECT_EQ(vcpu_.map.statistics().evictions, 2U);
}

TEST_F(Vpid12MapTest, CountsHitsMissesAndEvictions) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(1, cpu_b);
    for (std::uint16_t vpid12 = 2; vpid12 <= 6; ++vpid12) vcpu_.l2(vpid12, cpu_b);
    const flatback::tag::MapStatistics& counted = vcpu_.map.statistics();
    EXPECT_EQ(counted.hits, 2U);
    EXPECT_EQ(counted.misses, 6U);
    EXPECT_EQ(counted.evictions, 2U);
    EXPECT_EQ(counted.shared, 0U);
}

// INVVPID of L1's (rule 3).

TEST_F(Vpid12MapTest, InvvpidOfAVpid12ThatNeverRanOwesNothing) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_address(Vpid12{9}, address, cpu_a)));
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{9}, cpu_a)));
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{9}, cpu_a)));
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
    EXPECT_EQ(vcpu_.map.used(), 1U) << "and takes no slot";
}

TEST_F(Vpid12MapTest, InvvpidSingleIsPaidAtTheNextEntryOfThatVpid12Only) {
    const TagNumber tag = vcpu_.l2(1, cpu_a).tag;
    vcpu_.l2(2, cpu_a);
    for (unsigned i = 0; i < 5; ++i) EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(vcpu_.l2(2, cpu_a).flush);
    const Entered entered = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(entered.flush);
    EXPECT_EQ(entered.flush->tag, tag);
    EXPECT_EQ(entered.flush->extent, Extent::single_context);
    EXPECT_FALSE(entered.flush->ept_contexts) << "INVVPID does not concern guest-physical mappings";
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush) << "five INVVPIDs, one flush";
}

TEST_F(Vpid12MapTest, InvvpidRetainingGlobalsRetainsThem) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_a)));
    const Entered entered = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(entered.flush);
    EXPECT_EQ(entered.flush->extent, Extent::single_context_retaining_globals);
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

TEST_F(Vpid12MapTest, InvvpidRetainingGlobalsDoesNotWeakenAnEarlierWholeFlush) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_a)));
    EXPECT_EQ(vcpu_.l2(1, cpu_a).flush->extent, Extent::single_context);
}

TEST_F(Vpid12MapTest, InvvpidAllOwesAFlushToEverySlotAndRunsNothingNow) {
    for (std::uint16_t vpid12 = 1; vpid12 <= 4; ++vpid12) vcpu_.l2(vpid12, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_all(cpu_a)));
    for (std::uint16_t vpid12 = 1; vpid12 <= 4; ++vpid12) {
        const Entered entered = vcpu_.l2(vpid12, cpu_a);
        ASSERT_TRUE(entered.flush);
        EXPECT_EQ(entered.flush->tag, entered.tag);
        EXPECT_EQ(entered.flush->extent, Extent::single_context);
        EXPECT_FALSE(vcpu_.l2(vpid12, cpu_a).flush);
    }
}

TEST_F(Vpid12MapTest, InvvpidAllReachesNeitherVpid01NorAnotherVirtualCpu) {
    vcpu_.l1(cpu_a);
    other_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    other_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_all(cpu_a)));
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
    EXPECT_FALSE(other_.l1(cpu_a).flush);
    EXPECT_FALSE(other_.l2(1, cpu_a).flush);
}

TEST_F(Vpid12MapTest, InvvpidAddressRunsAtOnceWhereTheSlotLastRan) {
    const TagNumber tag = vcpu_.l2(1, cpu_a).tag;
    const std::optional<FlushTarget> now = pay(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a));
    ASSERT_TRUE(now);
    EXPECT_EQ(now->tag, tag);
    EXPECT_EQ(now->cpu, cpu_a);
    EXPECT_EQ(now->extent, Extent::address);
    EXPECT_EQ(now->linear_address, address);
    EXPECT_FALSE(now->ept_contexts);
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush) << "it was paid";
}

TEST_F(Vpid12MapTest, InvvpidAddressThatIsKeptIsPaidAtTheEntry) {
    vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(keep(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a)));
    EXPECT_FALSE(keep(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a))) << "folded: the same page";
    const Entered entered = vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(entered.flush);
    EXPECT_EQ(entered.flush->extent, Extent::address);
    EXPECT_EQ(entered.flush->linear_address, address);
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

TEST_F(Vpid12MapTest, TwoAddressesKeptMakeAWholeFlush) {
    vcpu_.l2(1, cpu_a);
    ASSERT_TRUE(keep(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a)));
    EXPECT_FALSE(keep(vcpu_.map.invvpid_address(Vpid12{1}, other_address, cpu_a)));
    EXPECT_EQ(vcpu_.l2(1, cpu_a).flush->extent, Extent::single_context);
}

TEST_F(Vpid12MapTest, InvvpidAddressFoldsIntoAFlushThatIsOwed) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(pay(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a)));
    EXPECT_EQ(vcpu_.l2(1, cpu_a).flush->extent, Extent::single_context);
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
}

TEST_F(Vpid12MapTest, InvvpidAddressAfterRetainingGlobalsTakesTheGlobalToo) {
    vcpu_.l2(1, cpu_a);
    EXPECT_FALSE(pay(vcpu_.map.invvpid_single_retaining_globals(Vpid12{1}, cpu_a)));
    EXPECT_FALSE(pay(vcpu_.map.invvpid_address(Vpid12{1}, address, cpu_a)));
    EXPECT_EQ(vcpu_.l2(1, cpu_a).flush->extent, Extent::single_context);
}

// The CPU under the virtual CPU changes (rule 5).

TEST_F(Vpid12MapTest, AMoveFlushesTheTagAndTheEptContextsThere) {
    const TagNumber tag = vcpu_.l2(1, cpu_a).tag;
    const Entered moved = vcpu_.l2(1, cpu_b);
    EXPECT_EQ(moved.tag, tag);
    ASSERT_TRUE(moved.flush);
    EXPECT_EQ(moved.flush->tag, tag);
    EXPECT_EQ(moved.flush->cpu, cpu_b);
    EXPECT_EQ(moved.flush->extent, Extent::single_context);
    EXPECT_TRUE(moved.flush->ept_contexts);
    EXPECT_FALSE(vcpu_.l2(1, cpu_b).flush);
}

TEST_F(Vpid12MapTest, AMoveBackFlushesAgain) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(1, cpu_b);
    const Entered back = vcpu_.l2(1, cpu_a);
    EXPECT_TRUE(back.flushed_tag());
    EXPECT_TRUE(back.flushed_ept());
}

TEST_F(Vpid12MapTest, AfterAMoveEachSlotFlushesItsTagButTheEptContextsAreFlushedOnce) {
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    EXPECT_TRUE(vcpu_.l2(1, cpu_b).flushed_ept());
    const Entered second = vcpu_.l2(2, cpu_b);
    EXPECT_TRUE(second.flushed_tag());
    EXPECT_FALSE(second.flushed_ept()) << "all of them were flushed for 1";
}

TEST_F(Vpid12MapTest, AMoveOfOneVirtualCpuCostsTheOtherNothing) {
    other_.l1(cpu_a);
    other_.l2(1, cpu_a);
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(1, cpu_b);
    EXPECT_FALSE(other_.l1(cpu_a).flush);
    EXPECT_FALSE(other_.l2(1, cpu_a).flush);
}

// L0 takes a page away (rule 6).

TEST_F(Vpid12MapTest, StaleEptContextsAreFlushedBeforeTheNextEntryWhateverItIs) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    vcpu_.map.ept_contexts_stale();
    const Entered entered = vcpu_.l2(2, cpu_a);
    ASSERT_TRUE(entered.flush);
    EXPECT_TRUE(entered.flush->ept_contexts);
    EXPECT_EQ(entered.flush->extent, Extent::nothing) << "INVEPT takes the combined mappings of all tags";
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush);
    const Entered l1 = vcpu_.l1(cpu_a);
    ASSERT_TRUE(l1.flush) << "EPT01 is an EPT context of the virtual CPU too";
    EXPECT_TRUE(l1.flush->ept_contexts);
    EXPECT_EQ(l1.flush->extent, Extent::nothing);
}

TEST_F(Vpid12MapTest, StaleEptContextsReachAnL2WithoutVpidToo) {
    vcpu_.l2_without_vpid(cpu_a);
    vcpu_.map.ept_contexts_stale();
    EXPECT_TRUE(vcpu_.l2_without_vpid(cpu_a).flushed_ept());
    EXPECT_FALSE(vcpu_.l2_without_vpid(cpu_a).flush);
}

TEST_F(Vpid12MapTest, StaleEpt02ContextsLeaveL1Alone) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    EXPECT_EQ(vcpu_.map.ept02_cpu(), cpu_a);
    vcpu_.map.ept02_contexts_stale();
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_ept());
}

// L2 without VPID (rule 7).

TEST_F(Vpid12MapTest, L2WithoutVpidRunsUnderVpid01AndFlushesItOnTheWayInAndOut) {
    vcpu_.l1(cpu_a);
    vcpu_.l2(1, cpu_a);
    for (unsigned i = 0; i < 3; ++i) {
        const Entered in = vcpu_.l2_without_vpid(cpu_a);
        EXPECT_TRUE(in.shares_vpid01);
        EXPECT_EQ(in.tag, vcpu_.vpid01.number());
        ASSERT_TRUE(in.flush);
        EXPECT_EQ(in.flush->tag, vcpu_.vpid01.number());
        EXPECT_EQ(in.flush->extent, Extent::single_context);
        const Entered out = vcpu_.l1(cpu_a);
        EXPECT_FALSE(out.shares_vpid01);
        ASSERT_TRUE(out.flush);
        EXPECT_EQ(out.flush->tag, vcpu_.vpid01.number());
        EXPECT_EQ(out.flush->extent, Extent::single_context);
    }
    EXPECT_FALSE(vcpu_.l2(1, cpu_a).flush) << "slots of L2s that do use VPID survive it";
    EXPECT_FALSE(vcpu_.l1(cpu_a).flush);
}

TEST_F(Vpid12MapTest, L0sOwnReentryOfAnL2WithoutVpidFlushesNothing) {
    vcpu_.l1(cpu_a);
    vcpu_.l2_without_vpid(cpu_a);
    EXPECT_FALSE(vcpu_.l2_without_vpid(cpu_a).flush);
    EXPECT_FALSE(vcpu_.l2_without_vpid(cpu_a).flush);
}

TEST_F(Vpid12MapTest, Vpid12ZeroIsNeverASlot) {
    for (unsigned i = 0; i < 2; ++i) {
        const Entered entered = vcpu_.l2(0, cpu_a);
        EXPECT_TRUE(entered.shares_vpid01);
        EXPECT_EQ(entered.tag, vcpu_.vpid01.number());
    }
    EXPECT_EQ(vcpu_.map.used(), 0U);
}

// VMXOFF.

TEST_F(Vpid12MapTest, ResetGivesTheTagsBack) {
    const std::uint32_t before = pool_.owned();
    vcpu_.l2(1, cpu_a);
    vcpu_.l2(2, cpu_a);
    EXPECT_EQ(pool_.owned(), before + 2);
    vcpu_.map.reset();
    EXPECT_EQ(pool_.owned(), before);
    EXPECT_EQ(vcpu_.map.used(), 0U);
    vcpu_.map.reset();
    EXPECT_EQ(pool_.owned(), before) << "once";
}

TEST_F(Vpid12MapTest, AFlushTakenBeforeAResetMarksNothingAfterIt) {
    flatback::tag::Entry entry = vcpu_.map.enter(Vpid12{1}, cpu_a);
    ASSERT_TRUE(entry.flush);
    vcpu_.map.reset();
    std::move(*entry.flush).paid();
    EXPECT_TRUE(vcpu_.l2(1, cpu_a).flushed_tag());
}

TEST(Vpid12MapEnd, GivesTheTagsBack) {
    VpidPool pool{16};
    {
        VirtualCpu<4> vcpu{pool};
        vcpu.l2(1, cpu_a);
        vcpu.l2(2, cpu_a);
        EXPECT_EQ(pool.owned(), 3U);
    }
    EXPECT_EQ(pool.owned(), 0U);
}

}  // namespace
}  // namespace vpid12_map_test
