// EPT violations and misconfigurations that are L1's to handle. SDM 3C 29.3.3, table 28-7.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

// SDM 3C table 28-7.
constexpr std::uint64_t read_access = 1;
constexpr std::uint64_t write_access = 2;
constexpr std::uint64_t fetch_access = 4;
constexpr std::uint64_t linear_valid = 1U << 7;
constexpr std::uint64_t translated = 1U << 8;  // the access to the page itself, not a walk of L2's tables
// Bits 0 to 8 but 6; the rest is undefined or depends on further capabilities.
constexpr std::uint64_t defined = 0x1BF;

constexpr std::uint64_t allows(std::uint64_t rights) {
    return rights << 3;
}

struct Violation {
    std::string_view name;
    const char* program;
    std::uint64_t rights;  // of the page touched
    std::uint64_t qualification;
    Deviation deviation = {};
};

void check_violations(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{
        {"3C 29.3.3.2",
         "an access that EPT does not allow is an EPT violation; the qualification says which"}};
    Page* const page = allocate_page();
    page->words[0] = 0xF4C1010F;  // vmcall; hlt
    const Violation violations[] = {
        {"an-ept-violation-by-a-read-of-nothing", l2_load, 0, read_access},
        {"an-ept-violation-by-a-write-to-nothing", l2_store, 0, write_access},
        {"an-ept-violation-by-a-fetch-from-nothing", l2_jump, 0, fetch_access},
        {"an-ept-violation-by-a-write-to-a-read-only-page", l2_store, ept::readable, write_access},
        {"an-ept-violation-by-a-write-to-a-page-for-read-and-execute", l2_store,
         ept::readable | ept::executable, write_access},
        {"an-ept-violation-by-a-fetch-from-a-page-for-read-and-write", l2_jump, ept::readable | ept::writable,
         fetch_access},
    };
    for (const Violation& each : violations) {
        if (each.rights == 0) {
            hierarchy.entry(free_window, EptLevel::page_4k) = 0;
        } else {
            hierarchy.map(free_window, physical(page), EptLevel::page_4k, each.rights);
        }
        forget_ept(hierarchy.pointer());
        const std::uint64_t address = free_window + (each.program == l2_jump ? 0 : 0x238);
        start(l2, each.program, address, 1);
        Check check{each.name};
        check.runs_to(l2, reason::ept_violation);
        check.equal("qualification", read(field::exit_qualification) & defined,
                    each.qualification | allows(each.rights) | linear_valid | translated);
        check.equal("guest-physical address", read(field::guest_physical_address), address);
        check.equal("guest linear address", read(field::guest_linear_address), address);
        check.equal("RIP", read(field::guest_rip),
                    each.program == l2_jump ? address : physical(each.program));
        // Mended without INVEPT: the violation itself has dropped what was cached for the address.
        hierarchy.map(free_window, physical(page), EptLevel::page_4k);
        check.runs_to(l2, reason::vmcall);
    }
}

// L2-physical and linear addresses that differ, so that each field shows its own.
void check_linear_apart_from_physical(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{{"3C 28.2.1", "guest-linear and guest-physical address are recorded"}};
    constexpr std::uint64_t target = free_window + 0x5000;
    map_linear(0, target | linear_page::present | linear_page::writable);
    hierarchy.entry(target, EptLevel::page_4k) = 0;
    Check check{"an-ept-violation-tells-linear-and-guest-physical-address-apart"};
    start(l2, l2_load, linear_window + 0x18);
    check.runs_to(l2, reason::ept_violation);
    check.equal("guest-physical address", read(field::guest_physical_address), target + 0x18);
    check.equal("guest linear address", read(field::guest_linear_address), linear_window + 0x18);
}

void check_walk_of_guest_tables(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{{"3C 28.2.1", "bit 8 of the qualification: the final access, or the walk to it"}};
    // A page table of L2 at an L2-physical address that EPT12 lacks.
    constexpr std::uint64_t table = free_window + 0x9000;
    Page* const directory = allocate_page();
    Page* const pdpt = allocate_page();
    Page* const root = allocate_page();
    for (unsigned i = 0; i < 512; ++i) root->words[i] = reinterpret_cast<const Page*>(read_cr3())->words[i];
    root->words[1] = physical(pdpt) | 3;
    pdpt->words[0] = physical(directory) | 3;
    directory->words[0] = table | 3;
    constexpr std::uint64_t linear = 1ULL << 39 | 0x7000;
    hierarchy.entry(table, EptLevel::page_4k) = 0;
    const std::uint64_t cr3 = read(field::guest_cr3);
    write(field::guest_cr3, physical(root));
    Check check{"an-ept-violation-in-a-walk-of-l2s-page-tables-says-so"};
    start(l2, l2_store, linear + 0x10);
    check.runs_to(l2, reason::ept_violation);
    check.equal("qualification", read(field::exit_qualification) & defined, read_access | linear_valid);
    check.equal("guest-physical address", read(field::guest_physical_address), table + 7 * 8);
    check.equal("guest linear address", read(field::guest_linear_address), linear + 0x10);
    write(field::guest_cr3, cr3);
}

void check_missing_upper_levels(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{{"3C 29.3.3.2", "an entry that is not present at any level is an EPT violation"}};
    Check check{"an-ept-violation-where-an-upper-level-is-missing-or-has-fewer-rights"};
    start(l2, l2_load, 3ULL << 30);
    check.runs_to(l2, reason::ept_violation);
    check.equal("qualification", read(field::exit_qualification) & defined,
                read_access | linear_valid | translated);
    check.equal("guest-physical address", read(field::guest_physical_address), 3ULL << 30);
    // SDM 3C table 28-7: the rights told are those of all levels together.
    hierarchy.map(2ULL << 30, physical(allocate_page()), EptLevel::page_4k);
    volatile std::uint64_t& directory = hierarchy.entry(2ULL << 30, EptLevel::page_2m);
    directory = directory & ~(ept::writable | ept::executable);
    start(l2, l2_store, 2ULL << 30);
    check.runs_to(l2, reason::ept_violation);
    check.equal("qualification", read(field::exit_qualification) & defined,
                write_access | allows(ept::readable) | linear_valid | translated);
}

struct Misconfiguration {
    std::string_view name;
    EptLevel level;
    std::uint64_t entry;
    Deviation deviation = {};
};

void check_misconfigurations(L2& l2) {
    const RuleScope rule{{"3C 29.3.3.1", "an EPT entry that is not supported is an EPT misconfiguration"}};
    constexpr std::uint64_t good = ept::all_rights | ept::write_back;
    constexpr Misconfiguration bad[] = {
        {"an-ept-entry-for-writing-but-not-reading-is-a-misconfiguration", EptLevel::page_4k,
         ept::writable | 0x30},
        {"an-ept-entry-for-writing-and-fetching-but-not-reading-is-a-misconfiguration", EptLevel::page_4k,
         ept::writable | ept::executable | 0x30},
        {"a-reserved-ept-memory-type-is-a-misconfiguration", EptLevel::page_4k, ept::all_rights | 2U << 3},
        {"an-ept-address-beyond-the-physical-width-is-a-misconfiguration", EptLevel::page_4k,
         good | 1ULL << 50},
        {"a-2-mb-ept-entry-with-reserved-address-bits-is-a-misconfiguration", EptLevel::page_2m,
         good | ept::large | 1U << 13},
        {"a-2-mb-ept-entry-with-bit-12-set-is-a-misconfiguration",
         EptLevel::page_2m,
         good | ept::large | 1U << 12,
         {"bit 12 is not reserved"}},
        {"a-1-gb-ept-entry-with-reserved-address-bits-is-a-misconfiguration", EptLevel::page_1g,
         good | ept::large | 1U << 21},
        {"an-upper-ept-entry-with-reserved-bits-is-a-misconfiguration", EptLevel::page_2m,
         ept::all_rights | 1U << 3},
    };
    for (const Misconfiguration& each : bad) {
        Ept12 hierarchy;
        map_image(hierarchy);
        hierarchy.entry(free_window, each.level) = each.entry;
        write(field::ept_pointer, hierarchy.pointer());
        forget_ept(hierarchy.pointer());
        start(l2, l2_load, free_window + 0x40);
        Check check{each.name};
        check.runs_to(l2, reason::ept_misconfiguration);
        check.equal("guest-physical address", read(field::guest_physical_address), free_window + 0x40);
        check.known(each.deviation);
    }
}

void check_execute_only(L2& l2, Ept12& hierarchy) {
    const RuleScope rule{{"3C 29.3.3.1", "execute-only is a misconfiguration where it is not offered"}};
    Page* const page = allocate_page();
    page->words[0] = 0xF4C1010F;  // vmcall; hlt
    write(field::ept_pointer, hierarchy.pointer());
    hierarchy.map(free_window, physical(page), EptLevel::page_4k, ept::executable);
    forget_ept(hierarchy.pointer());
    start(l2, l2_jump, free_window);
    if ((capabilities.ept_vpid & 1) == 0) {
        Check check{"an-execute-only-ept-entry-is-a-misconfiguration-where-it-is-not-offered"};
        check.runs_to(l2, reason::ept_misconfiguration);
        return;
    }
    Check check{"an-execute-only-page-can-be-fetched-from-and-not-read"};
    check.runs_to(l2, reason::vmcall);
    start(l2, l2_load, free_window);
    check.runs_to(l2, reason::ept_violation);
    check.equal("qualification", read(field::exit_qualification) & defined,
                read_access | allows(ept::executable) | linear_valid | translated);
}

}  // namespace

void check_ept_violation() {
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    L2 l2{usual_plan(0, hierarchy.pointer())};
    check_violations(l2, hierarchy);
    check_linear_apart_from_physical(l2, hierarchy);
    check_walk_of_guest_tables(l2, hierarchy);
    check_missing_upper_levels(l2, hierarchy);
    check_misconfigurations(l2);
    check_execute_only(l2, hierarchy);
}

}  // namespace flatback::guests
