// Copies of L1's bitmaps where several processors run one L1: what one processor's engine tells the others,
// and what it heeds.
#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <utility>

#include "nested/entry/io_bitmaps.hpp"
#include "nested/entry/msr_bitmap.hpp"

namespace flatback::nested_test::bitmaps_elsewhere_test {
namespace {

using x86::Gpa;
using x86::Hpa;
using x86::L1;

// Pages 1 to 3 are L1's, 10 and 11 merged ones, 20 to 22 L0's own bitmaps.
struct Host {
    std::uint64_t* page(Hpa address) { return pages.at(address.page_number()).data(); }
    std::byte* l1_page(Gpa<L1> address) {
        return reinterpret_cast<std::byte*>(pages.at(address.page_number()).data());
    }
    Hpa l0_msr_bitmap() { return Hpa{20 << 12}; }
    Hpa l0_io_bitmap(unsigned half) { return Hpa{(21 + half) << 12}; }
    bool unwritten_since_last_asked(Gpa<L1>) { return !std::exchange(written, false); }
    bool keep_unwritten(Gpa<L1>) { return true; }
    std::uint64_t writes_elsewhere() { return elsewhere; }
    void fatal(const char* why) { throw std::runtime_error(why); }

    std::array<std::array<std::uint64_t, 512>, 23> pages{};
    bool written = false;
    std::uint64_t elsewhere = 0;
};

TEST(BitmapsElsewhere, WhatL0WritesForL1CountsAndWhatItOnlyFoundDoesNot) {
    Host host;
    nested::MsrBitmaps<Host> bitmaps{host};
    const std::uint64_t before = bitmaps.written_by_l0();
    bitmaps.note_written(host.l1_page(Gpa<L1>{1 << 12}));
    EXPECT_EQ(bitmaps.written_by_l0(), before);  // nobody uses a copy of that page
    bitmaps.notice_writes_to(host.l1_page(Gpa<L1>{1 << 12}));
    bitmaps.note_written(host.l1_page(Gpa<L1>{1 << 12}));
    EXPECT_EQ(bitmaps.written_by_l0(), before + 1);
    bitmaps.note_written_somewhere();
    EXPECT_EQ(bitmaps.written_by_l0(), before + 2);
    // Or two processors would find each other's finding for ever.
    nested::MergedMsrBitmap merged{.page = Hpa{10 << 12}};
    host.written = true;
    EXPECT_FALSE(bitmaps.is_current(merged, 1 << 12));
    EXPECT_EQ(bitmaps.written_by_l0(), before + 2);
}

TEST(BitmapsElsewhere, ThePagesOfOthersAreNoticedBehindAChangeOfEpt01Too) {
    Host host;
    nested::MsrBitmaps<Host> bitmaps{host};
    bitmaps.notice_writes_to(host.l1_page(Gpa<L1>{1 << 12}));
    bitmaps.forget();
    const std::uint64_t before = bitmaps.written_by_l0();
    bitmaps.note_written(host.l1_page(Gpa<L1>{1 << 12}));
    EXPECT_EQ(bitmaps.written_by_l0(), before + 1);
}

TEST(BitmapsElsewhere, IoBitmapsAreCurrentUntilAnotherProcessorMayHaveWritten) {
    Host host;
    host.pages[21][3] = 4;  // L0 keeps a port of the lower half
    nested::MsrBitmaps<Host> writes{host};
    nested::IoBitmaps<Host> bitmaps{host};
    nested::MergedIoBitmaps merged{
        .pages = {Hpa{10 << 12}, Hpa{11 << 12}}, .from = {1 << 12, 2 << 12}, .copied = {}};
    ASSERT_TRUE(bitmaps.merge(merged, writes));
    EXPECT_TRUE(bitmaps.is_current(merged, writes));
    ++host.elsewhere;
    EXPECT_FALSE(bitmaps.is_current(merged, writes));
    host.pages[1][5] = 8;
    ASSERT_TRUE(bitmaps.merge(merged, writes));
    EXPECT_TRUE(bitmaps.is_current(merged, writes));
    EXPECT_EQ(host.pages[10][5], 8U);
    EXPECT_EQ(host.pages[10][3], 4U);
}

}  // namespace
}  // namespace flatback::nested_test::bitmaps_elsewhere_test
