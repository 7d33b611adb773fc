// PAE and 32-bit paging on the machine, by the SDM: walks, PDPTE registers, what is cached and what goes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "machine/program/legacy_paging.hpp"
#include "machine/retentive/retentive_tlb.hpp"
#include "tests/machine/judged_tlb.hpp"
#include "tests/machine/scenario_fixture.hpp"
#include "tests/machine/translation_fixture.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine::older_paging_test {
namespace {

using test::load;
using test::page_a;
using test::page_b;
using test::store;
namespace field = vmx::field;

// --- walks ---

/// A page directory and a page table.
struct Tables {
    PhysicalMemory memory{};
    PageWalk walk{};

    static constexpr std::uint64_t directory = 0x10'0000;
    static constexpr std::uint64_t table = 0x10'1000;

    static TranslationContext context(PagingMode mode) {
        TranslationContext it;
        it.mode = mode;
        it.pml4 = directory;
        if (mode == PagingMode::pae) it.pdptes = {directory | 1, 0, 0, 0};
        if (mode == PagingMode::bits_32) {
            it.execute_disable = false;
            it.page_size_extensions = true;
        }
        return it;
    }
    Outcome walked(const TranslationContext& now, std::uint64_t address, Access access = load) {
        walk_pages(memory, now, address, access, walk);
        return walk.outcome;
    }
    void put_32(std::uint64_t address, std::uint32_t entry) {
        const std::uint64_t word = memory.read(address);
        const unsigned shift = 8 * (address & 4);
        memory.write(address,
                     (word & ~(std::uint64_t{0xFFFF'FFFF} << shift)) | std::uint64_t{entry} << shift);
    }
};

struct Walks : testing::Test, Tables {};

TEST_F(Walks, OfPaeBeginAtAPdpteRegisterAndHaveTwoLevels) {
    const TranslationContext pae = context(PagingMode::pae);
    memory.write(directory + 8 * 3, table | 7);
    memory.write(table + 8 * 5, 0x12'3456'7000 | 7);
    const std::uint64_t address = 3ULL << 21 | 5 << 12 | 0x123;
    EXPECT_EQ(walked(pae, address), Outcome::translated(0x12'3456'7123));
    EXPECT_EQ(walk.reads, 2U);
    EXPECT_EQ(walked(pae, address | 1ULL << 30), Outcome::page_fault(0)) << "a PDPTE that is not present";
    EXPECT_EQ(walk.reads, 0U);
    // The PDPTE grants all: what it says of bits 2:1 is reserved.
    EXPECT_EQ(walked(pae, address, test::user_store), Outcome::translated(0x12'3456'7123));
    memory.write(directory + 8 * 4, 0x40'0000 | 0x87);
    EXPECT_EQ(walked(pae, 4ULL << 21 | 0x1'2345), Outcome::translated(0x41'2345));
    // 62:52 are reserved here, and 63 without NXE; 4-level paging ignores the former.
    memory.write(table + 8 * 5, 0x5000 | 7 | 1ULL << 52);
    EXPECT_EQ(walked(pae, address), Outcome::page_fault(9));
    memory.write(table + 8 * 5, 0x5000 | 7 | 1ULL << 63);
    EXPECT_EQ(walked(pae, address, test::fetch), Outcome::page_fault(0x11));
    EXPECT_EQ(walked(pae, address), Outcome::translated(0x5123));
}

TEST_F(Walks, Of32BitsHaveEntriesOfFourBytes) {
    const TranslationContext now = context(PagingMode::bits_32);
    put_32(directory + 4 * 0x101, table | 7);
    put_32(table + 4 * 5, 0xABCD'E000 | 7);
    const std::uint64_t address = 0x101ULL << 22 | 5 << 12 | 0x123;
    EXPECT_EQ(walked(now, address), Outcome::translated(0xABCD'E123));
    EXPECT_EQ(walked(now, address + 0x1000), Outcome::page_fault(0));
    EXPECT_EQ(walked(now, 0x100ULL << 22), Outcome::page_fault(0)) << "the other half of the quadword";
    // Flags are set in the right half.
    EXPECT_TRUE(walked(now, address, store).is_translated());
    set_page_flags(memory, now, walk, store);
    EXPECT_EQ(memory.read(table + 4 * 5) >> 32, 0xABCD'E067U);
    EXPECT_EQ(memory.read(table + 4 * 5) & 0xFFFF'FFFF, 0U);
    EXPECT_EQ(memory.read(directory + 4 * 0x101) >> 32, table | 0x27U);
}

TEST_F(Walks, Of32BitsHavePagesOf4MBytesWithPse) {
    TranslationContext now = context(PagingMode::bits_32);
    // Bits 20:13 are 39:32 of the address.
    put_32(directory + 4 * 2, 0x0140'0000 | 0x87 | 0x25 << 13);
    EXPECT_EQ(walked(now, 0x0080'1234), Outcome::translated(0x25'0140'1234));
    EXPECT_EQ(walked(now, 0x00A0'1234), Outcome::translated(0x25'0160'1234));
    EXPECT_EQ(walk.mapping.size, PageSize::size_2m);
    EXPECT_TRUE(walk.mapping.half_of_4m);
    put_32(directory + 4 * 2, 0x0140'0000 | 0x87 | 1 << 21);
    EXPECT_EQ(walked(now, 0x0080'1234), Outcome::page_fault(9));
    now.physical_address_bits = 36;
    put_32(directory + 4 * 2, 0x0140'0000 | 0x87 | 1 << 17);
    EXPECT_EQ(walked(now, 0x0080'1234), Outcome::page_fault(9)) << "beyond the physical-address width";
    now.page_size_extensions = false;
    put_32(directory + 4 * 2, table | 0x87);
    put_32(table, 0x5000 | 7);
    EXPECT_EQ(walked(now, 0x0080'0034), Outcome::translated(0x5034)) << "without PSE the bit says nothing";
    // Fetches are not told apart without SMEP.
    put_32(table, 0);
    EXPECT_EQ(walked(now, 0x0080'0034, test::fetch), Outcome::page_fault(0));
}

// --- what is cached ---

struct Cached : Walks {
    RetentiveTlb tlb{};

    bool permits(const TranslationContext& now, std::uint64_t address, std::uint64_t physical) {
        return std::ranges::any_of(
            tlb.permitted(memory, now, address, load),
            [&](const PermittedOutcome& each) { return each.outcome == Outcome::translated(physical); });
    }
};

TEST_F(Cached, APageOf4MBytesIsKeptWholeAndGoesWhole) {
    const TranslationContext now = context(PagingMode::bits_32);
    put_32(directory + 4 * 2, 0x0140'0000 | 0xE7);
    tlb.access(memory, now, 0x0080'1000, load);
    put_32(directory + 4 * 2, 0x0180'0000 | 0xE7);
    EXPECT_TRUE(permits(now, 0x0080'1000, 0x0140'1000));
    EXPECT_TRUE(permits(now, 0x00A0'1000, 0x0160'1000)) << "the other half was cached with it";
    tlb.invalidate(invalidation::invlpg(0, 0, 0x00BF'F000));
    EXPECT_FALSE(permits(now, 0x0080'1000, 0x0140'1000));
    EXPECT_FALSE(permits(now, 0x00A0'1000, 0x0160'1000));
    EXPECT_TRUE(permits(now, 0x0080'1000, 0x0180'1000));
}

TEST_F(Cached, AnEntryOfADirectoryIsKept) {
    for (const PagingMode mode : {PagingMode::pae, PagingMode::bits_32}) {
        memory = {};
        tlb.reset();
        const TranslationContext now = context(mode);
        const bool narrow = mode == PagingMode::bits_32;
        const auto put = [&](std::uint64_t place, std::uint64_t index, std::uint64_t entry) {
            if (narrow) {
                put_32(place + 4 * index, static_cast<std::uint32_t>(entry));
            } else {
                memory.write(place + 8 * index, entry);
            }
        };
        put(directory, 2, table | 0x27);
        put(table, 0, 0x5000 | 0x67);
        put(table, 1, 0x6000 | 0x67);
        const std::uint64_t address = narrow ? 2ULL << 22 : 2ULL << 21;
        tlb.access(memory, now, address, load);
        put(directory, 2, 0);
        EXPECT_TRUE(permits(now, address + 0x1000, 0x6000)) << "by the cached directory entry";
        tlb.invalidate(invalidation::page_fault(0, 0, address + 0x2000));
        EXPECT_FALSE(permits(now, address + 0x1000, 0x6000));
    }
}

TEST_F(Cached, PdptesAreRegistersAndNoEntries) {
    TranslationContext now = context(PagingMode::pae);
    memory.write(directory, table | 0x27);
    memory.write(table, 0x5000 | 0x67);
    tlb.access(memory, now, 0x0, load);
    EXPECT_TRUE(permits(now, 0x1000 * 0, 0x5000));
    now.pdptes = {0, 0, 0, 0};
    tlb.invalidate(invalidation::mov_cr3(0, 0));
    EXPECT_EQ(tlb.permitted(memory, now, 0, load).size(), 1U);
    EXPECT_FALSE(permits(now, 0, 0x5000));
}

// The geometric TLB gives nothing that the retentive one does not permit, in any mode, whatever is edited and
// flushed.
RC_GTEST_PROP(OlderPagingCaches, GeometricOutcomesArePermitted, ()) {
    const auto mode = *rc::gen::element(PagingMode::pae, PagingMode::bits_32);
    Tables walks;
    PhysicalMemory& memory = walks.memory;
    JudgedTlb tlb = test::judged_tlb();
    const bool with_ept = *rc::gen::arbitrary<bool>();
    TranslationContext now = Tables::context(mode);
    std::uint64_t next_table = 0x80'1000;
    if (with_ept) {
        StructureEditor<EptFormat, PhysicalMemory> ept(memory, 0x80'0000, next_table);
        for (std::uint64_t address = 0; address < 0x200'0000; address += x86::page_size_2m)
            ept.map(address, address, PageSize::size_2m, 0x37);
        now.vpid = 1;
        now.ept_in_use = true;
        now.ept.eptp = 0x80'001E;
    }
    const bool narrow = mode == PagingMode::bits_32;
    const unsigned shift = narrow ? 22 : 21;
    for (unsigned turn = 0; turn < 60; ++turn) {
        const auto what = *rc::gen::inRange(0, 8);
        const auto region = static_cast<std::uint64_t>(*rc::gen::inRange(0, 2));
        const auto page = static_cast<std::uint64_t>(*rc::gen::inRange(0, 2));
        const auto frame = static_cast<std::uint64_t>(*rc::gen::inRange(1, 4));
        const std::uint64_t large = frame << 22;
        const auto put = [&](std::uint64_t place, std::uint64_t index, std::uint64_t entry) {
            if (narrow) {
                walks.put_32(place + 4 * index, static_cast<std::uint32_t>(entry));
            } else {
                memory.write(place + 8 * index, entry);
            }
        };
        const std::uint64_t address = region << shift | page << 12;
        if (what == 0) {
            put(Tables::directory, region, large | 0x87);
        } else if (what == 1) {
            put(Tables::directory, region, (Tables::table + region * 0x1000) | 7);
        } else if (what == 2) {
            put(Tables::table + region * 0x1000, page, (frame << 12) | (frame == 3 ? 5 : 7));
        } else if (what == 3) {
            const Invalidation gone =
                frame == 1 ? invalidation::mov_cr3(now.vpid, 0) : invalidation::invlpg(now.vpid, 0, address);
            tlb.invalidate(gone);
        } else {
            const std::uint64_t half = narrow && frame == 2 ? x86::page_size_2m : 0;
            tlb.access(memory, now, address + half, what == 4 ? store : load);
        }
    }
}

// --- the processor ---

struct OlderPaging : test::BareScenario {
    /// An L2 with this paging, launched.
    void guest(PagingMode mode, bool ept) {
        say.edit().map(1, page_a, layout::data_page(0)).map(1, page_b, layout::data_page(1));
        legacy_paging::put_pae(say, 1);
        legacy_paging::put_32_bits(say, 1, layout::data_page(2), layout::data_page(3));
        for (unsigned page = 0; page < 4; ++page) {
            say.edit().poke(layout::data_page(page), 0xA0 + page);
            say.ept_map(0, layout::data_page(page), layout::data_page(page));
        }
        Guest what{.vpid = 1, .ept = {}, .tables = 1};
        if (ept) what.ept = 0;
        say.l1().vmxon().prepare(layout::vmcs_region(0), what);
        const bool pae = mode == PagingMode::pae;
        say.vmwrite(field::vm_entry_controls, 0x11FB | vmx::entry_control::load_ia32_efer);
        say.vmwrite(field::guest_ia32_efer, 0x800).vmwrite(field::guest_cs_access_rights, 0xC09B);
        say.vmwrite(field::guest_cr4,
                    0x2080 | (pae ? x86::cr4::physical_address_extension : x86::cr4::page_size_extensions));
        say.vmwrite(field::guest_cr3, pae ? legacy_paging::pdpt(1) : legacy_paging::directory(1));
        if (ept) {
            say.vmwrite(field::guest_pdpte0, 0)
                .vmwrite(field::guest_pdpte2, 0)
                .vmwrite(field::guest_pdpte3, 0);
            say.vmwrite(field::guest_pdpte1, legacy_paging::pdpte(1));
        }
        now();
        launch();
    }
    std::uint64_t value_at(std::uint64_t address) {
        say.l2().load(address);
        EXPECT_EQ(now().status, Observation::Status::done) << describe(now());
        return now().value;
    }
    std::uint64_t read(auto what) {
        say.l1().vmread(what);
        return now().value;
    }
};

TEST_F(OlderPaging, AnL2HasEitherWithEptAndWithout) {
    for (const bool ept : {true, false}) {
        for (const PagingMode mode : {PagingMode::pae, PagingMode::bits_32}) {
            say.l0().destroy_vm().create_vm(2);
            guest(mode, ept);
            const std::uint64_t first = mode == PagingMode::pae ? 0xA0 : 0xA2;
            EXPECT_EQ(value_at(page_a), first);
            EXPECT_EQ(value_at(page_b), first + 1);
            EXPECT_EQ(value_at(0xFFFF'FFFF'4000'0000), first) << "of 32 bits";
            if (mode == PagingMode::bits_32) {
                EXPECT_EQ(value_at(0x4040'1000), 0xA1U) << "by a page of 4 MBytes";
            }
        }
    }
}

TEST_F(OlderPaging, MovToCr3LoadsThePdptesAndRefusesBadOnes) {
    guest(PagingMode::pae, true);
    // An edit is seen by the next load alone.
    say.edit().poke(legacy_paging::pdpt(1) + 8, 0);
    EXPECT_EQ(value_at(page_a), 0xA0U);
    say.l2().mov_to_cr3(legacy_paging::pdpt(1)).load(page_a);
    EXPECT_TRUE(faulted(now(), 14, 0));
    say.edit().poke(legacy_paging::pdpt(1), 7);
    say.l2().mov_to_cr3(legacy_paging::pdpt(1));
    EXPECT_TRUE(faulted(now(), 13, 0));
    say.edit().poke(legacy_paging::pdpt(1), 0).poke(legacy_paging::pdpt(1) + 8, legacy_paging::pdpte(1));
    say.l2().load(page_a);
    EXPECT_TRUE(faulted(now(), 14, 0)) << "the ones before are still there";
    // MOV to CR4 that changes PGE loads them too.
    say.l2().mov_to_cr4(0x2020);
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(value_at(page_a), 0xA0U);
    say.l2().vmcall();
    now();
    EXPECT_EQ(read(field::guest_pdpte1), legacy_paging::pdpte(1)) << "the exit saves them";
}

TEST_F(OlderPaging, APdptThatEptDoesNotMapIsAViolationWithoutALinearAddress) {
    guest(PagingMode::pae, true);
    say.l2().mov_to_cr3(0x7000'0000);
    EXPECT_TRUE(exited(now(), vmx::ExitReason::ept_violation));
    EXPECT_EQ(now().exit.guest_physical_address, 0x7000'0000U);
    EXPECT_EQ(now().exit.qualification & 0x187, 1U);
    EXPECT_EQ(read(field::guest_cr3), legacy_paging::pdpt(1));
}

TEST_F(OlderPaging, BetweenTheTwoMovToCr4GoesOn) {
    guest(PagingMode::bits_32, false);
    EXPECT_EQ(value_at(page_a), 0xA2U);
    // The directory has what a PDPT has.
    say.edit()
        .poke(legacy_paging::directory(1), 0)
        .poke(legacy_paging::directory(1) + 8, legacy_paging::pdpte(1));
    say.poke(legacy_paging::directory(1) + 16, 0).poke(legacy_paging::directory(1) + 24, 0);
    say.l2().mov_to_cr4(0x20A0);
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(value_at(page_a), 0xA0U);
    say.l2().mov_to_cr4(0x2090);
    EXPECT_EQ(value_at(page_a), 0xA2U);
}

}  // namespace
}  // namespace flatback::machine::older_paging_test
