#include "machine/translation/page_walk.hpp"

#include <gtest/gtest.h>

#include "tests/machine/translation_fixture.hpp"

namespace flatback::machine::page_walk_test {
namespace {

using namespace test;

struct PagingWalk : testing::Test, Structures {
    TranslationContext context_now = context();

    Outcome walk(std::uint64_t linear_address, Access access = load) {
        PageWalk result;
        walk_pages(memory, context_now, linear_address, access, result);
        return result.outcome;
    }
};

TEST_F(PagingWalk, TranslatesPagesOfAllThreeSizes) {
    map(0x40'0000, 0x5000);
    map(0x4000'0000, 0x20'0000, ordinary, PageSize::size_2m);
    map(0x80'0000'0000, 0x8000'0000, ordinary, PageSize::size_1g);
    EXPECT_EQ(walk(0x40'0123), Outcome::translated(0x5123));
    EXPECT_EQ(walk(0x401F'FFFF), Outcome::translated(0x3F'FFFF));
    EXPECT_EQ(walk(0x4020'0000), Outcome::page_fault(0));
    EXPECT_EQ(walk(0x400F'1234), Outcome::translated(0x2F'1234));
    EXPECT_EQ(walk(0x80'1234'5678), Outcome::translated(0x9234'5678));
}

TEST_F(PagingWalk, TranslatesTheUpperHalf) {
    map(0xFFFF'8000'0000'1000, 0x7000);
    EXPECT_EQ(walk(0xFFFF'8000'0000'1008), Outcome::translated(0x7008));
}

TEST_F(PagingWalk, FaultsWhereAnEntryIsNotPresentAtAnyLevel) {
    map(0x1000, 0x5000);
    EXPECT_EQ(walk(0x2000), Outcome::page_fault(0));
    EXPECT_EQ(walk(0x2000, store), Outcome::page_fault(2));
    EXPECT_EQ(walk(0x20'0000, user_load), Outcome::page_fault(4));
    EXPECT_EQ(walk(0x4000'0000, user_store), Outcome::page_fault(6));
    EXPECT_EQ(walk(0x80'0000'0000, fetch), Outcome::page_fault(0x10));
}

TEST_F(PagingWalk, DoesNotGiveTheFetchBitWhereFetchesAreNotToldApart) {
    context_now.execute_disable = false;
    EXPECT_EQ(walk(0x1000, fetch), Outcome::page_fault(0));
    context_now.supervisor_no_execute_user = true;
    EXPECT_EQ(walk(0x1000, fetch), Outcome::page_fault(0x10));
}

TEST_F(PagingWalk, HoldsWritesToTheRightsOfEveryLevel) {
    map(0x1000, 0x5000);
    const std::uint64_t directory_entry = entry_address(0x1000, 2);
    memory.write(directory_entry, memory.read(directory_entry) & ~writable);
    EXPECT_EQ(walk(0x1000, store), Outcome::page_fault(3));
    EXPECT_EQ(walk(0x1000, user_store), Outcome::page_fault(7));
    context_now.write_protect = false;
    EXPECT_EQ(walk(0x1000, store), Outcome::translated(0x5000));
    EXPECT_EQ(walk(0x1000, user_store), Outcome::page_fault(7));
}

TEST_F(PagingWalk, KeepsUsersOutOfSupervisorPagesAndTheOtherWayRound) {
    map(0x1000, 0x5000, present | writable);
    map(0x2000, 0x6000);
    EXPECT_EQ(walk(0x1000, user_load), Outcome::page_fault(5));
    EXPECT_EQ(walk(0x2000, fetch), Outcome::translated(0x6000));
    context_now.supervisor_no_execute_user = true;
    EXPECT_EQ(walk(0x2000, fetch), Outcome::page_fault(0x11));
    EXPECT_EQ(walk(0x2000, user_fetch), Outcome::translated(0x6000));
    context_now.supervisor_no_access_user = true;
    EXPECT_EQ(walk(0x2000, load), Outcome::page_fault(1));
    EXPECT_EQ(walk(0x2000, store), Outcome::page_fault(3));
    EXPECT_EQ(walk(0x2000, user_store), Outcome::translated(0x6000));
}

TEST_F(PagingWalk, HoldsFetchesToExecuteDisable) {
    map(0x1000, 0x5000, ordinary | no_execute);
    EXPECT_EQ(walk(0x1000), Outcome::translated(0x5000));
    EXPECT_EQ(walk(0x1000, fetch), Outcome::page_fault(0x11));
    EXPECT_EQ(walk(0x1000, user_fetch), Outcome::page_fault(0x15));
}

TEST_F(PagingWalk, FaultsOnReservedBits) {
    map(0x1000, 0x5000, ordinary | no_execute);
    map(0x2000, std::uint64_t{1} << 46);
    map(0x4000'0000, 0x20'0000, ordinary | 1U << 13, PageSize::size_2m);
    map(0x4020'0000, 0x20'0000, ordinary | 1U << 12, PageSize::size_2m);
    map(0x80'0000'0000, 0x8000'0000, ordinary | 1U << 29, PageSize::size_1g);
    EXPECT_EQ(walk(0x2000), Outcome::page_fault(9));
    EXPECT_EQ(walk(0x4000'0000), Outcome::page_fault(9));
    EXPECT_EQ(walk(0x4020'0000), Outcome::translated(0x20'0000)) << "bit 12 is PAT";
    EXPECT_EQ(walk(0x80'0000'0000, store), Outcome::page_fault(0xB));
    context_now.execute_disable = false;
    EXPECT_EQ(walk(0x1000), Outcome::page_fault(9)) << "bit 63 is reserved without IA32_EFER.NXE";
    const std::uint64_t top = entry_address(0x1000, 4);
    memory.write(top, memory.read(top) | 1U << 7);
    EXPECT_EQ(walk(0x1000), Outcome::page_fault(9)) << "bit 7 of a PML4E is reserved";
}

TEST_F(PagingWalk, RefusesPagesOf1GWhereTheProcessorHasNone) {
    map(0x4000'0000, 0x4000'0000, ordinary, PageSize::size_1g);
    context_now.pages_of_1g_supported = false;
    EXPECT_EQ(walk(0x4000'0000), Outcome::page_fault(9));
}

TEST_F(PagingWalk, SetsAccessedOnTheWayAndDirtyOnAWrite) {
    map(0x1000, 0x5000);
    PageWalk result;
    walk_pages(memory, context_now, 0x1000, load, result);
    EXPECT_EQ(entry(0x1000, 1) & (accessed | dirty), 0U) << "the walk itself changes nothing";
    set_page_flags(memory, context_now, result, load);
    EXPECT_EQ(entry(0x1000, 1) & (accessed | dirty), accessed);
    EXPECT_EQ(entry(0x1000, 4) & accessed, accessed);
    walk_pages(memory, context_now, 0x1000, store, result);
    set_page_flags(memory, context_now, result, store);
    EXPECT_EQ(entry(0x1000, 1) & (accessed | dirty), accessed | dirty);
    EXPECT_EQ(entry(0x1000, 2) & dirty, 0U) << "only the entry that maps the page has a dirty flag";
}

TEST_F(PagingWalk, IsTheAddressItselfWithoutPaging) {
    context_now.paging = false;
    EXPECT_EQ(walk(0x1'2345, store), Outcome::translated(0x1'2345));
}

struct EptWalks : testing::Test, Structures {
    std::uint64_t eptp = new_ept();
    TranslationContext context_now = context(eptp);

    void SetUp() override {
        map(0x1000, 0x5000);
        // The guest's tables are elsewhere in host memory than the guest believes.
        for (std::uint64_t page = pml4; page < next_guest_table; page += 0x1000) map_ept(eptp, page, page);
        map_ept(eptp, 0x5000, 0xA000);
    }
    Outcome walk(std::uint64_t linear_address, Access access = load) {
        PageWalk result;
        context_now.ept.eptp = eptp;
        walk_pages(memory, context_now, linear_address, access, result);
        return result.outcome;
    }
    Outcome walk_and_set_flags(std::uint64_t linear_address, Access access = load) {
        PageWalk result;
        context_now.ept.eptp = eptp;
        walk_pages(memory, context_now, linear_address, access, result);
        if (result.outcome.is_translated()) set_page_flags(memory, context_now, result, access);
        return result.outcome;
    }
};

TEST_F(EptWalks, TranslateTheTablesAndThePage) {
    EXPECT_EQ(walk(0x1234), Outcome::translated(0xA234));
}

TEST_F(EptWalks, TranslatePagesOfAllSizes) {
    map(0x2000, 0x20'3000);
    map(0x3000, 0x4000'3000);
    for (std::uint64_t page = pml4; page < next_guest_table; page += 0x1000) map_ept(eptp, page, page);
    map_ept(eptp, 0x20'0000, 0x1000'0000, ept_ordinary, PageSize::size_2m);
    map_ept(eptp, 0x4000'0000, 0x8000'0000, ept_ordinary, PageSize::size_1g);
    EXPECT_EQ(walk(0x2000), Outcome::translated(0x1000'3000));
    EXPECT_EQ(walk(0x3000), Outcome::translated(0x8000'3000));
}

TEST_F(EptWalks, ReportAViolationAtThePage) {
    map_ept(eptp, 0x5000, 0, 0);
    EXPECT_EQ(walk(0x1234), Outcome::ept_violation(0x5234, 0x181));
    EXPECT_EQ(walk(0x1234, store), Outcome::ept_violation(0x5234, 0x182));
    map_ept(eptp, 0x5000, 0xA000, 0x31);  // read only
    EXPECT_EQ(walk(0x1234), Outcome::translated(0xA234));
    EXPECT_EQ(walk(0x1234, store), Outcome::ept_violation(0x5234, 0x18A));
    EXPECT_EQ(walk(0x1234, fetch), Outcome::ept_violation(0x5234, 0x18C));
    map_ept(eptp, 0x5000, 0xA000, 0x34);  // execute only
    EXPECT_EQ(walk(0x1234), Outcome::ept_violation(0x5234, 0x1A1));
    EXPECT_EQ(walk(0x1234, fetch), Outcome::translated(0xA234));
}

TEST_F(EptWalks, GiveTheRightsThatEveryLevelGrants) {
    const std::uint64_t directory_entry = ept_entry_address(eptp, 0x5000, 2);
    memory.write(directory_entry, memory.read(directory_entry) & ~std::uint64_t{2});
    EXPECT_EQ(walk(0x1000, store), Outcome::ept_violation(entry_address(0x1000, 1), 0x82 | 5 << 3))
        << "the tables lie under the same entry: the flags of the last one can't be set";
    memory.write(entry_address(0x1000, 1), entry(0x1000, 1) | accessed | dirty);
    EXPECT_EQ(walk(0x1000, store), Outcome::ept_violation(0x5000, 0x182 | 5 << 3));
}

TEST_F(EptWalks, GiveTheAdvancedInformationOnlyWhereItIsOffered) {
    map_ept(eptp, 0x5000, 0, 0);
    EXPECT_EQ(walk(0x1000), Outcome::ept_violation(0x5000, 0x181));
    context_now.ept.advanced_exit_information = true;
    EXPECT_EQ(walk(0x1000), Outcome::ept_violation(0x5000, 0x181 | 1U << 9 | 1U << 10));
    map(0x1000, 0x5000, present | no_execute);
    EXPECT_EQ(walk(0x1000), Outcome::ept_violation(0x5000, 0x181 | 1U << 11));
}

TEST_F(EptWalks, ReportAViolationAtATable) {
    const std::uint64_t table = entry(0x1000, 2) & x86::page_entry::address_mask;
    map_ept(eptp, table, 0, 0);
    EXPECT_EQ(walk(0x1000, store), Outcome::ept_violation(table + 8, 0x81)) << "a read of the table's entry";
    eptp |= 1U << 6;
    EXPECT_EQ(walk(0x1000, store), Outcome::ept_violation(table + 8, 0x83))
        << "with accessed and dirty flags every access to a table is a write";
}

TEST_F(EptWalks, ReportAViolationWhereAFlagCanNotBeSet) {
    const std::uint64_t table = entry(0x1000, 2) & x86::page_entry::address_mask;
    map_ept(eptp, table, table, 0x35);
    EXPECT_EQ(walk(0x1000), Outcome::ept_violation(table + 8, 0x82 | 5 << 3));
    memory.write(entry_address(0x1000, 1), entry(0x1000, 1) | accessed);
    EXPECT_EQ(walk(0x1000), Outcome::translated(0xA000));
    EXPECT_EQ(walk(0x1000, store), Outcome::ept_violation(table + 8, 0x82 | 5 << 3)) << "the dirty flag";
}

TEST_F(EptWalks, PreferThePageFaultToTheViolationOfThePage) {
    map(0x1000, 0x5000, present);
    map_ept(eptp, 0x5000, 0, 0);
    EXPECT_EQ(walk(0x1000, store), Outcome::page_fault(3));
}

TEST_F(EptWalks, FindMisconfigurations) {
    const auto with_leaf = [&](std::uint64_t bits) {
        memory.write(ept_entry_address(eptp, 0x5000, 1), 0xA000 | bits);
        return walk(0x1000).kind;
    };
    using Kind = Outcome::Kind;
    EXPECT_EQ(with_leaf(0x37), Kind::translated);
    EXPECT_EQ(with_leaf(0x32), Kind::ept_misconfiguration) << "write without read";
    EXPECT_EQ(with_leaf(0x36), Kind::ept_misconfiguration) << "write and execute without read";
    EXPECT_EQ(with_leaf(0x34), Kind::ept_violation) << "execute-only is offered";
    EXPECT_EQ(with_leaf(0x17), Kind::ept_misconfiguration) << "memory type 2";
    EXPECT_EQ(with_leaf(0x1F), Kind::ept_misconfiguration) << "memory type 3";
    EXPECT_EQ(with_leaf(0x3F), Kind::ept_misconfiguration) << "memory type 7";
    EXPECT_EQ(with_leaf(0x37 | std::uint64_t{1} << 46), Kind::ept_misconfiguration) << "past MAXPHYADDR";
    EXPECT_EQ(with_leaf(std::uint64_t{1} << 46), Kind::ept_violation) << "not present: no reserved bits";
    context_now.ept.execute_only_supported = false;
    EXPECT_EQ(with_leaf(0x34), Kind::ept_misconfiguration) << "execute-only is not offered";
}

TEST_F(EptWalks, FindMisconfigurationsOfUpperEntries) {
    const auto with = [&](unsigned level, std::uint64_t bits) {
        const std::uint64_t place = ept_entry_address(eptp, 0x5000, level);
        const std::uint64_t before = memory.read(place);
        memory.write(place, before | bits);
        const Outcome outcome = walk(0x1000);
        memory.write(place, before);
        return outcome.kind;
    };
    using Kind = Outcome::Kind;
    EXPECT_EQ(with(4, 1U << 3), Kind::ept_misconfiguration);
    EXPECT_EQ(with(4, 1U << 7), Kind::ept_misconfiguration) << "no page is that large";
    EXPECT_EQ(with(3, 1U << 6), Kind::ept_misconfiguration);
    EXPECT_EQ(with(2, 1U << 3), Kind::ept_misconfiguration);
    EXPECT_EQ(with(2, 1U << 10), Kind::translated) << "ignored";
    EXPECT_EQ(with(3, 1U << 7), Kind::ept_misconfiguration) << "a page of 1 GB at an odd address";
}

TEST_F(EptWalks, SetAccessedAndDirtyFlagsOnlyWhereEnabled) {
    EXPECT_EQ(walk_and_set_flags(0x1000, store), Outcome::translated(0xA000));
    EXPECT_EQ(ept_entry(eptp, 0x5000, 1) & 0x300, 0U);
    eptp |= 1U << 6;
    EXPECT_EQ(walk_and_set_flags(0x1000, load), Outcome::translated(0xA000));
    EXPECT_EQ(ept_entry(eptp, 0x5000, 1) & 0x300, 0x100U);
    EXPECT_EQ(ept_entry(eptp, 0x5000, 4) & 0x300, 0x100U);
    EXPECT_EQ(ept_entry(eptp, pml4, 1) & 0x300, 0x300U) << "tables count as written";
    EXPECT_EQ(walk_and_set_flags(0x1000, store), Outcome::translated(0xA000));
    EXPECT_EQ(ept_entry(eptp, 0x5000, 1) & 0x300, 0x300U);
}

TEST_F(EptWalks, WithoutPagingTranslateTheLinearAddressItself) {
    context_now.paging = false;
    EXPECT_EQ(walk(0x5123, store), Outcome::translated(0xA123));
    EXPECT_EQ(walk(0x6123, store), Outcome::ept_violation(0x6123, 0x182));
}

}  // namespace
}  // namespace flatback::machine::page_walk_test
