// The page-modification log: which of L2's writes L1 finds in it, and what happens where it is full.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t enable_accessed_and_dirty = 1U << 6;
constexpr std::uint64_t last = 511;
constexpr std::uint64_t large_window = free_window + 2 * large_page_size;

// SDM 3C 29.3.6: "Bits 11:0 of the value written are always 0".
constexpr Deviation notes_all_of_the_address{"the address is noted with its bits 11:0"};
// ... and the index is examined where the processor has to set a flag.
constexpr Deviation always_looks{"the PML index is looked at by accesses that set no flag, too"};

// An L2 whose EPT12 has a few pages in the free window, and its log.
struct Logged {
    Logged() {
        map_image(hierarchy);
        for (std::uint64_t i = 0; i < pages; ++i) {
            page[i] = allocate_page();
            hierarchy.map(at(i), physical(page[i]), EptLevel::page_4k);
        }
        hierarchy.map(large_window, physical(large), EptLevel::page_2m);
        write(field::ept_pointer, hierarchy.pointer() | enable_accessed_and_dirty);
        write(field::secondary_processor_based_vm_execution_controls,
              read(field::secondary_processor_based_vm_execution_controls) | secondary::enable_pml);
        write(field::pml_address, physical(log));
        empty(last);
    }
    static std::uint64_t at(std::uint64_t i) { return free_window + i * page_size; }
    // As L1 does when it has read it.
    void empty(std::uint64_t index) {
        for (std::uint64_t& word : log->words) word = 0;
        write(field::pml_index, index);
    }
    std::uint64_t flags(std::uint64_t address, EptLevel level = EptLevel::page_4k) {
        return hierarchy.entry(address, level) & (ept::accessed | ept::dirty);
    }

    static constexpr std::uint64_t pages = 8;
    L2 l2{usual_plan(0, 0)};
    Ept12 hierarchy;
    Page* page[pages];
    Page* large = allocate_large_page();
    Page* log = allocate_page();
};

void check_what_is_noted(Logged& logged) {
    const RuleScope rule{
        {"3C 29.3.6", "a write that sets a dirty flag of EPT is noted, at the PML index, which goes down"}};
    {
        Check check{"each-page-that-l2-writes-to-is-in-the-page-modification-log-once"};
        check.known(notes_all_of_the_address);
        const auto touch = [&](const char* program, std::uint64_t address) {
            start(logged.l2, program, address, 1);
            check.runs_to(logged.l2, reason::vmcall);
        };
        touch(l2_store, Logged::at(1) + 0x128);
        touch(l2_store, Logged::at(0) + 0xFF8);
        touch(l2_store, Logged::at(1));
        touch(l2_load, Logged::at(2));
        touch(l2_add, Logged::at(3));
        check.equal("index", read(field::pml_index), last - 3);
        check.equal("first", logged.log->words[last], Logged::at(1));
        check.equal("second", logged.log->words[last - 1], Logged::at(0));
        check.equal("third", logged.log->words[last - 2], Logged::at(3));
        check.equal("no fourth", logged.log->words[last - 3], 0);
        check.equal("flags of a page that was read", logged.flags(Logged::at(2)), ept::accessed);
        touch(l2_store, Logged::at(2));
        check.equal("when it is written to", logged.log->words[last - 3], Logged::at(2));
    }
    {
        Check check{"of-a-2-mb-page-the-4-kb-that-l2-wrote-to-are-in-the-page-modification-log"};
        check.known(notes_all_of_the_address);
        logged.empty(100);
        start(logged.l2, l2_store, large_window + 5 * page_size + 0x10, 1);
        check.runs_to(logged.l2, reason::vmcall);
        start(logged.l2, l2_store, large_window + 9 * page_size, 1);
        check.runs_to(logged.l2, reason::vmcall);
        check.equal("entry", logged.log->words[100], large_window + 5 * page_size);
        check.equal("index: it has one dirty flag", read(field::pml_index), 99);
    }
    Check check{"a-page-whose-dirty-flag-l1-has-cleared-is-in-the-page-modification-log-again"};
    logged.empty(7);
    logged.hierarchy.entry(Logged::at(0), EptLevel::page_4k) =
        logged.hierarchy.entry(Logged::at(0), EptLevel::page_4k) & ~ept::dirty;
    forget_ept(logged.hierarchy.pointer() | enable_accessed_and_dirty);
    start(logged.l2, l2_store, Logged::at(0), 1);
    check.runs_to(logged.l2, reason::vmcall);
    check.equal("entry", logged.log->words[7], Logged::at(0));
    check.equal("index", read(field::pml_index), 6);
}

void check_a_full_log(Logged& logged) {
    const RuleScope rule{{"3C 29.3.6", "with a PML index beyond 511 there is an exit, and no access"}};
    Check check{"a-write-that-finds-the-page-modification-log-full-exits-and-is-done-when-it-has-room"};
    logged.empty(0);
    logged.page[5]->words[0] = 0;
    start(logged.l2, l2_store, Logged::at(4), 0xAA);
    check.runs_to(logged.l2, reason::vmcall);
    check.equal("entry 0", logged.log->words[0], Logged::at(4));
    check.equal("index behind 0", read(field::pml_index), 0xFFFF);
    start(logged.l2, l2_store, Logged::at(5), 0xBB);
    check.runs_to(logged.l2, reason::page_modification_log_full);
    check.equal("exit qualification", read(field::exit_qualification), 0);
    check.equal("index", read(field::pml_index), 0xFFFF);
    check.equal("dirty flag", logged.flags(Logged::at(5)) & ept::dirty, 0);
    check.equal("page", logged.page[5]->words[0], 0);
    for (const std::uint64_t index : {std::uint64_t{0x200}, std::uint64_t{0x8000}}) {
        write(field::pml_index, index);
        check.runs_to(logged.l2, reason::page_modification_log_full);
        check.equal("index that is as far out", read(field::pml_index), index);
    }
    logged.empty(3);
    check.runs_to(logged.l2, reason::vmcall);
    check.equal("page", logged.page[5]->words[0], 0xBB);
    check.equal("entry 3", logged.log->words[3], Logged::at(5));
    check.equal("index", read(field::pml_index), 2);
}

void check_what_sets_no_flag(Logged& logged) {
    const RuleScope rule{{"3C 29.3.6", "the PML index is looked at where a flag of EPT is to be set"}};
    Check check{"an-access-that-sets-no-flag-of-ept12-does-not-mind-a-full-page-modification-log"};
    check.known(always_looks);
    logged.empty(last);
    start(logged.l2, l2_store, Logged::at(3), 1);
    check.runs_to(logged.l2, reason::vmcall);
    write(field::pml_index, 0xFFFF);
    start(logged.l2, l2_store, Logged::at(3), 0xCC);
    check.runs_to(logged.l2, reason::vmcall);
    check.equal("page", logged.page[3]->words[0], 0xCC);
}

void check_without_flags(Logged& logged) {
    const RuleScope rule{{"3C 29.3.6", "without accessed and dirty flags of EPT nothing is noted"}};
    Check check{"without-dirty-flags-of-ept12-the-page-modification-log-is-left-alone"};
    logged.empty(0xFFFF);
    write(field::ept_pointer, logged.hierarchy.pointer());
    forget_ept(logged.hierarchy.pointer());
    start(logged.l2, l2_store, Logged::at(6), 1);
    check.runs_to(logged.l2, reason::vmcall);
    check.equal("flags", logged.flags(Logged::at(6)), 0);
    check.equal("index", read(field::pml_index), 0xFFFF);
}

}  // namespace

void check_page_modification_log() {
    const PageScope scope;
    Logged logged;
    // L2's paging structures are written to as it walks them: their dirty flags are set from here on.
    start(logged.l2, l2_load, Logged::at(7));
    run_or_die(logged.l2, reason::vmcall);
    start(logged.l2, l2_load, large_window);
    run_or_die(logged.l2, reason::vmcall);
    logged.empty(last);
    check_what_is_noted(logged);
    check_a_full_log(logged);
    check_what_sets_no_flag(logged);
    check_without_flags(logged);
}

}  // namespace flatback::guests
