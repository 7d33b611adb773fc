// What windows of a trace show: written line by line as the emulator prints them, with the faults of an L0 in
// them that must be seen, and what must not be taken for one.
#include "watch/follower.hpp"

#include <gtest/gtest.h>

#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "machine/geometric/geometry.hpp"
#include "watch/trace_reader.hpp"

namespace follower_test {
namespace {

using namespace flatback::watch;

// Host-physical addresses.
constexpr unsigned long long l1_vmcs = 0x7000000;
constexpr unsigned long long l2_vmcs = 0x7001000;
constexpr unsigned long long host_tables = 0x6000000;
constexpr unsigned long long ept_tables = 0x5000000;    // PML4, PDPT, PD, PT
constexpr unsigned long long guest_tables = 0x4000000;  // the same, guest-physical too

constexpr unsigned long long page = 0x400000;    // an L2's linear address; its guest-physical is the same
constexpr unsigned long long frame = 0x2000000;  // where EPT leads
constexpr unsigned long long other_frame = 0x2001000;

class Trace : public testing::Test {
protected:
    [[gnu::format(printf, 2, 3)]] void say(const char* format, ...) {
        char line[256];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(line, sizeof line, format, arguments);
        va_end(arguments);
        reader_.append(std::string{line} + "\n", [this](const TraceLine& read) {
            EXPECT_NE(read.kind, TraceLine::Kind::other);
            follower_.take(read);
        });
    }

    void instruction(const char* text, unsigned long long physical, unsigned long long linear) {
        say("(0).[%llu] [0x%012llx] 0010:%016llx (unk. ctxt): %s ; 90", ++tick_, physical, linear, text);
    }
    /// L0 executes it. Its code is mapped as it stands.
    void l0(const char* text) { instruction(text, host_tables + 0x10000, host_tables + 0x10000); }
    void vmcs(const char* what, unsigned long long region, unsigned offset, unsigned long long value) {
        say("[CPU0 %s]: PHY 0x%012llx (len=8, INVALID): 0x%08llX 0x%08llX\t; VMCS", what, region + offset,
            value >> 32, value & 0xFFFFFFFF);
    }
    void entry_of(const char* name, unsigned long long place, unsigned long long value) {
        say("[CPU0 RD]: PHY 0x%012llx (len=8, WB): 0x%08llX 0x%08llX\t; %s", place, value >> 32,
            value & 0xFFFFFFFF, name);
    }
    void access(const char* what, unsigned long long linear, unsigned long long physical,
                unsigned long long value = 0) {
        say("[CPU0 %s]: LIN 0x%016llx PHY 0x%012llx (len=8, WB): 0x%08llX 0x%08llX", what, linear, physical,
            value >> 32, value & 0xFFFFFFFF);
    }

    struct Guest {
        unsigned long long region = l2_vmcs;
        unsigned vpid = 2;
        unsigned long long eptp = ept_tables | 0x1E;
        unsigned long long cr3 = guest_tables;
        unsigned long long cr4 = 0x2020;
        bool uses_vpid = true;
    };
    void enter(const Guest& guest) {
        l0("vmresume");
        vmcs("RD", guest.region, 0x818, 0x80000000);
        vmcs("RD", guest.region, 0x888, guest.uses_vpid ? 0x22 : 0x02);
        vmcs("RD", guest.region, 0x478, guest.eptp);
        if (guest.uses_vpid) vmcs("RD", guest.region, 0x010, guest.vpid);
        vmcs("RD", guest.region, 0x858, 0x200);
        vmcs("RD", guest.region, 0xF10, 0x80010031);
        vmcs("RD", guest.region, 0xF18, host_tables);
        vmcs("RD", guest.region, 0xF20, 0x42060);
        vmcs("RD", guest.region, 0xE10, 0x80010031);
        vmcs("RD", guest.region, 0xE18, guest.cr3);
        vmcs("RD", guest.region, 0xE20, guest.cr4);
        guest_ = guest;
    }
    void exit(unsigned reason = 18, unsigned long long qualification = 0, unsigned long long linear = 0) {
        if (linear != 0) vmcs("WR", guest_.region, 0xD38, linear);
        vmcs("WR", guest_.region, 0x918, reason);
        vmcs("WR", guest_.region, 0xD10, qualification);
        vmcs("WR", guest_.region, 0xE18, guest_.cr3);
        // L0's first instruction, whose walk is shown.
        entry_of("PML4E", host_tables, host_tables + 0x1023);
        entry_of("PDPTE", host_tables + 0x1000, host_tables + 0x2023);
        entry_of("PDE", host_tables + 0x2000 + 8 * ((host_tables + 0x10000) >> 21), 0x60000E3);
        l0("nop");
    }

    /// The walk for `page` by the guest's tables and EPT, which maps it to `target`.
    void walk(unsigned long long target, unsigned long long flags = 0x23,
              unsigned long long root = guest_tables, unsigned long long linear = page) {
        const unsigned long long tables = root;
        const auto ept = [](unsigned long long guest_physical, unsigned level) {
            return ept_tables + (4 - level) * 0x1000ULL + 8 * (guest_physical >> (3 + 9 * level) & 0x1FF);
        };
        const auto ept_walk = [&](unsigned long long guest_physical, unsigned long long host) {
            entry_of("EPT PML4E", ept(guest_physical, 4), ept_tables + 0x1007);
            entry_of("EPT PDPTE", ept(guest_physical, 3), ept_tables + 0x2007);
            // Tables lie in other 2 MB than pages: each has a page table of its own.
            const unsigned long long table = ept_tables + 0x3000 + (guest_physical >> 21) % 16 * 0x1000;
            entry_of("EPT PDE", ept(guest_physical, 2), table + 7);
            entry_of("EPT PTE", table + 8 * (guest_physical >> 12 & 0x1FF), host + 0x37);
        };
        const char* const names[] = {"PML4E", "PDPTE", "PDE", "PTE"};
        for (unsigned level = 4; level != 0; --level) {
            const unsigned long long table = tables + (4 - level) * 0x1000ULL;
            ept_walk(table, table);
            entry_of(names[4 - level], table + 8 * (linear >> (3 + 9 * level) & 0x1FF),
                     level == 1 ? page + flags : table + 0x1023);
        }
        ept_walk(page + (flags & ~0xFFFULL), target);
    }
    void l2_reads(unsigned long long target, unsigned long long flags = 0x23,
                  unsigned long long root = guest_tables) {
        walk(target, flags, root);
        access("RD", page, target);
    }
    /// L0 stores to the EPT entry of `page`.
    void set_ept_entry(unsigned long long value) {
        const unsigned long long place =
            ept_tables + 0x3000 + (page >> 21) % 16 * 0x1000 + 8 * (page >> 12 & 0x1FF);
        l0("mov qword ptr ds:[rax], rcx");
        entry_of("PML4E", host_tables, host_tables + 0x1023);
        entry_of("PDPTE", host_tables + 0x1000, host_tables + 0x2023);
        entry_of("PDE", host_tables + 0x2000 + 8 * (place >> 21), (place & ~0x1FFFFFULL) | 0xE3);
        access("WR", place, place, value);
    }
    void remap(unsigned long long target) { set_ept_entry(target + 0x37); }
    void descriptor(unsigned long long low, unsigned long long high) {
        say("[CPU0 RD]: LIN 0x%016llx PHY 0x%012llx (len=16, WB): 0x%08llX 0x%08llX 0x%08llX 0x%08llX",
            host_tables + 0x10000, host_tables + 0x10000, high >> 32, high & 0xFFFFFFFF, low >> 32,
            low & 0xFFFFFFFF);
    }

    [[nodiscard]] const Counts& counts() {
        EXPECT_EQ(follower_.counts().unexplained, 0U);
        return follower_.counts();
    }
    [[nodiscard]] std::uint64_t stale() { return counts().stale; }
    [[nodiscard]] std::uint64_t counts_of_l2() { return follower_.counts().of(Level::l2).tlb.misses; }

    TraceReader reader_;
    Follower follower_{{.geometry = flatback::machine::find_geometry("skylake-x"),
                        .vmcs01 = l1_vmcs,
                        .warming_l2_entries = 0}};
    Guest guest_{};
    unsigned long long tick_ = 1000;
};

TEST_F(Trace, WhatStaysTheSameIsNotStale) {
    for (unsigned turn = 0; turn < 3; ++turn) {
        enter({});
        l2_reads(frame);
        exit();
    }
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().of(Level::l2).entries, 3U);
    // One access for each entry, of which the first missed.
    EXPECT_EQ(counts().of(Level::l2).tlb.accesses, 3U);
    EXPECT_EQ(counts().of(Level::l2).tlb.misses, 1U);
}

TEST_F(Trace, AnInveptThatIsLeftOutIsSeen) {
    enter({});
    l2_reads(frame);
    exit();
    remap(other_frame);
    enter({});
    l2_reads(other_frame);
    exit();
    EXPECT_EQ(stale(), 1U);
    ASSERT_EQ(follower_.tlbs().stale_accesses().size(), 1U);
    const StaleAccess& seen = follower_.tlbs().stale_accesses().front();
    EXPECT_EQ(seen.linear, page);
    EXPECT_EQ(seen.physical, other_frame);
    EXPECT_EQ(seen.other.outcome.physical, frame);
    EXPECT_EQ(seen.other.provenance.vpid, 2U);
}

// The guest counts what it has done in a word of its memory.
TEST_F(Trace, AStaleAccessIsToldByTheGuestsProgress) {
    constexpr unsigned long long word = frame + 0x100;
    follower_ = Follower{{.geometry = flatback::machine::find_geometry("skylake-x"),
                          .vmcs01 = l1_vmcs,
                          .progress = word,
                          .warming_l2_entries = 0}};
    const auto read_behind_a_change = [&](unsigned long long target) {
        remap(target);
        enter({});
        l2_reads(target);
        exit();
    };
    read_behind_a_change(frame);
    read_behind_a_change(other_frame);  // before anything was counted
    EXPECT_TRUE(follower_.tlbs().stale_by_progress().empty());
    enter({});
    access("WR", page + 0x100, word, 7);
    exit();
    read_behind_a_change(frame);
    read_behind_a_change(other_frame);
    enter({});
    access("RD", page + 0x100, word, 8);  // read, not counted
    access("WR", page + 0x108, word + 8, 8);
    exit();
    read_behind_a_change(frame);
    const StaleByProgress& by_progress = follower_.tlbs().stale_by_progress();
    ASSERT_EQ(by_progress.size(), 1U);
    EXPECT_EQ(by_progress.begin()->first, 7U);
    EXPECT_GE(by_progress.begin()->second, 3U);
    EXPECT_LT(by_progress.begin()->second, stale());
    follower_.end_window();
    read_behind_a_change(frame);
    read_behind_a_change(other_frame);  // of a window in which nothing was counted
    EXPECT_EQ(by_progress.size(), 1U);
}

TEST_F(Trace, TheInveptMakesItGood) {
    enter({});
    l2_reads(frame);
    exit();
    remap(other_frame);
    l0("invept rax, dqword ptr ss:[rsp]");
    descriptor(ept_tables | 0x1E, 0);
    enter({});
    l2_reads(other_frame);
    exit();
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().invept, 1U);
}

TEST_F(Trace, AnInveptOfAnotherRootDoesNot) {
    enter({});
    l2_reads(frame);
    exit();
    remap(other_frame);
    l0("invept rax, dqword ptr ss:[rsp]");
    descriptor((ept_tables + 0x100000) | 0x1E, 0);
    enter({});
    l2_reads(other_frame);
    EXPECT_EQ(stale(), 1U);
}

TEST_F(Trace, AnInveptThatFailsDoesNot) {
    enter({});
    l2_reads(frame);
    exit();
    remap(other_frame);
    l0("invept rax, dqword ptr ss:[rsp]");
    descriptor(ept_tables | 0x1E, 0);
    vmcs("WR", l2_vmcs, 0x910, 28);
    enter({});
    l2_reads(other_frame);
    EXPECT_EQ(stale(), 1U);
}

// Another virtual CPU of an L2 gets the tag: the same EPT, other page tables.
TEST_F(Trace, ATagsNewOwnerWhoseSlotIsNotFlushedIsSeen) {
    enter({});
    l2_reads(frame);
    exit();
    enter({.cr3 = guest_tables + 0x10000});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);  // its own page table: the page after it
    EXPECT_EQ(stale(), 1U);
}

TEST_F(Trace, ATagsNewOwnerFindsItFlushed) {
    enter({});
    l2_reads(frame);
    exit();
    l0("invvpid rax, dqword ptr ss:[rsp]");
    descriptor(2, 0);
    enter({.cr3 = guest_tables + 0x10000});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().invvpid, 1U);
}

TEST_F(Trace, AFlushOfAnotherTagOrAddressIsNone) {
    enter({});
    l2_reads(frame);
    exit();
    l0("invvpid rax, dqword ptr ss:[rsp]");
    descriptor(3, 0);
    l0("invvpid rax, dqword ptr ss:[rsp]");
    descriptor(2, page + 0x1000);
    enter({.cr3 = guest_tables + 0x10000});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    EXPECT_EQ(stale(), 1U);
}

TEST_F(Trace, TagsOfTheirOwnNeedNoFlush) {
    enter({});
    l2_reads(frame);
    exit();
    enter({.vpid = 3, .cr3 = guest_tables + 0x10000});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    exit();
    enter({});
    EXPECT_EQ(stale(), 0U);
}

TEST_F(Trace, WithoutVpidEachTransitionDropsAll) {
    enter({.uses_vpid = false});
    l2_reads(frame);
    exit();
    enter({.cr3 = guest_tables + 0x10000, .uses_vpid = false});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    EXPECT_EQ(stale(), 0U);
}

// Somebody may know the type that the trace does not show: one that keeps global translations keeps them.
TEST_F(Trace, AFlushThatRetainsGlobalsIsNoWholeOneWhereItsTypeIsKnown) {
    constexpr unsigned long long global = 0x123;
    for (const bool known : {false, true}) {
        enter({.cr4 = 0x20A0});
        l2_reads(frame, global);
        exit();
        if (known) follower_.know_type(3);
        l0("invvpid rax, dqword ptr ss:[rsp]");
        descriptor(2, 0);
        enter({.cr3 = guest_tables + 0x10000, .cr4 = 0x20A0});
        l2_reads(other_frame, 0x1123, guest_tables + 0x10000);
        exit();
        EXPECT_EQ(stale(), known ? 1U : 0U);
        follower_.end_window();
    }
}

// Between exits L2 loads CR3; where it points to is seen by the next walk.
TEST_F(Trace, MovToCr3DropsWhatIsNotGlobal) {
    enter({});
    l2_reads(frame);
    instruction("mov cr3, rdi", frame + 8, page + 8);
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().of(Level::l2).mov_to_cr3, 1U);
}

TEST_F(Trace, MovToCr3ThatExitsDropsNothing) {
    enter({});
    l2_reads(frame);
    instruction("mov cr3, rdi", frame + 8, page + 8);
    exit(28);
    enter({.cr3 = guest_tables + 0x10000});
    l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
    EXPECT_EQ(stale(), 1U);
}

// With PCIDs a root keeps what it had where bit 63 of the source was set just before, and only then.
TEST_F(Trace, BitSixtyThreeOfMovToCr3KeepsTranslations) {
    const Guest with_pcids{.cr4 = 0x22020};
    for (const bool keeps : {true, false}) {
        enter(with_pcids);
        l2_reads(frame);
        if (keeps) instruction("bts rdi, 0x3f", frame + 8, page + 8);
        instruction("mov cr3, rdi", frame + 8, page + 8);
        l2_reads(other_frame, 0x1023, guest_tables + 0x10000);
        EXPECT_EQ(stale(), 0U);
        if (keeps) instruction("bts rdi, 0x3f", other_frame + 8, page + 8);
        instruction("mov cr3, rdi", other_frame + 8, page + 8);
        const std::uint64_t missed = counts_of_l2();
        l2_reads(frame);
        EXPECT_EQ(counts_of_l2() - missed, keeps ? 0U : 1U) << keeps;
        exit();
    }
    EXPECT_EQ(stale(), 0U);
}

TEST_F(Trace, BitSixtyThreeIsForgottenWhereTheRegisterIsLoadedAnew) {
    enter({.cr4 = 0x22020});
    l2_reads(frame);
    instruction("bts rdi, 0x3f", frame + 8, page + 8);
    instruction("mov rdi, rax", frame + 8, page + 8);
    instruction("mov cr3, rdi", frame + 8, page + 8);
    const std::uint64_t missed = counts_of_l2();
    l2_reads(frame);
    EXPECT_EQ(counts_of_l2() - missed, 1U);
}

// Its address is not shown: nothing that it may have dropped is held to be stale.
TEST_F(Trace, InvlpgMayHaveDroppedAnyPage) {
    enter({});
    l2_reads(frame);
    instruction("invlpg byte ptr ds:[rdi]", frame + 8, page + 8);
    l2_reads(other_frame, 0x1023);
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().invlpg, 1U);
}

// An access that EPT refuses, while what was cached when it was allowed has not been dropped.
// The debugger does not always find an instruction's bytes.
TEST_F(Trace, AHiddenInstructionWithoutAnAccessMayHaveInvalidated) {
    const auto hidden = [this] { say("(0).[%llu] ??? (physical address not available)", ++tick_); };
    enter({});
    hidden();
    l2_reads(frame);
    exit();
    enter({});
    hidden();  // an access: it invalidates nothing
    l2_reads(other_frame, 0x1023);
    hidden();  // none, but it exits
    exit();
    EXPECT_EQ(stale(), 1U);
    enter({});
    hidden();
    hidden();  // the one before was INVLPG, perhaps
    l2_reads(other_frame, 0x1023);
    exit();
    EXPECT_EQ(stale(), 1U);
}

TEST_F(Trace, ARightThatWasTakenAndNotInvalidatedIsSeen) {
    enter({});
    l2_reads(frame);
    exit();
    set_ept_entry(0);
    enter({});
    exit(48, 0x181, page);
    ASSERT_EQ(stale(), 1U);
    EXPECT_TRUE(follower_.tlbs().stale_accesses().front().refused);
}

// A new root, of which no walk shows the half that all processes share: what is cached of it is global.
TEST_F(Trace, WhatRootsShareIsKnownOfTheNewOne) {
    constexpr unsigned long long kernel = 0xFFFF'8000'0040'0000;
    constexpr unsigned long long other_root = guest_tables + 0x10000;
    constexpr unsigned long long global = 0x123;
    enter({.cr4 = 0x20A0});
    walk(frame, global, guest_tables, kernel);
    access("RD", kernel, frame);
    instruction("mov cr3, rdi", frame + 8, kernel + 8);
    l2_reads(frame, 0x23, other_root);
    for (int times = 0; times < 3; ++times) access("RD", kernel + 16, frame + 16);
    EXPECT_EQ(stale(), 0U);
    // Where the last root's entry does not lead to where the access went, nothing is taken from it.
    access("RD", kernel + 16, other_frame + 16);
    EXPECT_EQ(follower_.counts().unexplained + follower_.counts().stale, 1U);
}

TEST_F(Trace, AWindowKnowsNothingOfTheLastOne) {
    enter({});
    l2_reads(frame);
    exit();
    follower_.end_window();
    enter({});
    l2_reads(other_frame);
    exit();
    EXPECT_EQ(stale(), 0U);
    EXPECT_EQ(counts().windows, 2U);
}

TEST_F(Trace, AWindowsOwnCountsAreWhatItAdded) {
    for (const unsigned entries : {5U, 4U}) {
        for (unsigned entry = 0; entry < entries; ++entry) {
            enter({});
            l2_reads(frame);
            exit();
        }
        const WindowCounts window = follower_.end_window();
        EXPECT_EQ(window.levels[2].entries, entries);
        EXPECT_NE(window.ticks, 0U);
        EXPECT_LT(window.ticks, tick_);
    }
    EXPECT_EQ(counts().of(Level::l2).entries, 9U);
}

// Warm by instructions: the count begins in the midst of what runs, and before it nothing is counted.
TEST(Warming, ByInstructions) {
    std::ifstream file(std::string{FLATBACK_SOURCE_DIRECTORY} + "/tests/watch/data/l1_and_l2.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    // It is known who runs from the fifth on.
    for (const unsigned warming : {1U, 46U, 49U}) {
        TraceReader reader;
        Follower follower{{.geometry = flatback::machine::find_geometry("skylake-x"),
                           .vmcs01 = 0x3df1b000,
                           .warming_instructions = warming}};
        reader.append(text, [&](const TraceLine& line) { follower.take(line); });
        const WindowCounts window = follower.end_window();
        std::uint64_t counted = 0;
        for (const LevelCounts& level : window.levels) counted += level.instructions;
        EXPECT_EQ(follower.counted_behind_warming(), 0U) << "of the window that has ended";
        if (warming == 49) {
            EXPECT_EQ(counted, 0U) << "there are 52";
            EXPECT_EQ(window.ticks, 0U);
        } else if (warming == 46) {
            EXPECT_EQ(counted, 3U) << "the 50th and two more";
            EXPECT_EQ(window.levels[2].entries, 0U);
        } else {
            EXPECT_GT(counted, 3U);
            EXPECT_EQ(window.levels[2].entries, 1U);
        }
    }
}

// A window that ends before it is warm by instructions counts from its first L2 entries on.
TEST_F(Trace, AWindowThatEndsBeforeItIsWarmIsCountedAsFarAsItGoes) {
    follower_ = Follower{{.geometry = flatback::machine::find_geometry("skylake-x"),
                          .vmcs01 = l1_vmcs,
                          .warming_l2_entries = 2,
                          .warming_instructions = 20}};
    const auto window_with_entries = [&](unsigned entries) {
        for (unsigned entry = 0; entry < entries; ++entry) {
            enter({});
            l2_reads(frame);
            exit();
        }
        return follower_.end_window();
    };
    // Two instructions an entry. Not even the third entry: nothing.
    EXPECT_EQ(window_with_entries(2).ticks, 0U);
    EXPECT_EQ(window_with_entries(5).levels[2].entries, 3U);  // behind two
    // Warm in the tenth entry: what was counted until then is dropped.
    const WindowCounts warm = window_with_entries(16);
    EXPECT_GE(warm.levels[2].entries, 5U);
    EXPECT_LE(warm.levels[2].entries, 7U);
    EXPECT_EQ(warm.levels[2].tlb.misses, 0U);
    EXPECT_EQ(counts().of(Level::l2).entries, 3U + warm.levels[2].entries);
    EXPECT_EQ(counts().windows, 2U);
}

// Recorded: L0 enters L1, L1's VMRESUME exits, L0 enters L2, which executes VMCALL.
TEST(RecordedTrace, TwoEntries) {
    std::ifstream file(std::string{FLATBACK_SOURCE_DIRECTORY} + "/tests/watch/data/l1_and_l2.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    TraceReader reader;
    Follower follower{{.geometry = flatback::machine::find_geometry("skylake-x"),
                       .vmcs01 = 0x3df1b000,
                       .warming_l2_entries = 0}};
    reader.append(text, [&](const TraceLine& line) { follower.take(line); });
    const Counts& counts = follower.counts();
    EXPECT_EQ(counts.instructions, 52U);
    EXPECT_EQ(counts.of(Level::l2).entries, 1U);
    EXPECT_EQ(counts.of(Level::l2).instructions, 1U);
    EXPECT_EQ(counts.of(Level::l0).entries, 1U);  // counted from the first L2 entry on
    EXPECT_EQ(counts.stale, 0U);
    EXPECT_EQ(counts.unexplained, 0U);
    EXPECT_EQ(counts.of(Level::l2).tlb.misses, 1U);
    // VMCALL's page, by a 2-MByte page of L2's and a 4-KByte page of EPT: three tables and the page, for each
    // of which EPT has four levels, less what its caches know after the first.
    EXPECT_GT(counts.of(Level::l2).tlb.walk_references, 3U);
    EXPECT_LE(counts.of(Level::l2).tlb.walk_references, 3U + 4U * 4U);
}

}  // namespace
}  // namespace follower_test
