// L2 sees the memory that EPT12 gives it, no more and no less, through every page size and every change.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t pages = 64;

constexpr std::uint64_t pattern(std::uint64_t page) {
    return 0x9E37'79B9'7F4A'7C15 * (page + 1);
}

void invalidate(const Ept12& hierarchy) {
    forget_ept(hierarchy.pointer());
}

// What L2 reads at the address; any other exit fails the check.
void expect_load(Check& check, L2& l2, std::uint64_t address, std::uint64_t want) {
    start(l2, l2_load, address);
    if (check.runs_to(l2, reason::vmcall)) check.equal("what L2 read", l2.registers.rax, want);
}

void check_shuffled_pages(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{
        {"3C 29.3.2", "a guest-physical address is translated by the EPT paging structures of the EPTP"}};
    Page* const memory = allocate_large_page();
    for (std::uint64_t i = 0; i < 512; ++i) {
        memory[i].words[0] = pattern(i);
        memory[i].words[511] = ~pattern(i);
    }
    // L2-physical page i is page 7i + 3 of that memory.
    const auto place = [](std::uint64_t page) { return (page * 7 + 3) % 512; };
    for (std::uint64_t i = 0; i < pages; ++i) {
        hierarchy.map(free_window + i * page_size, physical(&memory[place(i)]), EptLevel::page_4k);
    }
    {
        Check check{"l2-sees-each-page-where-ept12-put-it"};
        for (std::uint64_t i = 0; i < pages; ++i) {
            expect_load(check, l2, free_window + i * page_size, pattern(place(i)));
            expect_load(check, l2, free_window + i * page_size + page_size - 8, ~pattern(place(i)));
        }
    }
    {
        Check check{"what-l2-writes-is-in-l1s-page-and-nowhere-else"};
        for (std::uint64_t i = 0; i < pages; ++i) {
            start(l2, l2_add, free_window + i * page_size, i + 1);
            check.runs_to(l2, reason::vmcall);
        }
        for (std::uint64_t i = 0; i < 512; ++i) {
            std::uint64_t added = 0;
            for (std::uint64_t page = 0; page < pages; ++page) {
                if (place(page) == i) added = page + 1;
            }
            check.equal("first word", memory[i].words[0], pattern(i) + added);
            check.equal("last word", memory[i].words[511], ~pattern(i));
        }
    }
    Check check{"past-the-pages-that-ept12-maps-l2-has-nothing"};
    start(l2, l2_load, free_window + pages * page_size);
    check.runs_to(l2, reason::ept_violation);
    start(l2, l2_load, free_window - page_size);
    check.runs_to(l2, reason::ept_violation);
}

void check_remapping(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{{"3C 29.4.3.1", "INVEPT makes a change of EPT entries take effect", 18}};
    Page* const first = allocate_page();
    Page* const second = allocate_page();
    first->words[0] = 0xAAAA;
    second->words[0] = 0xBBBB;
    constexpr std::uint64_t address = free_window + 0x100000;
    hierarchy.map(address, physical(first), EptLevel::page_4k);
    {
        Check check{"a-page-that-l1-maps-elsewhere-is-seen-there-after-invept"};
        for (unsigned i = 0; i < 3; ++i) {
            expect_load(check, l2, address, 0xAAAA);
            hierarchy.map(address, physical(second), EptLevel::page_4k);
            invalidate(hierarchy);
            expect_load(check, l2, address, 0xBBBB);
            hierarchy.map(address, physical(first), EptLevel::page_4k);
            if (capabilities.has_invept_type(invept_type::all_contexts)) {
                invept(invept_type::all_contexts, {0, 0});
            } else {
                invalidate(hierarchy);
            }
        }
    }
    {
        Check check{"a-page-that-l1-takes-away-is-gone-after-invept"};
        hierarchy.entry(address, EptLevel::page_4k) = 0;
        invalidate(hierarchy);
        start(l2, l2_load, address);
        check.runs_to(l2, reason::ept_violation);
        hierarchy.map(address, physical(second), EptLevel::page_4k);
        check.runs_to(l2, reason::vmcall);
        check.equal("what L2 read", l2.registers.rax, 0xBBBB);
    }
    Check check{"a-page-that-l1-makes-read-only-is-so-after-invept"};
    start(l2, l2_store, address, 0xCCCC);
    check.runs_to(l2, reason::vmcall);
    hierarchy.map(address, physical(second), EptLevel::page_4k, ept::readable);
    invalidate(hierarchy);
    start(l2, l2_store, address, 0xDDDD);
    check.runs_to(l2, reason::ept_violation);
    check.equal("page", second->words[0], 0xCCCC);
    expect_load(check, l2, address, 0xCCCC);
}

// Two hierarchies, one VPID: each entry sees its own, whatever the other left behind.
void check_two_pointers(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{
        {"3C 29.4.3.1", "translations belong to an EPTP; INVEPT reaches one that is not in use", 18}};
    Ept12 other;
    map_image(other);
    Page* const first = allocate_page();
    Page* const second = allocate_page();
    first->words[0] = 1;
    second->words[0] = 2;
    constexpr std::uint64_t address = free_window + 0x200000;
    hierarchy.map(address, physical(first), EptLevel::page_4k);
    other.map(address, physical(second), EptLevel::page_4k);
    {
        Check check{"two-eptps-with-one-vpid-each-show-their-own-memory"};
        for (unsigned i = 0; i < 4; ++i) {
            write(field::ept_pointer, hierarchy.pointer());
            expect_load(check, l2, address, 1);
            write(field::ept_pointer, other.pointer());
            expect_load(check, l2, address, 2);
        }
    }
    Check check{"invept-of-an-eptp-that-is-not-in-use-works-at-its-next-use"};
    hierarchy.map(address, physical(second), EptLevel::page_4k);
    invalidate(hierarchy);
    expect_load(check, l2, address, 2);
    write(field::ept_pointer, hierarchy.pointer());
    expect_load(check, l2, address, 2);
}

void check_large_pages(L2& l2) {
    const RuleScope rule{{"3C 29.3.2", "EPT maps pages of 2 MB and 1 GB"}};
    Page* const first = allocate_large_page();
    Page* const second = allocate_large_page();
    for (std::uint64_t i = 0; i < 512; ++i) {
        first[i].words[1] = i;
        second[i].words[1] = i + 1000;
    }
    Ept12 hierarchy;
    map_image(hierarchy);
    write(field::ept_pointer, hierarchy.pointer());
    {
        Check check{"ept12-with-2-mb-pages-shows-l2-all-of-each"};
        hierarchy.map(free_window, physical(second), EptLevel::page_2m);
        hierarchy.map(free_window + large_page_size, physical(first), EptLevel::page_2m);
        for (std::uint64_t i = 0; i < 512; i += 73) {
            expect_load(check, l2, free_window + i * page_size + 8, i + 1000);
            expect_load(check, l2, free_window + large_page_size + i * page_size + 8, i);
        }
        start(l2, l2_load, free_window + 2 * large_page_size);
        check.runs_to(l2, reason::ept_violation);
    }
    {
        Check check{"a-2-mb-page-of-ept12-split-into-4-kb-pages-shows-the-new-ones-after-invept"};
        hierarchy.map(free_window + 5 * page_size, physical(&first[9]), EptLevel::page_4k);
        invalidate(hierarchy);
        expect_load(check, l2, free_window + 5 * page_size + 8, 9);
        start(l2, l2_load, free_window + 6 * page_size);
        check.runs_to(l2, reason::ept_violation);
    }
    if ((capabilities.ept_vpid >> 17 & 1) == 0) {
        report_not_offered("1 GB pages in EPT");
        return;
    }
    Check check{"ept12-with-1-gb-pages-shows-l2-all-of-each"};
    constexpr std::uint64_t window = 2ULL << 30;  // L1's first gigabyte, once more
    hierarchy.map(window, 0, EptLevel::page_1g);
    for (std::uint64_t i = 0; i < 512; i += 73) {
        expect_load(check, l2, window + physical(&first[i].words[1]), i);
        expect_load(check, l2, window + physical(&second[i].words[1]), i + 1000);
    }
    hierarchy.map(window, 0, EptLevel::page_1g, ept::readable);
    invalidate(hierarchy);
    start(l2, l2_store, window + physical(first), 1);
    check.runs_to(l2, reason::ept_violation);
}

void check_accessed_and_dirty(L2& l2) {
    const RuleScope rule{{"3C 29.3.5", "with bit 6 of the EPTP, accessed and dirty flags are set"}};
    if ((capabilities.ept_vpid >> 21 & 1) == 0) {
        report_not_offered("accessed and dirty flags of EPT");
        return;
    }
    constexpr std::uint64_t enable_accessed_and_dirty = 1U << 6;
    Ept12 hierarchy;
    map_image(hierarchy);
    Page* const page = allocate_page();
    hierarchy.map(free_window, physical(page), EptLevel::page_4k);
    hierarchy.map(free_window + page_size, physical(page), EptLevel::page_4k);
    write(field::ept_pointer, hierarchy.pointer() | enable_accessed_and_dirty);
    const auto flags = [&](std::uint64_t address, EptLevel level) {
        return hierarchy.entry(address, level) & (ept::accessed | ept::dirty);
    };
    Check check{"accessed-and-dirty-flags-of-ept12-are-set-as-l2-reads-and-writes"};
    start(l2, l2_load, free_window);
    check.runs_to(l2, reason::vmcall);
    check.equal("leaf after a read", flags(free_window, EptLevel::page_4k), ept::accessed);
    check.equal("directory after a read", flags(free_window, EptLevel::page_2m) & ept::accessed,
                ept::accessed);
    check.equal("leaf of a page not touched", flags(free_window + page_size, EptLevel::page_4k), 0);
    start(l2, l2_store, free_window);
    check.runs_to(l2, reason::vmcall);
    check.equal("leaf after a write", flags(free_window, EptLevel::page_4k), ept::accessed | ept::dirty);
    hierarchy.entry(free_window, EptLevel::page_4k) =
        hierarchy.entry(free_window, EptLevel::page_4k) & ~ept::dirty;
    invalidate(hierarchy);
    start(l2, l2_load, free_window);
    check.runs_to(l2, reason::vmcall);
    check.equal("leaf after L1 cleared dirty, and a read", flags(free_window, EptLevel::page_4k),
                ept::accessed);
    start(l2, l2_store, free_window);
    check.runs_to(l2, reason::vmcall);
    check.equal("leaf after one more write", flags(free_window, EptLevel::page_4k),
                ept::accessed | ept::dirty);
}

}  // namespace

void check_ept_memory() {
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    L2 l2{usual_plan(0, hierarchy.pointer())};
    check_shuffled_pages(l2, hierarchy);
    check_remapping(l2, hierarchy);
    check_two_pointers(l2, hierarchy);
    check_large_pages(l2);
    check_accessed_and_dirty(l2);
}

}  // namespace flatback::guests
