// What the map does with the tags it may have: policies, and too few tags. And vpid01, which all of them fall
// back to.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "tests/tag/virtual_cpu.hpp"

namespace tag_supply_test {
namespace {

using namespace flatback::tag_test;
using flatback::tag::Extent;
using flatback::tag::Policy;
using flatback::tag::TagNumber;
using flatback::tag::Vpid;
using flatback::tag::VpidPool;
using flatback::x86::LinearAddress;

TEST(Policies, SingleKeepsOneTagAndFlushesItAtAChangeOfVpid12) {
    VpidPool pool{16};
    VirtualCpu<4> vcpu{pool, Policy::single};
    EXPECT_EQ(vcpu.map.capacity(), 1U);
    const TagNumber tag = vcpu.l2(1, cpu_a).tag;
    EXPECT_FALSE(vcpu.l2(1, cpu_a).flush);
    for (unsigned i = 0; i < 3; ++i) {
        for (const std::uint16_t vpid12 : std::array<std::uint16_t, 2>{2, 1}) {
            const Entered changed = vcpu.l2(vpid12, cpu_a);
            EXPECT_EQ(changed.tag, tag);
            ASSERT_TRUE(changed.flush);
            EXPECT_EQ(changed.flush->tag, tag);
            EXPECT_EQ(changed.flush->extent, Extent::single_context);
        }
    }
    EXPECT_EQ(pool.owned(), 2U);
}

TEST(Policies, OffGivesNoTagAndTreatsEveryL2AsWithoutVpid) {
    VpidPool pool{16};
    VirtualCpu<4> vcpu{pool, Policy::off};
    EXPECT_EQ(vcpu.map.capacity(), 0U);
    vcpu.l1(cpu_a);
    const Entered entered = vcpu.l2(1, cpu_a);
    EXPECT_TRUE(entered.shares_vpid01);
    EXPECT_EQ(entered.tag, vcpu.vpid01.number());
    EXPECT_TRUE(entered.flushed_tag());
    EXPECT_EQ(pool.owned(), 1U);
    EXPECT_EQ(vcpu.map.statistics().misses, 0U) << "there is no map to miss";
    EXPECT_EQ(vcpu.map.statistics().shared, 0U);
}

TEST(Policies, MappedHasAsManyTagsAsSlots) {
    VpidPool pool{64};
    VirtualCpu<16> vcpu{pool, Policy::mapped};
    EXPECT_EQ(vcpu.map.capacity(), 16U);
    for (std::uint16_t round = 0; round < 2; ++round) {
        for (std::uint16_t vpid12 = 1; vpid12 <= 16; ++vpid12) {
            EXPECT_EQ(vcpu.l2(vpid12, cpu_a).flushed_tag(), round == 0);
        }
    }
    EXPECT_EQ(vcpu.map.statistics().evictions, 0U);
}

TEST(Policies, TheLargestMapHoldsAllItsVpid12s) {
    const auto pool = std::make_unique<VpidPool>();
    const auto vcpu = std::make_unique<VirtualCpu<256>>(*pool);
    for (std::uint16_t round = 0; round < 3; ++round) {
        for (std::uint16_t vpid12 = 1; vpid12 <= 256; ++vpid12) {
            EXPECT_EQ(vcpu->l2(static_cast<std::uint16_t>(vpid12 * 251), cpu_a).flushed_tag(), round == 0);
        }
    }
}

// Too few tags (rules 8 and 9).

TEST(Exhaustion, EvictsThisVirtualCpusSlotsFirst) {
    VpidPool pool{2};
    VirtualCpu<4> vcpu{pool};
    const TagNumber tag = vcpu.l2(1, cpu_a).tag;
    const Entered second = vcpu.l2(2, cpu_a);
    EXPECT_EQ(second.tag, tag);
    EXPECT_FALSE(second.shares_vpid01);
    EXPECT_TRUE(second.flushed_tag());
    EXPECT_EQ(vcpu.map.statistics().evictions, 1U);
}

TEST(Exhaustion, ThenSharesVpid01AndFlushesItAtEachChangeOfOccupant) {
    VpidPool pool{1};
    VirtualCpu<4> vcpu{pool};
    vcpu.l1(cpu_a);
    for (const std::uint16_t vpid12 : std::array<std::uint16_t, 3>{1, 2, 1}) {
        const Entered entered = vcpu.l2(vpid12, cpu_a);
        EXPECT_TRUE(entered.shares_vpid01);
        EXPECT_EQ(entered.tag, vcpu.vpid01.number());
        ASSERT_TRUE(entered.flush);
        EXPECT_EQ(entered.flush->tag, vcpu.vpid01.number());
        EXPECT_EQ(entered.flush->extent, Extent::single_context);
        EXPECT_FALSE(vcpu.l2(vpid12, cpu_a).flush) << "L0's own re-entry";
    }
    EXPECT_TRUE(vcpu.l1(cpu_a).flushed_tag());
    EXPECT_EQ(vcpu.map.statistics().shared, 6U);
}

TEST(Exhaustion, TwoL2sThatShareDoNotSeeEachOther) {
    VpidPool pool{1};
    VirtualCpu<4> vcpu{pool};
    vcpu.l2(1, cpu_a);
    EXPECT_TRUE(vcpu.l2(2, cpu_a).flushed_tag());
    EXPECT_TRUE(vcpu.l2_without_vpid(cpu_a).flushed_tag());
    EXPECT_TRUE(vcpu.l2(2, cpu_a).flushed_tag());
}

TEST(Exhaustion, EndsWhenATagComesFree) {
    VpidPool pool{2};
    VirtualCpu<4> vcpu{pool};
    std::optional<Vpid> held = pool.allocate();
    EXPECT_TRUE(vcpu.l2(1, cpu_a).shares_vpid01);
    held.reset();
    const Entered own = vcpu.l2(1, cpu_a);
    EXPECT_FALSE(own.shares_vpid01);
    EXPECT_NE(own.tag, vcpu.vpid01.number());
    EXPECT_TRUE(own.flushed_tag());
    EXPECT_TRUE(vcpu.l1(cpu_a).flushed_tag()) << "what the L2 left under vpid01";
}

// L0's own flushes for L1.

TEST(Vpid01, FlushesItsTagOnFirstUseAndAfterAMove) {
    VpidPool pool{4};
    VirtualCpu<1> vcpu{pool};
    for (const flatback::tag::Cpu cpu : {cpu_a, cpu_b, cpu_a}) {
        const Entered first = vcpu.l1(cpu);
        ASSERT_TRUE(first.flush);
        EXPECT_EQ(first.flush->tag, vcpu.vpid01.number());
        EXPECT_EQ(first.flush->cpu, cpu);
        EXPECT_EQ(first.flush->extent, Extent::single_context);
        EXPECT_TRUE(first.flush->ept_contexts);
        EXPECT_FALSE(vcpu.l1(cpu).flush);
    }
}

TEST(Vpid01, FlushesWhatL0InvalidatedForL1) {
    VpidPool pool{4};
    constexpr LinearAddress address{0xffff'8000'0000'5000};
    VirtualCpu<1> vcpu{pool};
    vcpu.l1(cpu_a);
    vcpu.vpid01.invalidate_address(address);
    const Entered one = vcpu.l1(cpu_a);
    ASSERT_TRUE(one.flush);
    EXPECT_EQ(one.flush->extent, Extent::address);
    EXPECT_EQ(one.flush->linear_address, address);
    vcpu.vpid01.invalidate();
    EXPECT_EQ(vcpu.l1(cpu_a).flush->extent, Extent::single_context);
    EXPECT_FALSE(vcpu.l1(cpu_a).flush);
}

}  // namespace
}  // namespace tag_supply_test
