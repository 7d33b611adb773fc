// What the TLB that forgets nothing keeps, and what it says an access may have: told as programs.
#include <algorithm>

#include "machine/error.hpp"
#include "tests/machine/scenario_fixture.hpp"
#include "tests/machine/translation_fixture.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::retention_test {
namespace {

using namespace test;
using Addresses = std::vector<std::uint64_t>;

constexpr std::uint64_t event = ~std::uint64_t{0};
constexpr std::uint64_t d0 = layout::data_page(0);
constexpr std::uint64_t d1 = layout::data_page(1);
constexpr std::uint64_t d2 = layout::data_page(2);
constexpr std::uint64_t d3 = layout::data_page(3);

struct Retention : BareScenario {
    /// The L2 loads from `address`; where that may go, memory's answer first.
    Addresses l2_load(std::uint64_t address) {
        say.l2().load(address);
        return permitted_addresses(now());
    }
    void back_to_l1() {
        say.l2().vmcall();
        EXPECT_EQ(now().status, Observation::Status::exit);
        say.l1();
    }
    void resume() {
        say.l1().vmresume();
        EXPECT_EQ(now().status, Observation::Status::entry) << describe(now());
    }
};

TEST_F(Retention, AnEditedPageMayStillBeSeenAsItWas) {
    one_guest();
    launch();
    EXPECT_EQ(l2_load(page_a), (Addresses{d0}));
    say.edit().map(1, page_a, d2);
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
    EXPECT_EQ(now().value, 0xA2U) << "what happens is what memory says";
    say.edit().map(1, page_a, d3);
    EXPECT_EQ(l2_load(page_a), (Addresses{d3, d0, d2})) << "every version that was used is kept";
    say.invlpg(page_a);
    EXPECT_EQ(l2_load(page_a), (Addresses{d3}));
}

TEST_F(Retention, AnEntryWithVpidKeepsWhatWasCached) {
    one_guest({.vpid = 5, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
    back_to_l1();
    say.invvpid_single(5);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
}

TEST_F(Retention, AnEntryWithoutVpidKeepsNothing) {
    one_guest({.vpid = 0, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
}

TEST_F(Retention, AnEntryWithoutVpidDropsWhatL1Cached) {
    one_guest({.vpid = 0, .ept = {}, .tables = 1});
    say.edit().map(0, page_c, d0);
    say.l1().load(page_c);
    launch();
    back_to_l1();
    say.edit().map(0, page_c, d2);
    say.l1().load(page_c);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d2}));
}

TEST_F(Retention, AnEntryWithVpidKeepsWhatL1Cached) {
    one_guest({.vpid = 1, .ept = {}, .tables = 1});
    say.edit().map(0, page_c, d0);
    say.l1().load(page_c);
    launch();
    back_to_l1();
    say.edit().map(0, page_c, d2);
    say.l1().load(page_c);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d2, d0}));
}

TEST_F(Retention, AFailedEntryDropsNothingUnlessItLoadedGuestState) {
    one_guest({.vpid = 0, .ept = {}, .tables = 1});
    say.edit().map(0, page_c, d0);
    say.l1().load(page_c).vmwrite(vmx::field::host_cs_selector, 0).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 8));
    say.edit().map(0, page_c, d2);
    say.l1().load(page_c);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d2, d0}));
    say.vmwrite(vmx::field::host_cs_selector, 8).vmwrite(vmx::field::guest_rflags, 0).vmlaunch();
    EXPECT_EQ(now().exit.reason, 0x8000'0021U);
    say.edit().map(0, page_c, d3);
    say.l1().load(page_c);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d3}));
}

TEST_F(Retention, VmxonVmxoffVmclearAndVmptrldDropNothing) {
    one_guest({.vpid = 1, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    say.l1().vmclear(layout::vmcs_region(0)).vmxoff().vmxon().vmptrld(layout::vmcs_region(0)).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry);
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
}

TEST_F(Retention, WhatL2InvalidatesIsItsOwn) {
    one_guest();
    say.edit().map(0, page_a, d0);
    say.l1().load(page_a);
    launch();
    constexpr std::uint64_t cr4 = x86::cr4::physical_address_extension | x86::cr4::vmx_enable;
    say.l2().load(page_a).mov_to_cr4(cr4).mov_to_cr4(cr4 | x86::cr4::page_global_enable).invlpg(page_a);
    say.edit().map(1, page_a, d2).map(0, page_a, d3);
    EXPECT_EQ(l2_load(page_a), (Addresses{d2})) << "its PGE toggle drops its own";
    back_to_l1();
    say.l1().load(page_a);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d3, d0})) << "L1's are another VPID's";
}

TEST_F(Retention, InvvpidOfAnotherVpidChangesNothing) {
    one_guest({.vpid = 1, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    say.l1().invvpid_single(2).invvpid_address(2, page_a).invvpid_retaining_globals(2);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
    back_to_l1();
    say.invvpid_all();
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
}

TEST_F(Retention, InvvpidIsLocalToItsProcessor) {
    one_guest({.vpid = 1, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    say.on(0, 1).l1().vmxon(layout::vmxon_region(1)).invvpid_all();
    EXPECT_TRUE(succeeded(now()));
    say.on(0, 0);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
}

TEST_F(Retention, GlobalPagesOutliveMovToCr3) {
    one_guest();
    say.edit().map(1, page_b, d1, 0x107);  // global
    launch();
    l2_load(page_a);
    l2_load(page_b);
    say.edit().map(1, page_a, d2).map(1, page_b, d3);
    say.l2().mov_to_cr3(layout::page_root(1));
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
    EXPECT_EQ(l2_load(page_b), (Addresses{d3, d1}));
}

TEST_F(Retention, PcidsKeepApartWhatEachCached) {
    one_guest();
    say.edit().map(1, layout::scratch(0), layout::scratch(0));  // for INVPCID's descriptor
    launch();
    constexpr std::uint64_t cr4 = x86::cr4::physical_address_extension | x86::cr4::vmx_enable |
                                  x86::cr4::page_global_enable | x86::cr4::pcid_enable;
    constexpr std::uint64_t keep = std::uint64_t{1} << 63;
    say.l2().mov_to_cr4(cr4).load(page_a).mov_to_cr3(layout::page_root(1) | 7);
    say.edit().map(1, page_a, d2);
    EXPECT_EQ(l2_load(page_a), (Addresses{d2})) << "PCID 7 has cached nothing";
    say.l2().mov_to_cr3(layout::page_root(1) | keep);
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0})) << "back in PCID 0, nothing flushed";
    say.l2().mov_to_cr3(layout::page_root(1) | 7 | keep).mov_to_cr3(layout::page_root(1));
    EXPECT_EQ(l2_load(page_a), (Addresses{d2})) << "without bit 63 the PCID is flushed";
    say.edit().map(1, page_a, d3);
    say.l2().invpcid(1, 0);
    EXPECT_EQ(l2_load(page_a), (Addresses{d3}));
    say.edit().map(1, page_a, d0);
    say.l2().invpcid(0, 0, page_a);
    EXPECT_EQ(l2_load(page_a), (Addresses{d0}));
    say.edit().map(1, page_a, d1);
    say.l2().invpcid(3);
    EXPECT_EQ(l2_load(page_a), (Addresses{d1}));
}

TEST_F(Retention, InvpcidChecksItsOperands) {
    one_guest();
    launch();
    say.l2().invpcid(4);
    EXPECT_TRUE(faulted(now(), 14, 0)) << "the scratch page is not mapped for this L2";
    say.edit().map(1, layout::scratch(0), layout::scratch(0));
    say.l2().invpcid(4);
    EXPECT_TRUE(faulted(now(), 13));
    say.invpcid(1, 0x1000);
    EXPECT_TRUE(faulted(now(), 13)) << "reserved bits";
    say.invpcid(1, 5);
    EXPECT_TRUE(faulted(now(), 13)) << "a PCID while CR4.PCIDE is 0";
    say.invpcid(0, 0, 0x0000'8000'0000'0000);
    EXPECT_TRUE(faulted(now(), 13)) << "not canonical";
    say.invpcid(2);
    EXPECT_EQ(now().status, Observation::Status::done);
}

TEST_F(Retention, ACachedRightMayFaultAndTheFaultDropsIt) {
    one_guest();
    say.edit().map(1, page_a, d0, 0x1);  // read-only
    launch();
    l2_load(page_a);
    say.edit().map(1, page_a, d0, 0x7);
    say.l2().store(page_a, 1);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d0, event})) << "a spurious page fault is permitted";
    // A fault that does happen drops the entries for its address.
    say.edit().unmap(1, page_a);
    EXPECT_EQ(l2_load(page_a), (Addresses{event, d0}));
    EXPECT_TRUE(faulted(now(), 14, 0));
    EXPECT_EQ(l2_load(page_a), (Addresses{event}));
}

TEST_F(Retention, ACleanEntryServesNoWrite) {
    one_guest();
    launch();
    l2_load(page_a);
    say.edit().map(1, page_a, d2);
    say.l2().store(page_a, 9);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d2})) << "the entry has D = 0: the processor walks";
    say.edit().map(1, page_a, d3);
    say.l2().store(page_a, 9);
    EXPECT_EQ(permitted_addresses(now()), (Addresses{d3, d2})) << "that of the store has D = 1";
}

TEST_F(Retention, APrefetchBringsInWhatWasNeverUsed) {
    one_guest();
    launch();
    say.l2().prefetch(page_b);
    say.edit().map(1, page_b, d3);
    EXPECT_EQ(l2_load(page_b), (Addresses{d3, d1}));
    say.l2().prefetch(0x5000'0000);
    EXPECT_EQ(now().status, Observation::Status::done) << "and raises no fault";
}

TEST_F(Retention, CachedStructuresLeadToWhatTheyLedTo) {
    one_guest();
    say.edit().map(1, page_b, d1, 0x27);  // accessed: no flag is left to set
    launch();
    l2_load(page_a);
    // The whole table of page_a and page_b is replaced by another, in which page_b is elsewhere.
    constexpr std::uint64_t other_table = 0x3E'0000;
    say.edit().poke(other_table + 8, d3 | 7);
    const std::uint64_t directory = layout::page_root(1) + 2 * x86::page_size;
    say.poke(directory, other_table | 7);
    EXPECT_EQ(l2_load(page_b), (Addresses{d3, d1})) << "by the PDE that was cached for page_a";
    say.l2().invlpg(page_c);
    EXPECT_EQ(l2_load(page_b), (Addresses{d3, d1})) << "that became an entry of page_b's own";
    say.l2().invlpg(page_b);
    EXPECT_EQ(l2_load(page_b), (Addresses{d3}));
}

TEST_F(Retention, InvlpgOfAnyAddressDropsAllPiecesOfALargePage) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    // One page of 2 MB in the paging structures, pieces of 4 KB in EPT.
    constexpr std::uint64_t guest_base = 0x4000'0000;
    say.edit().map(1, page_c, guest_base, 7, PageSize::size_2m);
    say.ept_map(0, guest_base, d0).ept_map(0, guest_base + 0x1000, d1);
    launch();
    l2_load(page_c);
    l2_load(page_c + 0x1000);
    say.edit().map(1, page_c, 0x4020'0000, 7, PageSize::size_2m).ept_map(0, 0x4020'0000, d2);
    EXPECT_EQ(l2_load(page_c), (Addresses{d2, d0}));
    say.l2().invlpg(page_c + 0x1F'F000);
    EXPECT_EQ(l2_load(page_c), (Addresses{d2}));
}

TEST_F(Retention, InveptReachesEveryVpidOfTheEp4ta) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().ept_map(0, d0, d2);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
    back_to_l1();
    say.invvpid_single(1);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0})) << "INVVPID leaves guest-physical mappings";
    back_to_l1();
    say.invept_single(layout::eptp(1));
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0})) << "another EP4TA";
    back_to_l1();
    say.invept_single(layout::eptp(0));
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
}

TEST_F(Retention, AnEptViolationDropsWhatItMet) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    launch();
    l2_load(page_a);
    say.edit().ept_unmap(0, d0);
    EXPECT_EQ(l2_load(page_a), (Addresses{event, d0}));
    EXPECT_TRUE(exited(now(), vmx::ExitReason::ept_violation));
    say.edit().ept_map(0, d0, d2);
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2}));
}

TEST_F(Retention, LinearMappingsOutliveInvept) {
    one_guest();
    launch();
    l2_load(page_a);
    back_to_l1();
    say.edit().map(1, page_a, d2);
    say.l1().invept_all();
    resume();
    EXPECT_EQ(l2_load(page_a), (Addresses{d2, d0}));
}

TEST_F(Retention, AnOutcomeSaysWhereItComesFrom) {
    one_guest({.vpid = 3, .ept = 0, .tables = 1});
    launch();
    l2_load(page_a);
    const std::uint64_t step = told - 1;
    say.edit().map(1, page_a, d1);
    l2_load(page_a);
    ASSERT_EQ(now().permitted.size(), 2U);
    EXPECT_EQ(
        describe(now().permitted[1]),
        "host-physical 0x800000, from a combined mapping of VPID 3, PCID 0x0, EP4TA 0x400, made at step " +
            std::to_string(step));
}

TEST_F(Retention, EntriesCanBeListed) {
    one_guest({.vpid = 3, .ept = {}, .tables = 1});
    launch();
    l2_load(page_a);
    const std::vector<std::string> lines = world.machine().retentive_tlb(0).describe_entries();
    EXPECT_TRUE(std::ranges::any_of(lines, [](const std::string& line) {
        return line.starts_with("linear mapping 0x40000000 -> 0x800000, VPID 3, PCID 0x0");
    })) << testing::PrintToString(lines);
    EXPECT_EQ(lines.size(), world.machine().retentive_tlb(0).size());
}

TEST(RetentiveTlb, UsesItsOldestEntryWhereAskedTo) {
    Structures structures;
    structures.map(0x1000, 0x5000);
    RetentiveTlb tlb({.resolution = RetentiveTlb::Resolution::oldest});
    tlb.access(structures.memory, structures.context(), 0x1000, load);
    structures.map(0x1000, 0x6000);
    EXPECT_EQ(tlb.access(structures.memory, structures.context(), 0x1008, load), Outcome::translated(0x5008));
    tlb.invalidate(invalidation::invlpg(0, 0, 0x1000));
    EXPECT_EQ(tlb.access(structures.memory, structures.context(), 0x1008, load), Outcome::translated(0x6008));
}

TEST(RetentiveTlb, RefusesToGrowPastItsLimitInOneClearLine) {
    Structures structures;
    for (std::uint64_t page = 0; page < 16; ++page) structures.map(page << 12, 0x5000);
    RetentiveTlb tlb({.entry_limit = 8});
    try {
        for (std::uint64_t page = 0; page < 16; ++page) {
            tlb.access(structures.memory, structures.context(), page << 12, load);
        }
        FAIL() << "nine entries were kept";
    } catch (const LimitReached& error) {
        EXPECT_STREQ(error.what(), "retentive TLB: the limit of 8 entries is reached");
    }
}

TEST(RetentiveTlb, DoesNotCacheWhatIsNotPresent) {
    Structures structures;
    structures.map(0x1000, 0x5000);
    RetentiveTlb tlb;
    EXPECT_EQ(tlb.access(structures.memory, structures.context(), 0x2000, load), Outcome::page_fault(0));
    structures.map(0x2000, 0x6000);
    EXPECT_EQ(tlb.permitted(structures.memory, structures.context(), 0x2000, load).size(), 1U);
}

TEST(RetentiveTlb, AnswersTheSameWithAndWithoutItsShortcut) {
    // The second and third access of the same page are answered from the memo; every change must be seen
    // through it.
    Structures structures;
    structures.map(0x1000, 0x5000);
    RetentiveTlb tlb;
    const auto read = [&] {
        return tlb.access(structures.memory, structures.context(), 0x1000, load).physical;
    };
    EXPECT_EQ(read(), 0x5000U);
    EXPECT_EQ(read(), 0x5000U);
    EXPECT_EQ(read(), 0x5000U);
    structures.map(0x1000, 0x6000);
    EXPECT_EQ(read(), 0x6000U);
    TranslationContext other = structures.context();
    other.pml4 = 0x50'0000;
    EXPECT_EQ(tlb.access(structures.memory, other, 0x1000, load), Outcome::page_fault(0));
    EXPECT_EQ(read(), 0x6000U);
}

}  // namespace
}  // namespace flatback::machine::retention_test
