#include "guests/linux/l0_counters.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace flatback::guests::l0_counters_test {
namespace {

/// An L0 that counts as ours does: each CPUID of L1 is itself an exit that L0 handles.
struct FakeL0 {
    bool present = true;
    std::uint32_t highest_leaf = 0x4000'0004;
    std::uint32_t mode = 0;
    L0Counters counters;

    std::uint64_t& operator[](Counter which) { return counters.counters[static_cast<std::size_t>(which)]; }
};
FakeL0 l0;

CpuidResult value(std::uint64_t count, bool exists) {
    return {static_cast<std::uint32_t>(count), exists ? 1U : 0U, 0, static_cast<std::uint32_t>(count >> 32)};
}

CpuidResult fake_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    l0[Counter::l0_exits]++;
    l0[Counter::exits_from_l1]++;
    l0.counters.handled[10]++;
    switch (leaf) {
        case 0x4000'0000: {
            if (!l0.present) {
                return {};
            }
            CpuidResult result{l0.highest_leaf, 0, 0, 0};
            std::memcpy(&result.ebx, "Flat", 4);
            std::memcpy(&result.ecx, "back", 4);
            std::memcpy(&result.edx, "Flat", 4);
            return result;
        }
        case 0x4000'0001:
            return {0x0001'0203, l0.mode, 1, 16};
        case 0x4000'0002:
            return subleaf < counter_count ? value(l0.counters.counters[subleaf], true) : value(0, false);
        case 0x4000'0003:
            return value(l0.counters.handled[subleaf], true);
        case 0x4000'0004:
            return value(l0.counters.reflected[subleaf], true);
        default:
            return {};
    }
}

class L0CountersTest : public testing::Test {
protected:
    L0CountersTest() { l0 = {}; }
};

TEST_F(L0CountersTest, TheSignatureAndTheModeAreRecognised) {
    const auto identity = identify_l0(fake_cpuid);
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->mode, "mapped");
    EXPECT_EQ(identity->version, 0x0001'0203U);
    EXPECT_TRUE(identity->shadow_vmcs);
    EXPECT_EQ(identity->tag_slots, 16U);
    l0.mode = 1;
    EXPECT_EQ(identify_l0(fake_cpuid)->mode, "single");
    l0.mode = 2;
    EXPECT_EQ(identify_l0(fake_cpuid)->mode, "off");
}

TEST_F(L0CountersTest, AnotherHypervisorOrNoneIsNotTakenForOurs) {
    l0.present = false;
    EXPECT_FALSE(identify_l0(fake_cpuid));
}

TEST_F(L0CountersTest, AnL0WithoutTheCounterLeavesIsNotAsked) {
    l0.highest_leaf = 0x4000'0001;
    EXPECT_FALSE(identify_l0(fake_cpuid));
}

TEST_F(L0CountersTest, CountersKeepTheirUpperHalf) {
    l0[Counter::l2_entries] = 0x12'3456'789A;
    EXPECT_EQ(read_l0_counters(fake_cpuid)[Counter::l2_entries], 0x12'3456'789AU);
}

TEST_F(L0CountersTest, TheDifferenceLeavesOutTheExitsOfReadingThem) {
    const L0Counters before = read_l0_counters(fake_cpuid);
    const L0Counters after = read_l0_counters(fake_cpuid);
    const L0Counters nothing = difference(before, after);
    EXPECT_EQ(nothing[Counter::l0_exits], 0U);
    EXPECT_EQ(nothing[Counter::exits_from_l1], 0U);
    EXPECT_EQ(nothing.handled[cpuid_exit_reason], 0U);
}

TEST_F(L0CountersTest, TheDifferenceIsWhatHappenedInBetween) {
    const L0Counters before = read_l0_counters(fake_cpuid);
    l0[Counter::l0_exits] += 6;
    l0[Counter::exits_from_l1] += 4;
    l0[Counter::l2_entries] += 2;
    l0[Counter::l2_tag_flushes] += 1;
    l0.counters.handled[10] += 3;
    l0.counters.reflected[10] += 2;
    L0Counters sum = difference(before, read_l0_counters(fake_cpuid));
    sum += sum;
    EXPECT_EQ(sum[Counter::l0_exits], 12U);
    EXPECT_EQ(sum[Counter::exits_from_l1], 8U);
    EXPECT_EQ(sum[Counter::l2_entries], 4U);
    EXPECT_EQ(sum[Counter::l2_tag_flushes], 2U);
    EXPECT_EQ(sum[Counter::l1_tag_flushes], 0U);
    EXPECT_EQ(sum.handled[10], 6U);
    EXPECT_EQ(sum.reflected[10], 4U);
}

TEST(ExitReasonName, FollowsTheManualsNumbers) {
    EXPECT_EQ(exit_reason_name(0), "exception_or_nmi");
    EXPECT_EQ(exit_reason_name(10), "cpuid");
    EXPECT_EQ(exit_reason_name(24), "vmresume");
    EXPECT_EQ(exit_reason_name(28), "control_register_access");
    EXPECT_EQ(exit_reason_name(48), "ept_violation");
    EXPECT_EQ(exit_reason_name(53), "invvpid");
    EXPECT_EQ(exit_reason_name(35), "");
    EXPECT_EQ(exit_reason_name(70), "");
}

}  // namespace
}  // namespace flatback::guests::l0_counters_test
