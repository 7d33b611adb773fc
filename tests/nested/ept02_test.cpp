// EPT02: EPT12 composed with EPT01, by what L2 can reach.
#include <gtest/gtest.h>

#include <array>

#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested_test::ept02_test {
namespace {

namespace bit = vmx::ept_entry;
constexpr std::uint64_t wb = Ept12::write_back;
constexpr std::uint64_t page_a = 0x1000'0000;  // pages of L1's that it gives to L2
constexpr std::uint64_t page_b = 0x2000'5000;
constexpr auto violation = l1_sees(ExitReason::ept_violation);
constexpr auto misconfiguration = l1_sees(ExitReason::ept_misconfiguration);

class Ept02 : public ::testing::TestWithParam<bool> {
protected:
    Ept02() {
        l1.prepare();
        l1.use_vpid(1);
        l1.use_ept(ept.eptp());
    }
    void launch() { ASSERT_EQ(l1.vmlaunch(), l2_runs); }
    void resume() { ASSERT_EQ(l1.vmresume(), l2_runs); }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    Ept12 ept{l1};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Ept02, ::testing::Bool());

TEST_P(Ept02, IsFilledWhenL2FirstTouchesAPage) {
    ept.map(0x5000, page_b);
    launch();
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
    EXPECT_EQ(l1.l2_touches(0x5abc, bit::read), l2_runs);
    const auto leaf = l1.ept02_leaf(0x5abc);
    ASSERT_TRUE(leaf);
    EXPECT_EQ(leaf->host, FakePort::host_of(page_b + 0xabc));
    EXPECT_EQ(leaf->shift, 12U);
    EXPECT_EQ(leaf->entry & (bit::memory_type_mask | bit::ignore_pat), wb);
    EXPECT_EQ(l1.counters().l2_reentries, 1U);
    EXPECT_EQ(l1.l2_touches(0x5000, bit::write | bit::execute), l2_runs);
    EXPECT_EQ(l1.counters().l2_reentries, 1U) << "one violation for all";
    EXPECT_TRUE(l1.port.ept01_violations.empty());
}

TEST_P(Ept02, HasThePermissionsOfEveryLevelOfEpt12) {
    ept.map(0x5000, page_a, bit::read | wb);
    ept.map(0x6000, page_a, bit::read | bit::execute | wb);
    ept.map(0x7000, page_a, bit::execute | wb);
    ept.map(0x8000, page_a, 7 | wb);
    launch();
    for (const auto& [address, permissions] :
         {std::pair{0x5000U, 1U}, {0x6000U, 5U}, {0x7000U, 4U}, {0x8000U, 7U}}) {
        for (const std::uint64_t access : {bit::read, bit::write, bit::execute}) {
            const bool allowed = (access & permissions) != 0;
            EXPECT_EQ(l1.l2_touches(address, access), allowed ? l2_runs : violation)
                << address << " " << access;
            if (!allowed) resume();
        }
        ASSERT_EQ(l1.l2_touches(address, permissions & 1 ? bit::read : bit::execute), l2_runs);
        EXPECT_EQ(l1.ept02_leaf(address)->permissions, permissions);
    }
    // A level above takes away.
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ept.set(0x8000, ept.entry(0x8000, 2) & ~bit::write, 2);
    ASSERT_EQ(l1.invept(1, ept.eptp()), vm_succeed);
    resume();
    EXPECT_EQ(l1.l2_touches(0x8000, bit::read), l2_runs);
    EXPECT_EQ(l1.l2_touches(0x8000, bit::write), violation);
}

TEST_P(Ept02, LetsAWriteThroughForAMomentWhereItIsToVanish) {
    l1.port.specials.push_back({page_b, 0x2000, x86::MemoryType::write_back, false});
    ept.map(0x5000, page_b);
    ept.map(0x6000, page_b + 0x1000);
    ept.map(0x7000, page_b, bit::read | wb);
    launch();
    EXPECT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    EXPECT_EQ(l1.l2_touches(0x6000, bit::read), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, bit::read | bit::execute);
    EXPECT_EQ(l1.ept02_leaf(0x6000)->permissions, bit::read | bit::execute);
    EXPECT_EQ(l1.port.writes_let_through, 0U);
    // One instruction that writes to both.
    EXPECT_EQ(l1.l2_touches(0x5ff8, bit::write), l2_runs);
    EXPECT_EQ(l1.l2_touches(0x6000, bit::read | bit::write), l2_runs);
    EXPECT_EQ(l1.port.writes_let_through, 2U);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, 7U);
    EXPECT_EQ(l1.ept02_leaf(0x6000)->permissions, 7U);
    l1.port.flushes.clear();
    l1.write_vanished();
    for (const std::uint64_t address : {0x5000U, 0x6000U}) {
        const auto leaf = l1.ept02_leaf(address);
        EXPECT_FALSE(leaf && (leaf->permissions & bit::write) != 0) << address;
    }
    ASSERT_EQ(l1.port.flushes.size(), 1U);
    EXPECT_EQ(l1.port.flushes[0].kind, Flush::Kind::invept);
    EXPECT_EQ(l1.l2_touches(0x7000, bit::write), violation) << "L1's permissions come first";
    EXPECT_EQ(l1.port.writes_let_through, 2U);
}

TEST_P(Ept02, HasAWriteLandMeanwhileWhereTheHostSays) {
    l1.port.specials.push_back({page_b, 0x1000, x86::MemoryType::uncacheable, false});
    l1.port.writes_land_at = page_a;
    ept.map(0x5000, page_b);
    ept.map(0x6000, page_b);
    launch();
    EXPECT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(page_b));
    EXPECT_EQ(l1.l2_touches(0x5300, bit::write), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(page_a));
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, 7U);
    EXPECT_EQ(l1.l2_touches(0x6000, bit::read), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x6000)->host, FakePort::host_of(page_b)) << "what is only read stays";
    EXPECT_EQ(l1.ept02_leaf(0x6000)->permissions, bit::read | bit::execute);
    l1.write_vanished();
    EXPECT_FALSE(l1.ept02_leaf(0x5000)) << "neither the other page nor the right to write is left";
    EXPECT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(page_b));
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, bit::read | bit::execute);
}

// Registers of a device that there is not: each access is the host's, one instruction at a time.
TEST_P(Ept02, HasEachAccessLandMeanwhileWhereTheHostSays) {
    l1.port.specials.push_back({page_b, 0x1000, x86::MemoryType::uncacheable, false, false});
    l1.port.writes_land_at = page_a;
    ept.map(0x5000, page_b);
    ept.map(0x6000, page_a);
    launch();
    unsigned let_through = 0;
    for (const std::uint64_t access : {std::uint64_t{bit::read}, std::uint64_t{bit::write},
                                       std::uint64_t{bit::read | bit::write}, std::uint64_t{bit::execute}}) {
        EXPECT_EQ(l1.l2_touches(0x6000, bit::read), l2_runs);
        EXPECT_FALSE(l1.ept02_leaf(0x5000)) << "as a neighbour it would be there unasked";
        EXPECT_EQ(l1.l2_touches(0x5300, access), l2_runs);
        EXPECT_EQ(l1.port.writes_let_through, ++let_through);
        const auto leaf = l1.ept02_leaf(0x5000);
        ASSERT_TRUE(leaf);
        EXPECT_EQ(leaf->host, FakePort::host_of(page_a));
        EXPECT_EQ(leaf->permissions, access | bit::read) << "write alone would be a misconfiguration";
        l1.write_vanished();
        EXPECT_FALSE(l1.ept02_leaf(0x5000));
    }
}

TEST_P(Ept02, MakesAWriteAFaultWhereTheHostDoesNotLetItVanish) {
    l1.port.lets_writes_vanish = false;
    l1.port.specials.push_back({page_b, 0x1000, x86::MemoryType::write_back, false});
    ept.map(0x5000, page_b);
    launch();
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = bit::write,
                           .guest_physical = 0x5000,
                           .guest_linear = 0x5000}),
              l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_interruption_information), 0x80000B0DU);
    const auto leaf = l1.ept02_leaf(0x5000);
    EXPECT_FALSE(leaf && (leaf->permissions & bit::write) != 0);
}

TEST_P(Ept02, ReflectsAViolationWithEpt12sPermissions) {
    ept.map(0x5000, page_a, bit::read | bit::execute | wb);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x5678, bit::write, 0xf80), violation);
    EXPECT_EQ(l1.read(field::exit_qualification), bit::write | 5 << 3 | 0x180U)
        << "no advanced information, which is not offered";
    EXPECT_EQ(l1.read(field::guest_physical_address), 0x5678U);
    EXPECT_EQ(l1.read(field::guest_linear_address), 0x7000'5678U);
    resume();
    // Not filled in EPT02 yet, so the hardware says "no permission"; EPT12 has one.
    ept.map(0x20'0000, page_a, bit::read | wb);
    ASSERT_EQ(l1.l2_touches(0x20'0000, bit::write), violation);
    EXPECT_EQ(l1.read(field::exit_qualification), bit::write | 1 << 3 | 0x180U);
    resume();
    ASSERT_EQ(l1.l2_touches(0x1234'5000, bit::execute, 0x80), violation);
    EXPECT_EQ(l1.read(field::exit_qualification), bit::execute | 0x80U) << "nothing there at all";
    EXPECT_EQ(l1.read(field::guest_physical_address), 0x1234'5000U);
}

TEST_P(Ept02, ForgetsWhatL1SeesAViolationOf) {
    ept.map(0x5000, page_a, bit::read | wb);
    ept.map(0x20'0000, page_a, bit::read | wb, 2);
    launch();
    for (const std::uint64_t address : {0x5000U, 0x21'0000U}) {
        ASSERT_EQ(l1.l2_touches(address, bit::read), l2_runs);
        ASSERT_EQ(l1.l2_touches(address, bit::write), violation);
        resume();
        EXPECT_FALSE(l1.ept02_leaf(address)) << "as the processor forgets what it has cached";
    }
    // So L1 may put another page there without INVEPT.
    ept.map(0x5000, page_b);
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(page_b));
}

TEST_P(Ept02, ForgetsAllPiecesOfAPageThatL1SeesAViolationOf) {
    // EPT12 has one page, of which a processor would have one translation; EPT01 has it in pieces.
    l1.port.block_shift = 12;
    ept.map(0x20'0000, page_a, bit::read | wb, 2);
    ept.map(0x40'0000, page_b & ~0x1f'ffffULL, bit::read | wb, 2);
    launch();
    for (const std::uint64_t address : {0x20'0000U, 0x25'3000U, 0x3f'f000U, 0x40'0000U})
        ASSERT_EQ(l1.l2_touches(address, bit::read), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(),
              l1_sees(ExitReason::cpuid));  // L1's first entry owes INVEPTs of its own
    resume();
    l1.forget_flushes();
    ASSERT_EQ(l1.l2_touches(0x25'3000, bit::write), violation);
    EXPECT_EQ(l1.invepts().size(), 1U) << "the hardware has dropped the translation of one piece only";
    resume();
    for (const std::uint64_t address : {0x20'0000U, 0x25'3000U, 0x3f'f000U})
        EXPECT_FALSE(l1.ept02_leaf(address)) << std::hex << address;
    EXPECT_TRUE(l1.ept02_leaf(0x40'0000)) << "another page";

    // A piece that L2 had not touched yet is of the same page.
    ASSERT_EQ(l1.l2_touches(0x20'0000, bit::read), l2_runs);
    ept.set(0x20'0000, 0, 2);
    ASSERT_EQ(l1.l2_touches(0x30'0000, bit::read), violation);
    EXPECT_FALSE(l1.ept02_leaf(0x20'0000));
}

TEST_P(Ept02, ForgetsInAFewStepsHoweverMuchL2HasFilled) {
    constexpr std::uint64_t tables = 1000;
    for (std::uint64_t n = 0; n < tables; ++n) ept.map(n << 21, page_a);
    launch();
    const auto fill = [&] {
        for (std::uint64_t n = 0; n < tables; ++n) ASSERT_EQ(l1.l2_touches(n << 21, bit::read), l2_runs);
    };
    fill();
    const std::uint64_t root = ept.entry(0, 4);
    for (unsigned round = 0; round < 3; ++round) {
        ept.set(0, 0, 4);  // without INVEPT
        l1.port.pages_looked_at = 0;
        const L2Exit exit{.reason = ExitReason::ept_violation,
                          .qualification = bit::read | 0x180,
                          .guest_physical = tables << 21};
        ASSERT_EQ(l1.l2_exits(exit), violation);
        EXPECT_LE(l1.port.pages_looked_at, 16U) << "round " << round;
        EXPECT_FALSE(l1.ept02_leaf(0));
        ept.set(0, root, 4);
        resume();
        if (round == 1) fill();
    }
}

TEST_P(Ept02, UsesAgainTheTablesOfWhatItForgot) {
    l1.port.block_shift = 12;
    ept.map(0x20'0000, page_a, bit::read | wb, 2);
    launch();
    ASSERT_EQ(l1.l2_touches(0x20'0000, bit::read), l2_runs);
    l1.port.page_limit = l1.port.pages_given() + 20;
    for (unsigned round = 0; round < 100; ++round) {
        ASSERT_EQ(l1.l2_touches(0x25'3000, bit::read), l2_runs) << round;
        ASSERT_EQ(l1.l2_touches(0x25'3000, bit::write), violation) << round;
        resume();
    }
}

TEST_P(Ept02, NeedsNoInveptForAViolationOfAPageThatIsOnePiece) {
    ept.map(0x5000, page_a, bit::read | wb);
    ept.map(0x6000, page_a, bit::read | wb);
    launch();
    for (const std::uint64_t address : {0x5000U, 0x6000U})
        ASSERT_EQ(l1.l2_touches(address, bit::read), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    resume();
    l1.forget_flushes();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), violation);
    EXPECT_TRUE(l1.invepts().empty()) << "the processor has dropped what it had";
    resume();
    EXPECT_TRUE(l1.ept02_leaf(0x6000));
}

TEST_P(Ept02, IsNamedToTheHostByL1sPointer) {
    EXPECT_EQ(l1.l1_ept_pointer(), std::nullopt) << "L1 runs";
    launch();
    EXPECT_EQ(l1.l1_ept_pointer(), ept.eptp());
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_ept);
    resume();
    EXPECT_EQ(l1.l1_ept_pointer(), std::nullopt);
}

TEST_P(Ept02, HasTheSmallerOfBothPageSizes) {
    struct Case {
        unsigned level12;
        unsigned block_shift;
        unsigned expected;
    };
    for (const Case& c : {Case{1, 30, 12}, Case{2, 30, 21}, Case{3, 30, 30}, Case{2, 12, 12}, Case{3, 21, 21},
                          Case{3, 12, 12}, Case{2, 21, 21}}) {
        VirtualCpu other;
        other.port.block_shift = c.block_shift;
        Ept12 tables{other};
        tables.map(0x8000'0000, 0x4000'0000, 7 | wb, c.level12);
        other.prepare();
        other.use_ept(tables.eptp());
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        const std::uint64_t offset = c.level12 == 1 ? 0x123 : c.level12 == 2 ? 0x12'3123 : 0x1234'5123;
        ASSERT_EQ(other.l2_touches(0x8000'0000 + offset, 1), l2_runs);
        const auto leaf = other.ept02_leaf(0x8000'0000 + offset);
        EXPECT_EQ(leaf->shift, c.expected) << c.level12 << " " << c.block_shift;
        EXPECT_EQ(leaf->host, FakePort::host_of(0x4000'0000 + offset));
    }
}

TEST_P(Ept02, SplitsAHugePageWhereTheProcessorHasNone) {
    VirtualCpu::Options options;
    options.hardware.ept_vpid.value &= ~vmx::EptVpidCapability::page_1g;
    VirtualCpu other{options};
    Ept12 tables{other};
    tables.map(0, 0x4000'0000, 7 | wb, 3);
    other.prepare();
    other.use_ept(tables.eptp());
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    EXPECT_EQ(other.l2_touches(0, 1), misconfiguration) << "nor is it promised to L1";
    tables.map(0, 0x4000'0000, 7 | wb, 2);
    ASSERT_EQ(other.vmresume(), l2_runs);
    ASSERT_EQ(other.l2_touches(0x1'2345, 1), l2_runs);
    EXPECT_EQ(other.ept02_leaf(0x1'2345)->shift, 21U);
}

TEST_P(Ept02, FollowsEpt12WhereAPageChangesItsSize) {
    ept.map(0x20'0000, page_a, 7 | wb, 2);
    launch();
    ASSERT_EQ(l1.l2_touches(0x20'1000, 2), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x20'1000)->host, FakePort::host_of(page_a + 0x1000));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ept.set(0x20'0000, 0, 2);
    ept.map(0x20'1000, page_b);
    ASSERT_EQ(l1.invept(2), vm_succeed);
    resume();
    ASSERT_EQ(l1.l2_touches(0x20'1000, 2), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x20'1000)->host, FakePort::host_of(page_b));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ept.map(0x20'0000, page_a, 7 | wb, 2);
    resume();
    ASSERT_EQ(l1.l2_touches(0x20'2000, 2), l2_runs)
        << "a page grew, without INVEPT: nothing was cached for it";
    EXPECT_EQ(l1.ept02_leaf(0x20'2000)->host, FakePort::host_of(page_a + 0x2000));
}

TEST_P(Ept02, KeepsL1sMemoryTypeWhereTheMemoryIsOrdinary) {
    l1.port.specials = {{0x3800'0000, 0x1000, x86::MemoryType::uncacheable, true},
                        {0x3800'1000, 0x1000, x86::MemoryType::write_through, false}};
    unsigned n = 0;
    for (const std::uint64_t type : {0U, 1U, 4U, 5U, 6U}) {
        for (const std::uint64_t ignore_pat : {std::uint64_t{0}, bit::ignore_pat}) {
            ept.map(0x1'0000 + n++ * 0x10'0000, page_a, 7 | type << 3 | ignore_pat);
        }
    }
    ept.map(0x7000'0000, 0x3800'0000);
    ept.map(0x7010'0000, 0x3800'1000);
    launch();
    n = 0;
    for (const std::uint64_t type : {0U, 1U, 4U, 5U, 6U}) {
        for (const std::uint64_t ignore_pat : {std::uint64_t{0}, bit::ignore_pat}) {
            const std::uint64_t address = 0x1'0000 + n++ * 0x10'0000;
            ASSERT_EQ(l1.l2_touches(address, 1), l2_runs);
            EXPECT_EQ(l1.ept02_leaf(address)->entry & (bit::memory_type_mask | bit::ignore_pat),
                      type << 3 | ignore_pat);
        }
    }
    ASSERT_EQ(l1.l2_touches(0x7000'0000, 2), l2_runs);
    EXPECT_EQ(bit::memory_type_of(l1.ept02_leaf(0x7000'0000)->entry), x86::MemoryType::uncacheable);
    ASSERT_EQ(l1.l2_touches(0x7010'0000, 1), l2_runs);
    EXPECT_EQ(bit::memory_type_of(l1.ept02_leaf(0x7010'0000)->entry), x86::MemoryType::write_through);
    EXPECT_EQ(l1.ept02_leaf(0x7010'0000)->permissions, 5U) << "EPT01 does not let it be written";
}

TEST_P(Ept02, ReflectsMisconfigurations) {
    launch();
    struct Case {
        std::uint64_t entry;
        unsigned level;
    };
    for (const Case& c :
         {Case{page_a | 2 | wb, 1}, Case{page_a | 6 | wb, 1}, Case{page_a | 7 | 2 << 3, 1},
          Case{page_a | 7 | 3 << 3, 1}, Case{page_a | 7 | 7 << 3, 1}, Case{page_a | 7 | wb | 1ULL << 40, 1},
          Case{page_a | 7 | wb | 0x80 | 0x1000, 2}, Case{page_a | 7 | 1 << 3, 2}, Case{page_a | 7 | 0x80, 4},
          Case{page_a | 7 | 1ULL << 45, 3}}) {
        ept.set(0x4000'0000, c.entry, c.level);
        EXPECT_EQ(l1.l2_touches(0x4000'0000, 1), misconfiguration) << std::hex << c.entry;
        EXPECT_EQ(l1.read(field::exit_qualification), 0U);
        EXPECT_EQ(l1.read(field::guest_physical_address), 0x4000'0000U);
        ept.set(0x4000'0000, 0, 4);
        resume();
    }
    EXPECT_EQ(l1.l2_touches(0x4000'0000, 1), violation) << "and what is not present is a violation";
}

TEST_P(Ept02, ReflectsAMisconfigurationWhereEpt12sTablesAreNoMemoryOfL1s) {
    launch();
    for (const std::uint64_t table : {L1Memory::l0_start, L1Memory::size}) {
        ept.set(0x4000'0000, table | 7, 3);
        EXPECT_NE(l1.l2_touches(0x4000'0000, 1), l2_runs);
        resume();
    }
}

TEST_P(Ept02, TakesExecuteOnlyPagesForWhatTheyAreWhereTheyAreNotOffered) {
    VirtualCpu::Options options;
    options.hardware.ept_vpid.value &= ~vmx::EptVpidCapability::execute_only;
    VirtualCpu other{options};
    Ept12 tables{other};
    tables.map(0x5000, page_a, bit::execute | wb);
    other.prepare();
    other.use_ept(tables.eptp());
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    EXPECT_EQ(other.l2_touches(0x5000, bit::execute), misconfiguration);
}

TEST_P(Ept02, ThatIsMisconfiguredStopsL0) {
    launch();
    EXPECT_THROW((void)l1.l2_exits({.reason = ExitReason::ept_misconfiguration}), FatalError);
}

// --- one exit

TEST_P(Ept02, WalksEpt12OnceAnExit) {
    ept.map(0x5000, page_a);
    launch();
    const std::uint64_t level1_table = bit::table_address(ept.entry(0x5000, 2));
    unsigned reads = 0;
    l1.port.memory.before_read = [&](std::uint64_t address) {
        if (address / x86::page_size == level1_table / x86::page_size) ++reads;
    };
    const auto violates = [&](std::uint64_t address) {
        return l1.l2_exits({.reason = ExitReason::ept_violation,
                            .qualification = bit::read | 0x180,
                            .guest_physical = address});
    };
    EXPECT_EQ(violates(0x5000), l2_runs);
    EXPECT_EQ(reads, 1U);
    EXPECT_EQ(violates(0x7'0000), violation);
    EXPECT_EQ(reads, 2U);
    l1.port.memory.before_read = {};
}

TEST_P(Ept02, GivesANeighbourNoMoreThanTheLevelsAbove) {
    for (const std::uint64_t above : {bit::read, bit::execute, bit::read | bit::execute}) {
        const std::uint64_t region = above << 21;
        for (std::uint64_t n = 0; n < 2; ++n) ept.map(region + n * 0x1000, page_a + n * 0x1000);
        ept.set(region, (ept.entry(region, 2) & ~bit::permissions) | above, 2);
    }
    launch();
    for (const std::uint64_t above : {bit::read, bit::execute, bit::read | bit::execute}) {
        const std::uint64_t region = above << 21;
        ASSERT_EQ(l1.l2_touches(region, above), l2_runs);
        const auto neighbour = l1.ept02_leaf(region + 0x1000);
        ASSERT_TRUE(neighbour) << above;
        EXPECT_EQ(neighbour->permissions, above);
        EXPECT_EQ(neighbour->entry & bit::permissions, above);
    }
}

// What one fill in passing wrote far from the others is gone when its table becomes another.
TEST_P(Ept02, UsesATableAgainWithNothingLeftInIt) {
    const auto address = [](unsigned level) { return std::uint64_t{32} << (12 + 9 * (level - 1)); };
    ept.map(0x5000, page_a);
    ept.map(address(1), page_b);
    launch();
    for (unsigned round = 0; round < 3; ++round) {
        ASSERT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
        for (unsigned level = 1; level <= 3; ++level)
            ASSERT_FALSE(l1.ept02_leaf(address(level))) << round << " " << level;
        ASSERT_EQ(l1.l2_touches(address(1), bit::read), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        ASSERT_EQ(l1.invept(1, ept.eptp()), vm_succeed);
        resume();
    }
}

TEST_P(Ept02, EndsAWriteWhoseTablesItHasForgotten) {
    l1.port.specials.push_back({page_b, 0x1000, x86::MemoryType::write_back, false});
    ept.map(0x5000, page_b);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    ept.set(0x5000, 0, 2);  // by another processor of L1's, while the instruction is under way
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = bit::read | 0x180,
                           .guest_physical = 0x7000}),
              violation);
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
    l1.write_vanished();
    resume();
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
}

TEST_P(Ept02, TakesBackHoweverManyWritesItLetThrough) {
    constexpr std::uint64_t pages = 40;
    l1.port.specials.push_back({page_b, pages * 0x1000, x86::MemoryType::write_back, false});
    const auto address = [](std::uint64_t n) { return 0x1'0000 + n * 0x1000; };
    for (std::uint64_t n = 0; n < pages; ++n) ept.map(address(n), page_b + n * 0x1000);
    launch();
    for (std::uint64_t n = 0; n < pages; ++n) ASSERT_EQ(l1.l2_touches(address(n), bit::write), l2_runs) << n;
    EXPECT_NE(l1.ept02_leaf(address(pages - 1))->permissions & bit::write, 0U);
    l1.write_vanished();
    for (std::uint64_t n = 0; n < pages; ++n) {
        const auto leaf = l1.ept02_leaf(address(n));
        EXPECT_FALSE(leaf && (leaf->permissions & bit::write) != 0) << n;
    }
}

// --- accessed and dirty flags

TEST_P(Ept02, LeavesEpt12AsItIsWhereL1AsksForNoFlags) {
    const std::array accesses{bit::read, bit::write, bit::execute};
    const auto address = [](std::uint64_t access) { return access << 30 | 0x5000; };
    for (const std::uint64_t access : accesses) ept.map(address(access), page_a);
    launch();
    for (const std::uint64_t access : accesses) {
        std::array<std::uint64_t, 5> before{};
        for (unsigned level = 1; level <= 4; ++level) before.at(level) = ept.entry(address(access), level);
        ASSERT_EQ(l1.l2_touches(address(access), access), l2_runs);
        for (unsigned level = 1; level <= 4; ++level)
            EXPECT_EQ(ept.entry(address(access), level), before.at(level)) << level;
    }
}

class Ept02AccessedDirty : public Ept02 {
protected:
    Ept02AccessedDirty() { l1.use_ept(ept.eptp(true)); }
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Ept02AccessedDirty, ::testing::Values(false));

TEST_P(Ept02AccessedDirty, AreSetInEpt12AsTheProcessorWould) {
    ept.map(0x5000, page_a);
    launch();
    EXPECT_NE(l1.vmcs02().get(field::ept_pointer) & vmx::Eptp::accessed_dirty_bit, 0U);
    ASSERT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    for (unsigned level = 1; level <= 4; ++level)
        EXPECT_NE(ept.entry(0x5000, level) & bit::accessed, 0U) << level;
    EXPECT_EQ(ept.entry(0x5000) & bit::dirty, 0U);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, 5U) << "a write must come back to set the dirty flag";
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_NE(ept.entry(0x5000) & bit::dirty, 0U);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, 7U);
    for (unsigned level = 2; level <= 4; ++level)
        EXPECT_EQ(ept.entry(0x5000, level) & bit::dirty, 0U) << level;
}

TEST_P(Ept02AccessedDirty, AreSetAgainAfterL1ClearedThemAndExecutedInvept) {
    ept.map(0x5000, page_a);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ept.map(0x5000, page_a);
    ASSERT_EQ(l1.invept(1, ept.eptp(true)), vm_succeed);
    resume();
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
    ASSERT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    EXPECT_EQ(ept.entry(0x5000) & (bit::accessed | bit::dirty), bit::accessed);
}

TEST_P(Ept02AccessedDirty, AreNeverSetForANeighbour) {
    for (std::uint64_t page = 0; page < 16; ++page) ept.map(0x1'0000 + page * 0x1000, page_a + page * 0x1000);
    ept.map(0x1'3000, page_a, 7 | wb | bit::accessed);
    ept.map(0x1'4000, page_a, 7 | wb | bit::accessed | bit::dirty);
    launch();
    ASSERT_EQ(l1.l2_touches(0x1'0000, bit::write), l2_runs);
    for (std::uint64_t page = 1; page < 16; ++page) {
        const std::uint64_t address = 0x1'0000 + page * 0x1000;
        const std::uint64_t expected = page == 3 ? bit::accessed : page == 4 ? bit::accessed | bit::dirty : 0;
        EXPECT_EQ(ept.entry(address) & (bit::accessed | bit::dirty), expected) << page;
        const auto leaf = l1.ept02_leaf(address);
        EXPECT_EQ(leaf ? leaf->permissions : 0, page == 3 ? 5U : page == 4 ? 7U : 0U) << page;
    }
}

TEST_P(Ept02AccessedDirty, AreNotSetByAnAccessThatIsNotAllowed) {
    ept.map(0x5000, page_a, bit::read | wb);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), violation);
    EXPECT_EQ(ept.entry(0x5000) & (bit::accessed | bit::dirty), 0U);
}

// Another processor of L1's takes a level out while the walk is below it: the flags are the old entry's, of
// which the new one gets nothing.
TEST_P(Ept02AccessedDirty, AreNeverSetInAnEntryThatTookTheReadOnesPlace) {
    ept.map(0x5000, page_a);
    launch();
    const std::uint64_t level1_table = bit::table_address(ept.entry(0x5000, 2));
    unsigned reads = 0;
    l1.port.memory.before_read = [&](std::uint64_t address) {
        if (address / x86::page_size != level1_table / x86::page_size || reads++ != 0) return;
        ept.set(0x5000, 0, 2);
    };
    EXPECT_EQ(l1.l2_touches(0x5000, bit::read), violation);
    EXPECT_EQ(reads, 1U);
    l1.port.memory.before_read = {};
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(ept.root() + 2 * x86::page_size), 0U) << "the level-2 entry";
}

TEST_P(Ept02AccessedDirty, AnEpt12ThatNeverStandsStillCostsABoundedTime) {
    ept.map(0x5000, page_a);
    launch();
    const std::uint64_t level1_table = bit::table_address(ept.entry(0x5000, 2));
    unsigned reads = 0;
    l1.port.memory.before_read = [&](std::uint64_t address) {
        if (address / x86::page_size != level1_table / x86::page_size) return;
        ept.set(0x5000, level1_table | 7 | std::uint64_t{++reads % 2} << 52, 2);
    };
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = bit::read | 0x180,
                           .guest_physical = 0x5000}),
              l2_runs)
        << "and accesses it again";
    EXPECT_EQ(reads, 16U);
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
    l1.port.memory.before_read = {};
    EXPECT_EQ(l1.l2_touches(0x5000, bit::read), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(page_a));
}

TEST_P(Ept02AccessedDirty, AndEptpsWithoutThemShareNothing) {
    ept.map(0x5000, page_a);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const std::uint64_t eptp02 = l1.vmcs02().get(field::ept_pointer);
    l1.write(field::ept_pointer, ept.eptp(false));
    ept.map(0x5000, page_a);
    l1.forget_flushes();
    resume();
    EXPECT_FALSE(l1.ept02_leaf(0x5000));
    EXPECT_EQ(l1.invepts(), (std::vector<Flush>{{Flush::Kind::invept, 1, 0, eptp02, 0}}));
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(ept.entry(0x5000) & (bit::accessed | bit::dirty), 0U);
}

}  // namespace
}  // namespace flatback::nested_test::ept02_test
