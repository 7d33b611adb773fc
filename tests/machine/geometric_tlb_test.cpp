#include "machine/geometric/geometric_tlb.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "machine/error.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/bytes.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "tests/machine/judged_tlb.hpp"
#include "tests/machine/translation_fixture.hpp"

namespace flatback::machine::geometric_tlb_test {
namespace {

using namespace test;

/// Two sets of two ways, a second level of four sets of two ways: small enough to count by hand.
constexpr TlbGeometry tiny = {.name = "tiny",
                              .data = {{{2, 2, 0}, {1, 1, 0}, {1, 1, 0}}},
                              .instruction = {{{1, 1, 0}, {1, 1, 0}, {1, 1, 0}}},
                              .second = {4, 2, 0},
                              .second_ways = {3, 3, 0},
                              .second_1g = {1, 0, 0},
                              .structures = {{{1, 1, 0}, {1, 1, 0}, {1, 1, 0}}},
                              .guest_physical = {1, 2, 0},
                              .second_level_cycles = 7,
                              .walk_reference_cycles = 10};

struct TinyTlb : testing::Test, Structures {
    GeometricTlb tlb{tiny};

    void SetUp() override {
        for (std::uint64_t page = 0; page < 16; ++page) map(page << 12, 0x50'0000 + (page << 12));
    }
    TlbCounters touch(std::uint64_t linear_address, const TranslationContext& now, Access access = load) {
        const TlbCounters before = tlb.counters();
        EXPECT_TRUE(tlb.access(memory, now, linear_address, access).is_translated());
        return tlb.counters() - before;
    }
    TlbCounters touch(std::uint64_t linear_address) { return touch(linear_address, context()); }
};

TEST_F(TinyTlb, WalksFourLevelsThenOne) {
    EXPECT_EQ(touch(0x0), (TlbCounters{1, 1, 1, 4, 40}));
    EXPECT_EQ(touch(0x8), (TlbCounters{1, 0, 0, 0, 0})) << "a hit";
    EXPECT_EQ(touch(0x1000), (TlbCounters{1, 1, 1, 1, 10})) << "the PDE is cached: one reference";
}

TEST_F(TinyTlb, EvictsTheLeastRecentlyUsedOfItsSet) {
    touch(0x0000);
    touch(0x2000);
    touch(0x0000);
    touch(0x4000);  // the first level's set 0: pages 0 and 4 now
    EXPECT_EQ(touch(0x0000).first_level_misses, 0U);
    EXPECT_EQ(touch(0x2000), (TlbCounters{1, 1, 0, 0, 7})) << "in the second level still";
    // The second level's set 0 has pages 0, 4, 8, 12.
    touch(0x8000);
    EXPECT_EQ(touch(0xC000).misses, 1U);
    EXPECT_EQ(touch(0x0000).misses, 1U);
}

TEST_F(TinyTlb, TellsTagsApart) {
    TranslationContext one = context();
    one.vpid = 1;
    TranslationContext two = one;
    two.vpid = 2;
    touch(0x0, one);
    EXPECT_EQ(touch(0x0, two).misses, 1U);
    EXPECT_EQ(touch(0x0, one).misses, 0U);
    one.pcid = 5;
    EXPECT_EQ(touch(0x0, one).misses, 1U);
}

TEST_F(TinyTlb, GlobalPagesServeEveryPcid) {
    map(0x3000, 0x50'3000, ordinary | global);
    TranslationContext now = context();
    touch(0x3000, now);
    now.pcid = 9;
    EXPECT_EQ(touch(0x3000, now).misses, 0U);
    tlb.invalidate(invalidation::mov_cr3(0, 9));
    EXPECT_EQ(touch(0x3000, now).misses, 0U);
    tlb.invalidate(invalidation::everything_of_vpid(0));
    EXPECT_EQ(touch(0x3000, now).misses, 1U);
}

TEST_F(TinyTlb, WalksInTwoDimensions) {
    const std::uint64_t eptp = new_ept();
    for (std::uint64_t page = 0; page < 0x100'0000; page += 0x20'0000) {
        map_ept(eptp, page, page, ept_ordinary, PageSize::size_2m);
    }
    // Tables in one page of 2 MB, data in another: 4 tables and 5 addresses; the first costs 3 EPT
    // references, and its guest-physical mapping serves the other tables; the page's own, another PDE of
    // EPT's, costs 1.
    EXPECT_EQ(touch(0x0, context(eptp)), (TlbCounters{1, 1, 1, 4 + 3 + 1, 80}));
    EXPECT_EQ(touch(0x1000, context(eptp)), (TlbCounters{1, 1, 1, 1, 10}))
        << "the page's EPT entry is cached too";
}

TEST_F(TinyTlb, AFetchUsesTheInstructionSide) {
    touch(0x0);
    EXPECT_EQ(touch(0x0, context(), fetch), (TlbCounters{1, 1, 0, 0, 7}));
    EXPECT_EQ(touch(0x0, context(), fetch), (TlbCounters{1, 0, 0, 0, 0}));
}

TEST_F(TinyTlb, AWriteToACleanPageWalksToSetTheFlag) {
    touch(0x0);
    EXPECT_EQ(touch(0x0, context(), store).misses, 1U);
    EXPECT_NE(entry(0x0, 1) & dirty, 0U);
    EXPECT_EQ(touch(0x0, context(), store).misses, 0U);
}

TEST(Geometries, NamesTheProcessorsOfTheTables) {
    ASSERT_NE(find_geometry("haswell"), nullptr);
    EXPECT_EQ(find_geometry("haswell")->second.sets * find_geometry("haswell")->second.ways, 1024U);
    EXPECT_EQ(find_geometry("skylake-x")->second.sets * find_geometry("skylake-x")->second.ways, 1536U);
    EXPECT_EQ(find_geometry("ice-lake")->second.sets * find_geometry("ice-lake")->second.ways, 2048U);
    EXPECT_EQ(find_geometry("pentium"), nullptr);
}

RC_GTEST_PROP(GeometricTlb, OnlyDoesWhatTheRetentiveOnePermits, (const std::vector<std::uint8_t>& bytes)) {
    Scenario scenario;
    for (const unsigned hierarchy : {0U, 1U, 2U}) {
        scenario.edit().map(hierarchy, 0x4000'0000, layout::data_page(0));
        scenario.map(hierarchy, 0x4000'1000, layout::data_page(1), 0x107);
    }
    for (const unsigned page : {0U, 1U, 2U, 3U}) {
        scenario.ept_map(0, layout::data_page(page), layout::data_page(page));
    }
    scenario.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
    Program program = scenario.program();
    const Program rest = program_from_bytes(bytes).value();
    program.steps.insert(program.steps.end(), rest.steps.begin(), rest.steps.end());
    BareWorld world({.vcpus = 1, .machine = {.make_tlb = [] {
                                     return std::make_unique<JudgedTlb>(test::judged_tlb());
                                 }}});
    Runner runner(world);
    try {
        for (const Step& step : program.steps) runner.step(step);
    } catch (const LimitReached&) {
    }
}

}  // namespace
}  // namespace flatback::machine::geometric_tlb_test
