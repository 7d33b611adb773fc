#include "metal/memory/ept01.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "metal/memory/memory_types.hpp"
#include "metal/memory/page_pool.hpp"
#include "vmx/ept.hpp"
#include "x86/paging.hpp"

namespace flatback::metal::ept01_test {
namespace {

using enum x86::MemoryType;
using Gpa1 = x86::Gpa<x86::L1>;

constexpr PhysicalRange l0_region{0x3DE0'0000, 0x3FE0'0000};

// A pool of host pages; in the tests a host address is a physical one (fake_machine.cpp).
class Pages {
public:
    explicit Pages(std::size_t count) : memory_(std::aligned_alloc(4096, count * 4096)) {
        std::memset(memory_.get(), 0xCC, count * 4096);
        const auto start = reinterpret_cast<std::uint64_t>(memory_.get());
        pool.add({start, start + count * 4096});
    }
    PagePool pool;

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
};

Processor processor(unsigned width, bool has_1g_pages = true) {
    Processor result;
    result.physical_address_width = width;
    result.capabilities.ept_vpid.value = has_1g_pages ? vmx::EptVpidCapability::page_1g : 0;
    return result;
}

// As a PC's firmware leaves them: write-back but for the VGA window, ROMs and the last GB below 4 GB.
MemoryTypes pc_types() {
    MemoryTypes types;
    types.physical_address_width = 40;
    types.default_type = MemoryTypes::enabled | MemoryTypes::fixed_enabled | 6;
    types.fixed.fill(0x0606060606060606);
    types.fixed[2] = 0;
    types.variable[0] = {0xC000'0000, (((1ULL << 40) - 1) & ~0x3FFF'FFFFULL) | MemoryTypes::valid};
    return types;
}

TEST(Ept01, MapsEveryAddressToItselfWithTheLargestPages) {
    Pages pages(128);
    const Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    EXPECT_EQ(ept.size(), 1ULL << 40);
    struct Row {
        std::uint64_t address;
        unsigned shift;
        x86::MemoryType type;
    };
    for (const Row row :
         {Row{0, 12, write_back}, Row{0x9'FFFF, 12, write_back}, Row{0xA'0000, 12, uncacheable},
          Row{0x20'0000, 21, write_back}, Row{0x3DDF'FFFF, 21, write_back}, Row{0x3FE0'0000, 21, write_back},
          Row{0x4000'0000, 30, write_back}, Row{0xFEE0'0020, 30, uncacheable},
          Row{0x7F'FFFF'FFFF, 30, write_back}, Row{0x80'0000'0000, 30, write_back},
          Row{0xFF'FFFF'FFFF, 30, write_back}}) {
        const auto mapping = ept.lookup(Gpa1{row.address});
        ASSERT_TRUE(mapping) << row.address;
        EXPECT_EQ(mapping->address.value(), row.address);
        EXPECT_EQ(mapping->page_shift, row.shift) << row.address;
        EXPECT_EQ(mapping->memory_type, row.type) << row.address;
        EXPECT_FALSE(mapping->is_hole);
    }
    EXPECT_FALSE(ept.lookup(Gpa1{1ULL << 40}));
    EXPECT_FALSE(ept.lookup(Gpa1{~0ULL}));
}

// As the processor walks: the leaf's entry and its level, or level 0 where nothing is present.
struct Leaf {
    std::uint64_t entry = 0;
    unsigned level = 0;
};
Leaf walk(const Ept01& ept, std::uint64_t address) {
    const vmx::Eptp pointer{ept.pointer()};
    std::uint64_t table = pointer.root();
    for (unsigned level = pointer.walk_length();; --level) {
        const std::uint64_t entry =
            reinterpret_cast<const std::uint64_t*>(table)[address >> (12 + 9 * (level - 1)) & 511];
        if (!vmx::ept_entry::is_present(entry)) return {};
        if (vmx::ept_entry::is_leaf(entry, level)) return {entry, level};
        table = vmx::ept_entry::table_address(entry);
    }
}

TEST(Ept01, WhatLiesAbove512GigabytesIsThereFromItsFirstTouch) {
    for (const unsigned width : {41u, 46u, 48u, 52u}) {
        for (const bool huge : {true, false}) {
            Pages pages(1200);
            Processor with_five_levels = processor(width, huge);
            with_five_levels.capabilities.ept_vpid.value |= vmx::EptVpidCapability::walk_length_5;
            MemoryTypes types = pc_types();
            types.physical_address_width = width;
            // Devices in the upper half.
            types.variable[1] = {1ULL << (width - 1), 1ULL << (width - 1) | MemoryTypes::valid};
            Ept01 ept(pages.pool, types, l0_region, with_five_levels);
            const std::size_t free = pages.pool.free_pages();
            EXPECT_EQ(ept.size(), 1ULL << width);
            EXPECT_EQ(vmx::Eptp{ept.pointer()}.walk_length(), width > 48 ? 5u : 4u);
            for (const std::uint64_t address :
                 {0x80'0000'0000ULL, 0x80'4000'1234ULL, (1ULL << (width - 1)) + 5, (1ULL << width) - 1}) {
                EXPECT_EQ(walk(ept, address).level, 0u) << width;
                EXPECT_EQ(ept.touch(address), Ept01::Touched::filled);
                const Leaf leaf = walk(ept, address);
                ASSERT_EQ(leaf.level, huge ? 3u : 2u);
                EXPECT_EQ(vmx::ept_entry::page_address(leaf.entry, leaf.level),
                          address & ~(x86::bytes_per_entry(leaf.level) - 1));
                const auto type = address >> (width - 1) != 0 ? uncacheable : write_back;
                EXPECT_EQ(vmx::ept_entry::memory_type_of(leaf.entry), type);
                EXPECT_EQ(ept.lookup(Gpa1{address})->address.value(), address);
                EXPECT_EQ(ept.lookup(Gpa1{address})->memory_type, type);
            }
            EXPECT_EQ(ept.touch(1ULL << width), Ept01::Touched::outside);
            EXPECT_EQ(ept.touch(0x1000), Ept01::Touched::outside);
            EXPECT_EQ(pages.pool.free_pages(), free) << "the tables were there";
            EXPECT_EQ(ept.leaf_of_4k(Gpa1{0x80'0000'0000}), nullptr);
        }
    }
}

TEST(Ept01, HoweverMuchIsTouchedTheTablesAreAFixedNumber) {
    Pages pages(64 + 64);
    MemoryTypes types = pc_types();
    types.physical_address_width = 48;
    Ept01 ept(pages.pool, types, l0_region, processor(48));
    const std::size_t free = pages.pool.free_pages();
    unsigned given_up = 0;
    for (std::uint64_t address = 1ULL << 39; address < 1ULL << 48; address += 1ULL << 39) {
        const auto touched = ept.touch(address);
        ASSERT_NE(touched, Ept01::Touched::outside);
        if (touched == Ept01::Touched::filled_instead) ++given_up;
        ASSERT_EQ(walk(ept, address).level, 3u);
        ASSERT_EQ(vmx::ept_entry::page_address(walk(ept, address).entry, 3), address);
    }
    EXPECT_GT(given_up, 0u);
    EXPECT_EQ(walk(ept, 1ULL << 39).level, 0u);
    EXPECT_NE(walk(ept, 0x4000'0000).level, 0u) << "the first 512 GB stay";
    EXPECT_EQ(pages.pool.free_pages(), free);
}

TEST(Ept01, MixedMemoryTypesAboveTakeSmallerPages) {
    Pages pages(64 + 64);
    MemoryTypes types = pc_types();
    types.variable[1] = {0x80'0010'0000,
                         (((1ULL << 40) - 1) & ~0xF'FFFFULL) | MemoryTypes::valid};  // 1 MB UC
    Ept01 ept(pages.pool, types, l0_region, processor(40));
    ASSERT_EQ(ept.touch(0x80'0000'0000), Ept01::Touched::filled);
    struct Row {
        std::uint64_t address;
        unsigned level;
        x86::MemoryType type;
    };
    for (const Row row : {Row{0x80'0000'0000, 1, write_back}, Row{0x80'0010'0000, 1, uncacheable},
                          Row{0x80'001F'F000, 1, uncacheable}, Row{0x80'0020'0000, 2, write_back}}) {
        const Leaf leaf = walk(ept, row.address);
        EXPECT_EQ(leaf.level, row.level) << std::hex << row.address;
        EXPECT_EQ(vmx::ept_entry::memory_type_of(leaf.entry), row.type) << std::hex << row.address;
        EXPECT_EQ(ept.lookup(Gpa1{row.address})->page_shift, 12 + 9 * (row.level - 1));
    }
}

TEST(Ept01, NoGuestPhysicalAddressLeadsIntoL0sRegion) {
    Pages pages(128);
    const Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    for (std::uint64_t address = l0_region.start; address < l0_region.end; address += 0x1000) {
        const auto mapping = ept.lookup(Gpa1{address + 0x123});
        ASSERT_TRUE(mapping);
        EXPECT_TRUE(mapping->is_hole);
        EXPECT_FALSE(l0_region.contains(mapping->address.value()));
        EXPECT_EQ(mapping->page_shift, 12u);
        EXPECT_EQ(mapping->address.page_offset(), 0x123u);
        EXPECT_EQ(*reinterpret_cast<const std::uint8_t*>(mapping->address.value()), 0xFF)
            << "ones, as of no memory";
    }
    EXPECT_FALSE(ept.lookup(Gpa1{l0_region.start - 1})->is_hole);
    EXPECT_FALSE(ept.lookup(Gpa1{l0_region.end})->is_hole);
}

TEST(Ept01, L0sRegionTakesWritesOnlyWhileItIsOpenAndIsOnesAgainAfter) {
    Pages pages(128);
    Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    const auto writable = [&ept](std::uint64_t address) {
        std::uint64_t table = vmx::Eptp{ept.pointer()}.root();
        std::uint64_t permissions = vmx::ept_entry::permissions;
        for (unsigned level = 4;; --level) {
            const std::uint64_t entry =
                reinterpret_cast<const std::uint64_t*>(table)[address >> (12 + 9 * (level - 1)) & 511];
            permissions &= entry;
            if (vmx::ept_entry::is_leaf(entry, level)) return permissions == vmx::ept_entry::permissions;
            table = vmx::ept_entry::table_address(entry);
        }
    };
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t at = l0_region.start; at < l0_region.end; at += 0x1FF000)
            ASSERT_FALSE(writable(at)) << std::hex << at;
        ept.open_holes(true);
        for (std::uint64_t at = l0_region.start; at < l0_region.end; at += 0x1FF000)
            ASSERT_TRUE(writable(at)) << std::hex << at;
        auto* written =
            reinterpret_cast<std::uint64_t*>(ept.lookup(Gpa1{l0_region.start + 0x1000})->address.value());
        *written = 0;
        ept.open_holes(false);
        EXPECT_EQ(*written, ~0ULL);
        EXPECT_TRUE(writable(l0_region.end));
        EXPECT_TRUE(writable(l0_region.start - 1));
    }
}

// Where the MTRRs alone would allow one page of 1 GB over it.
TEST(Ept01, ARegionInUniformMemoryIsHiddenToo) {
    Pages pages(128);
    constexpr PhysicalRange region{0x7E00'0000, 0x8000'0000};
    const Ept01 ept(pages.pool, pc_types(), region, processor(40));
    for (std::uint64_t address = region.start; address < region.end; address += 0x1000) {
        ASSERT_FALSE(region.contains(ept.lookup(Gpa1{address})->address.value())) << address;
    }
    EXPECT_EQ(ept.lookup(Gpa1{region.start - 1})->address.value(), region.start - 1);
    EXPECT_EQ(ept.lookup(Gpa1{region.end})->address.value(), region.end);
}

TEST(Ept01, UsesTwoMegabytePagesWhereTheProcessorHasNoLarger) {
    Pages pages(600);
    const Ept01 ept(pages.pool, pc_types(), l0_region, processor(36, false));
    EXPECT_EQ(ept.size(), 64ULL << 30);
    EXPECT_EQ(ept.lookup(Gpa1{0x4000'0000})->page_shift, 21u);
    EXPECT_FALSE(ept.lookup(Gpa1{64ULL << 30}));
}

TEST(Ept01, AnEntryOf4KilobytesIsSplitOutWithoutChangingAnyMapping) {
    Pages pages(128);
    Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    const Gpa1 address{0xFEE0'0000};
    std::uint64_t* leaf = ept.leaf_of_4k(address);
    ASSERT_NE(leaf, nullptr);
    EXPECT_EQ(*leaf, address.value() | 7) << "read, write, execute, uncacheable";
    for (const std::uint64_t near :
         {0xC000'0000ULL, 0xFEDF'FFFFULL, 0xFEE0'0FFFULL, 0xFEE0'1000ULL, 0xFFFF'FFFFULL}) {
        const auto mapping = ept.lookup(Gpa1{near});
        ASSERT_TRUE(mapping);
        EXPECT_EQ(mapping->address.value(), near);
        EXPECT_EQ(mapping->memory_type, uncacheable);
    }
    EXPECT_EQ(ept.lookup(address)->page_shift, 12u);
    EXPECT_EQ(ept.leaf_of_4k(address), leaf);

    *leaf = 0;
    EXPECT_FALSE(ept.lookup(address));
    EXPECT_TRUE(ept.lookup(address + 0x1000));
}

TEST(Ept01, NoEntryOfL0sRegionIsHandedOut) {
    Pages pages(128);
    Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    EXPECT_EQ(ept.leaf_of_4k(Gpa1{l0_region.start}), nullptr);
    EXPECT_EQ(ept.leaf_of_4k(Gpa1{l0_region.end - 1}), nullptr);
    EXPECT_EQ(ept.leaf_of_4k(Gpa1{512ULL << 30}), nullptr) << "filled when touched, and given up again";
    EXPECT_NE(ept.leaf_of_4k(Gpa1{l0_region.end}), nullptr);
}

TEST(Ept01, WithoutPagesForATableNothingIsSplit) {
    Pages pages(128);
    Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    while (pages.pool.free_pages() > 1) ASSERT_NE(pages.pool.allocate_page(), nullptr);
    EXPECT_EQ(ept.leaf_of_4k(Gpa1{0x8000'0000}), nullptr) << "two tables are needed";
    EXPECT_EQ(ept.lookup(Gpa1{0x8000'0000})->address.value(), 0x8000'0000u);
}

TEST(Ept01, EveryEntryIsOneTheProcessorAccepts) {
    Pages pages(128);
    const Ept01 ept(pages.pool, pc_types(), l0_region, processor(40));
    const vmx::EptVpidCapability capability{
        vmx::EptVpidCapability::page_1g | vmx::EptVpidCapability::page_2m |
        vmx::EptVpidCapability::write_back | vmx::EptVpidCapability::walk_length_4};
    const vmx::Eptp pointer{ept.pointer()};
    EXPECT_TRUE(pointer.is_valid(capability, 52));
    const auto check = [&](auto&& self, std::uint64_t table, unsigned level) -> unsigned {
        unsigned entries = 0;
        for (unsigned index = 0; index < 512; ++index) {
            const std::uint64_t entry = reinterpret_cast<const std::uint64_t*>(table)[index];
            if (!vmx::ept_entry::is_present(entry)) continue;
            ++entries;
            EXPECT_FALSE(vmx::is_ept_misconfigured(entry, level, capability, 52)) << level << ' ' << index;
            if (!vmx::ept_entry::is_leaf(entry, level))
                entries += self(self, vmx::ept_entry::table_address(entry), level - 1);
        }
        return entries;
    };
    EXPECT_GT(check(check, pointer.root(), 4), 1000u);
}

TEST(Ept01, KeepsDirtyFlagsWhereTheProcessorCan) {
    Pages pages(256);
    Processor with_flags = processor(40);
    with_flags.capabilities.ept_vpid.value |= vmx::EptVpidCapability::accessed_dirty;
    const Ept01 ept(pages.pool, pc_types(), l0_region, with_flags);
    EXPECT_TRUE(ept.sets_dirty_flags());
    EXPECT_TRUE(vmx::Eptp{ept.pointer()}.enables_accessed_dirty());
    const Ept01 plain(pages.pool, pc_types(), l0_region, processor(40));
    EXPECT_FALSE(plain.sets_dirty_flags());
    EXPECT_FALSE(vmx::Eptp{plain.pointer()}.enables_accessed_dirty());
}

TEST(PagePool, PagesAreZeroedAndCounted) {
    Pages pages(3);
    EXPECT_EQ(pages.pool.total_pages(), 3u);
    auto* first = static_cast<std::uint8_t*>(pages.pool.allocate_page());
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(std::count(first, first + 4096, 0), 4096);
    std::memset(first, 0xFF, 4096);
    pages.pool.free_page(first);
    EXPECT_EQ(pages.pool.free_pages(), 3u);
    auto* again = static_cast<std::uint8_t*>(pages.pool.allocate_page());
    EXPECT_EQ(again, first);
    EXPECT_EQ(std::count(again, again + 4096, 0), 4096);
    EXPECT_EQ(pages.pool.free_pages(), 2u);
    EXPECT_NE(pages.pool.allocate_contiguous(2), nullptr);
    EXPECT_EQ(pages.pool.allocate_page(), nullptr);
    EXPECT_EQ(pages.pool.allocate_contiguous(1), nullptr);
    EXPECT_THROW(static_cast<void>(pages.pool.allocate_page_or_panic("a test")), std::runtime_error);
}

TEST(PagePool, FreeingWhatIsNoPageOfItsPanics) {
    Pages pages(2);
    auto* page = static_cast<std::byte*>(pages.pool.allocate_page());
    EXPECT_THROW(pages.pool.free_page(page + 8), std::runtime_error);
    EXPECT_THROW(pages.pool.free_page(page + 4096), std::runtime_error) << "never handed out";
    std::byte elsewhere{};
    EXPECT_THROW(pages.pool.free_page(&elsewhere), std::runtime_error);
}

}  // namespace
}  // namespace flatback::metal::ept01_test
