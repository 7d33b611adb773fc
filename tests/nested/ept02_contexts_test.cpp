// EPT02's contexts: INVEPT, neighbours, several roots, and memory that runs out.
#include <gtest/gtest.h>

#include <vector>

#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test::ept02_contexts_test {
namespace {

namespace bit = vmx::ept_entry;
constexpr std::uint64_t page_a = 0x1000'0000;
constexpr std::uint64_t page_b = 0x2000'5000;
constexpr auto violation = l1_sees(ExitReason::ept_violation);

// Two EPT12s that map page 5000H to page A and to page B.
class Ept02Contexts : public ::testing::Test {
protected:
    Ept02Contexts() {
        l1.prepare();
        l1.use_vpid(1);
        l1.use_ept(one.eptp());
        one.map(0x5000, page_a);
        two.map(0x5000, page_b);
    }
    void leave() { ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid)); }
    void resume_with(const Ept12& ept) {
        l1.write(field::ept_pointer, ept.eptp());
        ASSERT_EQ(l1.counters().l2_entries == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
    }
    std::uint64_t host_of(std::uint64_t address) {
        const auto leaf = l1.ept02_leaf(address);
        return leaf ? leaf->host - FakePort::host_offset : 0;
    }
    std::uint64_t root() { return vmx::Eptp{l1.vmcs02().get(field::ept_pointer)}.root(); }
    VirtualCpu l1;
    Ept12 one{l1, 0x20'0000};
    Ept12 two{l1, 0x30'0000};
};

TEST_F(Ept02Contexts, KeepWhatTheyHoldWhereL1Alternates) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    resume_with(two);
    EXPECT_EQ(host_of(0x5000), 0U);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(host_of(0x5000), page_b);
    leave();
    l1.forget_flushes();
    for (unsigned turn = 0; turn < 4; ++turn) {
        resume_with(turn % 2 == 0 ? one : two);
        EXPECT_EQ(host_of(0x5000), turn % 2 == 0 ? page_a : page_b);
        leave();
    }
    EXPECT_EQ(l1.port.flushes, std::vector<Flush>{});
}

// Who ran on the processor before may have left translations of an EP4TA that is L0's now.
TEST(FirstEntry, FlushesWhatTheProcessorHasOfEpt01) {
    const std::vector<Flush> ept01{{Flush::Kind::invept, 1, 0, FakePort::ept01, 0}};
    VirtualCpu l1;
    l1.forget_flushes();
    l1.prepare_first_entry();
    EXPECT_EQ(l1.invepts(), ept01) << "of L1";
    l1.prepare();
    l1.use_vpid(1);
    l1.forget_flushes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.invepts(), ept01) << "of an L2 with a tag of its own";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.forget_flushes();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(l1.invepts().empty()) << "once each";
}

TEST_F(Ept02Contexts, AreForgottenByInveptOfOneAndKeptForTheOther) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    const std::uint64_t root_one = l1.vmcs02().get(field::ept_pointer);
    leave();
    resume_with(two);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    l1.forget_flushes();
    one.map(0x5000, page_b);
    ASSERT_EQ(l1.invept(1, one.eptp()), vm_succeed) << "of the one that is not in use";
    EXPECT_EQ(l1.port.flushes, (std::vector<Flush>{{Flush::Kind::invept, 1, 0, root_one, 0}}));
    resume_with(two);
    EXPECT_EQ(host_of(0x5000), page_b) << "kept";
    leave();
    resume_with(one);
    EXPECT_EQ(host_of(0x5000), 0U) << "forgotten";
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(host_of(0x5000), page_b);
    EXPECT_EQ(l1.counters().invept[1], 1U);
}

TEST_F(Ept02Contexts, AreAllForgottenByInveptOfAll) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    resume_with(two);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    l1.forget_flushes();
    ASSERT_EQ(l1.invept(2, ~0ULL, ~0ULL), vm_succeed) << "the descriptor does not matter";
    EXPECT_EQ(l1.invepts().size(), 2U);
    ASSERT_EQ(l1.invept(2), vm_succeed);
    EXPECT_EQ(l1.invepts().size(), 2U) << "nothing was filled since";
    for (const Ept12* ept : {&one, &two}) {
        resume_with(*ept);
        EXPECT_EQ(host_of(0x5000), 0U);
        leave();
    }
    EXPECT_EQ(l1.counters().invept[2], 2U);
}

TEST_F(Ept02Contexts, OfAnEp4taThatIsUnknownNeedNoInvept) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    l1.forget_flushes();
    EXPECT_EQ(l1.invept(1, two.eptp()), vm_succeed);
    EXPECT_EQ(l1.port.flushes, std::vector<Flush>{});
}

TEST_F(Ept02Contexts, InveptHasItsErrorsInOrder) {
    const auto error = vm_fail(InstructionError::invalid_operand_to_invept_invvpid);
    for (const std::uint64_t type : {0ULL, 3ULL, 64ULL, 65ULL, 1ULL << 32 | 1, ~0ULL, 1ULL << 63}) {
        EXPECT_EQ(l1.invept(type, one.eptp()), error) << type;
    }
    EXPECT_EQ(l1.invept(1, one.root()), error) << "no walk length";
    EXPECT_EQ(l1.invept(1, one.eptp() | 1), error) << "no memory type";
    EXPECT_EQ(l1.invept(1, one.eptp() | 1ULL << physical_width), error);
    EXPECT_EQ(l1.invept(1, one.eptp() | 0x80), error) << "a reserved bit";
    EXPECT_EQ(l1.invept(1, one.eptp(), ~0ULL), vm_succeed) << "the other half is not looked at";
    l1.port.registers.at(3) = 0x30'0000;
    EXPECT_EQ(l1.execute(ExitReason::invept, memory_operand(3), 0, 2), page_fault(0))
        << "read for type 2 too";
    EXPECT_EQ(l1.execute(ExitReason::invept, memory_operand(3), 0, 7), error) << "the type first";
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.invept(0), vm_fail_invalid);
    EXPECT_EQ(l1.invept(1, one.eptp()), vm_succeed);
}

TEST_F(Ept02Contexts, OfMoreThanAreKeptGiveUpTheOldest) {
    std::vector<Ept12> many;
    for (std::uint64_t n = 0; n < 20; ++n) {
        many.emplace_back(l1, 0x40'0000 + n * 0x1'0000);
        many.back().map(0x5000, page_a + n * 0x1000);
    }
    for (unsigned round = 0; round < 2; ++round) {
        for (std::uint64_t n = 0; n < many.size(); ++n) {
            l1.forget_flushes();
            resume_with(many[n]);
            if (round != 0) {
                const std::uint64_t eptp = l1.vmcs02().get(field::ept_pointer);
                EXPECT_EQ(l1.invepts(), (std::vector<Flush>{{Flush::Kind::invept, 1, 0, eptp, 0}}))
                    << "the processor may have the other's translations under the same root";
            }
            EXPECT_EQ(host_of(0x5000), 0U) << "it was given up, and emptied before another got it";
            ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
            EXPECT_EQ(host_of(0x5000), page_a + n * 0x1000);
            leave();
        }
    }
    EXPECT_LE(l1.ept02_pages(), 16U * 4);
}

// --- neighbours

TEST_F(Ept02Contexts, FillTheNeighboursThatEpt12MapsAndNoMoreThanItAllows) {
    for (std::uint64_t page = 0; page < 64; ++page) one.map(0x4'0000 + page * 0x1000, page_a + page * 0x1000);
    one.map(0x4'2000, page_b, bit::read | Ept12::write_back);
    one.set(0x4'3000, 0);
    one.map(0x4'4000, L1Memory::l0_start);
    one.map(0x4'5000, L1Memory::size);
    one.set(0x4'6000, page_b | bit::write | Ept12::write_back);  // misconfigured
    one.set(0x4'7000, page_b | 7 | 2 << 3);                      // a reserved memory type
    one.set(0x4'8000, page_b | 7 | 1ULL << 45);                  // beyond the width
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x4'1000, 1), l2_runs);
    EXPECT_EQ(l1.counters().l2_reentries, 1U);
    EXPECT_EQ(host_of(0x4'0000), page_a);
    EXPECT_EQ(l1.ept02_leaf(0x4'0000)->permissions, 7U);
    EXPECT_EQ(host_of(0x4'f000), page_a + 0xf000);
    for (const std::uint64_t address : {0x4'3000U, 0x4'4000U, 0x4'5000U, 0x4'6000U, 0x4'7000U, 0x4'8000U}) {
        EXPECT_EQ(host_of(address), 0U) << std::hex << address;
    }
    if (const auto leaf = l1.ept02_leaf(0x4'2000)) {
        EXPECT_EQ(leaf->permissions, 1U);
    }
    EXPECT_EQ(host_of(0x5'0000), 0U) << "of the same group only";
    EXPECT_EQ(l1.l2_touches(0x4'6000, 1), l1_sees(ExitReason::ept_misconfiguration));
}

TEST_F(Ept02Contexts, FillNextToAFilledGroupFromTheTableThatTheyRemember) {
    for (std::uint64_t page = 0; page < 64; ++page) one.map(0x4'0000 + page * 0x1000, page_a + page * 0x1000);
    resume_with(one);
    for (std::uint64_t page = 0; page < 64; page += 16)
        ASSERT_EQ(l1.l2_touches(0x4'0000 + page * 0x1000, 2), l2_runs);
    EXPECT_EQ(l1.counters().l2_reentries, 4U);
    for (std::uint64_t page = 0; page < 64; ++page)
        EXPECT_EQ(host_of(0x4'0000 + page * 0x1000), page_a + page * 0x1000);
    EXPECT_EQ(l1.leaves_filled(), 64U);
}

TEST_F(Ept02Contexts, RememberNoTableAcrossInveptOrAViolationThatL1Sees) {
    for (std::uint64_t page = 0; page < 64; ++page) one.map(0x4'0000 + page * 0x1000, page_a);
    one.set(0x6'0000, 0);
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x4'0000, 1), l2_runs);
    leave();
    // L1 puts another table in place of the level-1 table.
    one.set(0x4'0000, 0x70'0000 | 7, 2);
    l1.port.memory.write<std::uint64_t>(0x70'0000 + 0x60 * 8, page_b | 7 | Ept12::write_back);
    ASSERT_EQ(l1.invept(1, one.eptp()), vm_succeed);
    resume_with(one);
    EXPECT_EQ(l1.l2_touches(0x6'0000, 1), l2_runs);
    EXPECT_EQ(host_of(0x6'0000), page_b);
    EXPECT_EQ(l1.l2_touches(0x6'1000, 1), violation);
    one.set(0x4'0000, 0x71'0000 | 7, 2);  // without INVEPT: what L1 repairs after a violation needs none
    l1.port.memory.write<std::uint64_t>(0x71'0000 + 0x61 * 8, page_a | 7 | Ept12::write_back);
    resume_with(one);
    EXPECT_EQ(l1.l2_touches(0x6'1000, 1), l2_runs);
    EXPECT_EQ(host_of(0x6'1000), page_a);
}

TEST_F(Ept02Contexts, ForgetEverythingWhereL0ChangesEpt01) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 2), l2_runs);
    leave();
    l1.port.specials = {{page_a, 0x1000, x86::MemoryType::write_back, false}};
    l1.ept01_changed();
    resume_with(one);
    EXPECT_EQ(host_of(0x5000), 0U);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->permissions, 5U);
}

// --- memory that runs out

TEST_F(Ept02Contexts, TakeTablesFromTheOldestContextWhereMemoryIsOut) {
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    leave();
    resume_with(two);
    l1.port.page_limit = l1.port.pages_given();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(host_of(0x5000), page_b);
    leave();
    resume_with(one);
    EXPECT_EQ(host_of(0x5000), 0U) << "it gave its tables";
    for (unsigned turn = 0; turn < 50; ++turn) {
        ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs) << "and none is lost";
        leave();
        resume_with(turn % 2 == 0 ? two : one);
    }
}

TEST_F(Ept02Contexts, EmptyThemselvesWhereTheyAreTheLast) {
    for (std::uint64_t n = 0; n < 64; ++n) one.map(n << 30, page_a + n * 0x1000);
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0, 1), l2_runs);
    ASSERT_EQ(l1.l2_touches(1ULL << 30, 1), l2_runs);
    l1.port.page_limit = l1.port.pages_given();
    l1.forget_flushes();
    for (unsigned round = 0; round < 3; ++round) {
        for (std::uint64_t n = 0; n < 64; ++n) {
            ASSERT_EQ(l1.l2_touches(n << 30, 1), l2_runs);
            EXPECT_EQ(host_of(n << 30), page_a + n * 0x1000);
        }
    }
    EXPECT_GT(l1.invepts().size(), 10U) << "what was emptied was flushed before its tables were used again";
}

TEST_F(Ept02Contexts, WorkWithWhateverMemoryIsEnoughForOne) {
    for (std::size_t extra = 0; extra < 12; ++extra) {
        VirtualCpu other;
        Ept12 first{other, 0x20'0000};
        Ept12 second{other, 0x30'0000};
        for (std::uint64_t n = 0; n < 8; ++n) first.map(n << 30, page_a + n * 0x1000);
        for (std::uint64_t n = 0; n < 8; ++n) second.map(n << 30, page_b + n * 0x1000);
        other.prepare();
        other.use_ept(first.eptp());
        // Two roots, and for one of them at a time a list page and three tables.
        other.port.page_limit = other.port.pages_given() + 6 + extra;
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        for (std::uint64_t n = 0; n < 32; ++n) {
            ASSERT_EQ(other.l2_touches((n % 8) << 30, 1), l2_runs) << extra << " " << n;
            ASSERT_EQ(other.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
            other.write(field::ept_pointer, n % 3 == 0 ? second.eptp() : first.eptp());
            ASSERT_EQ(other.vmresume(), l2_runs);
        }
    }
}

TEST_F(Ept02Contexts, GiveARootToAnotherWhereMemoryIsOut) {
    one.map(0x4000'0000, page_a);
    resume_with(one);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x4000'0000, 1), l2_runs);
    leave();
    l1.port.page_limit = l1.port.pages_given();
    resume_with(two);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(host_of(0x5000), page_b);
}

TEST_F(Ept02Contexts, GiveTheirTablesForAVmcsThatL1MakesActive) {
    for (std::uint64_t n = 0; n < 700; ++n) one.map(n << 21, page_a);
    resume_with(one);
    for (std::uint64_t n = 0; n < 700; ++n) ASSERT_EQ(l1.l2_touches(n << 21, 1), l2_runs);
    l1.port.page_limit = l1.port.pages_given();
    leave();
    for (unsigned n = 1; n < 34; ++n) {
        l1.forget_flushes();
        l1.make_vmcs(n);
        l1.use_ept(one.eptp());
        ASSERT_EQ(l1.vmlaunch(), l2_runs) << n;
        ASSERT_EQ(l1.l2_touches(n << 21, 1), l2_runs) << n;
        EXPECT_EQ(host_of(n << 21), page_a);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        if (n == 1) {
            EXPECT_FALSE(l1.invepts().empty()) << "what was a table is used for something else";
        }
    }
}

TEST_F(Ept02Contexts, StopL0WhereThereIsNoMemoryAtAll) {
    l1.port.page_limit = l1.port.pages_given();
    EXPECT_THROW((void)l1.vmlaunch(), FatalError) << "not even for a root";
    VirtualCpu other;
    Ept12 tables{other};
    tables.map(0x5000, page_a);
    other.prepare();
    other.use_ept(tables.eptp());
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    other.port.page_limit = other.port.pages_given();
    EXPECT_THROW((void)other.l2_touches(0x5000, 1), FatalError);
}

TEST_F(Ept02Contexts, UseManyTablesWithoutLosingAny) {
    // More than one page of the list of tables holds.
    for (std::uint64_t n = 0; n < 700; ++n) one.map(n << 21, page_a);
    resume_with(one);
    for (unsigned round = 0; round < 3; ++round) {
        for (std::uint64_t n = 0; n < 700; ++n) ASSERT_EQ(l1.l2_touches(n << 21, 1), l2_runs);
        leave();
        const std::size_t given = l1.port.pages_given();
        ASSERT_EQ(l1.invept(1, one.eptp()), vm_succeed);
        EXPECT_EQ(l1.ept02_pages(), 1U);
        resume_with(one);
        for (std::uint64_t n = 0; n < 700; ++n) ASSERT_EQ(l1.l2_touches(n << 21, 1), l2_runs);
        EXPECT_EQ(l1.port.pages_given(), given) << "all are used again";
    }
}

}  // namespace
}  // namespace flatback::nested_test::ept02_contexts_test
