// The pages of EPT02's tables, alone: what is used again is zero, and only what was written is made so.
#include "nested/ept/table_pages.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/nested/fake_port.hpp"
#include "vmx/ept.hpp"

namespace flatback::nested_test::table_pages_test {
namespace {

using nested::TableEntries;
using Pages = nested::TablePages<FakePort>;

constexpr std::uint64_t entry = 0x1234'5000 | 7;

bool is_zero(const std::uint64_t* words) {
    for (unsigned i = 0; i < 512; ++i) {
        if (words[i] != 0) return false;
    }
    return true;
}

TEST(TableEntries, AreZeroAgainWhateverWasWritten) {
    FakePort port;
    std::uint64_t* const words = port.page(*port.allocate_page());
    std::mt19937 random{1};
    for (unsigned round = 0; round < 200; ++round) {
        TableEntries table{words};
        for (unsigned n = random() % 8; n > 0; --n) {
            const unsigned index = random() % 512;
            switch (random() % 3) {
                case 0:
                    table.set(index, entry);
                    EXPECT_EQ(table[index] & ~TableEntries::written_bit, entry);
                    break;
                case 1:
                    table.erase(index);
                    EXPECT_FALSE(vmx::ept_entry::is_present(table[index]));
                    break;
                default:
                    words[index] = entry;  // as a filler of neighbours does
                    table.note_written(index);
            }
        }
        table.clear();
        ASSERT_TRUE(is_zero(words)) << round;
    }
}

TEST(TableEntries, ErasedAtTheHeadOfAGroupStillTellOfTheOthers) {
    FakePort port;
    std::uint64_t* const words = port.page(*port.allocate_page());
    TableEntries table{words};
    table.set(TableEntries::group, entry);
    table.set(TableEntries::group + 5, entry);
    table.erase(TableEntries::group);
    table.clear();
    EXPECT_TRUE(is_zero(words));
}

TEST(TablePages, GiveBackEachPageOnceAndZero) {
    FakePort port;
    Pages used{port};
    Pages free{port};
    std::set<std::uint64_t> pages;
    const auto new_page = [&] {
        const auto page = port.allocate_page();
        pages.insert(page->value());
        return page;
    };
    // More than one list page holds; some tables, and every list page, have something in them.
    for (unsigned n = 0; n < 1200; ++n) {
        const auto page = *new_page();
        if (n % 3 != 0) TableEntries{port.page(page)}.set(n % 512, entry);
        ASSERT_TRUE(used.push(page, new_page));
        if (n == 700) free.join(used);
    }
    free.join(used);
    EXPECT_EQ(used.count(), 0U);
    EXPECT_EQ(free.count(), 1200U);
    while (const auto page = free.pop()) {
        EXPECT_EQ(pages.erase(page->value()), 1U);
        EXPECT_TRUE(is_zero(port.page(*page)));
    }
    EXPECT_TRUE(pages.empty()) << "list pages too";
}

TEST(TablePages, AListThatRanEmptyIsJoinedWhole) {
    FakePort port;
    Pages used{port};
    Pages free{port};
    std::set<std::uint64_t> pages;
    const auto new_page = [&] {
        const auto page = port.allocate_page();
        pages.insert(page->value());
        return page;
    };
    ASSERT_TRUE(used.push(*new_page(), new_page));
    while (const auto page = used.pop()) pages.erase(page->value());
    EXPECT_TRUE(pages.empty());
    // The page that the emptied list began with is another's now.
    ASSERT_TRUE(used.push(*new_page(), new_page));
    ASSERT_TRUE(free.push(*new_page(), new_page));
    free.join(used);
    while (const auto page = free.pop()) EXPECT_EQ(pages.erase(page->value()), 1U);
    EXPECT_TRUE(pages.empty()) << "what `free` had before is behind what joined it";
}

TEST(TablePages, AListThatWasJoinedIsJoinedWhole) {
    FakePort port;
    Pages first{port};
    Pages second{port};
    Pages third{port};
    std::set<std::uint64_t> pages;
    const auto new_page = [&] {
        const auto page = port.allocate_page();
        pages.insert(page->value());
        return page;
    };
    for (Pages* list : {&first, &second, &third}) ASSERT_TRUE(list->push(*new_page(), new_page));
    second.join(first);
    third.join(second);
    EXPECT_EQ(third.count(), 3U);
    while (const auto page = third.pop()) EXPECT_EQ(pages.erase(page->value()), 1U);
    EXPECT_TRUE(pages.empty());
}

TEST(TablePages, RefusesATableWhereThereIsNoPageForTheList) {
    FakePort port;
    Pages pages{port};
    EXPECT_FALSE(pages.push(*port.allocate_page(), [] { return std::optional<x86::Hpa>{}; }));
    EXPECT_FALSE(pages.pop());
}

}  // namespace
}  // namespace flatback::nested_test::table_pages_test
