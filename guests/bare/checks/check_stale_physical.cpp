// Stale translations of guest-physical addresses: an entry of EPT12 is changed while a translation may be
// cached by way of it, alone or combined with L2's own. SDM 3C 29.4.3.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/stale.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/forget.hpp"

namespace flatback::guests {
namespace {

bool has_type(std::uint64_t type) {
    return capabilities.has_invept_type(static_cast<unsigned>(type));
}
bool single() {
    return has_type(invept_type::single_context);
}
bool global() {
    return has_type(invept_type::all_contexts);
}
// IA32_VMX_EPT_VPID_CAP.
bool accessed_and_dirty() {
    return single() && (capabilities.ept_vpid >> 21 & 1) != 0;
}
bool uncacheable() {
    return single() && (capabilities.ept_vpid >> 8 & 1) != 0;
}
bool vpids() {
    return single() && capabilities.secondary.may_set(secondary::enable_vpid);
}

void invalidate(const PlantedPhysical& planted) {
    invept(invept_type::single_context, {planted.pointer(), 0});
}

void check_single(Check& check, PlantedPhysical& planted) {
    for (unsigned i = 0; i < 3; ++i) {
        planted.plant(check);
        planted.change();
        invalidate(planted);
        expect_word(check, planted.l2(), new_word);
    }
}

void check_global(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    planted.change();
    invept(invept_type::all_contexts, {0, 0});
    expect_word(check, planted.l2(), new_word);
}

// Other bits 11:0, the same EP4TA: the same context.
void check_other_low_bits(Check& check, PlantedPhysical& planted, std::uint64_t eptp) {
    planted.plant(check);
    planted.change();
    invept(invept_type::single_context, {eptp, 0});
    expect_word(check, planted.l2(), new_word);
    // And the other way about: cached by the one, used by the other.
    planted.plant(check);
    write(field::ept_pointer, eptp);
    expect_word(check, planted.l2(), old_word);
    planted.change();
    invalidate(planted);
    expect_word(check, planted.l2(), new_word);
    write(field::ept_pointer, planted.pointer());
    expect_word(check, planted.l2(), new_word);
}

void check_other_flags(Check& check, PlantedPhysical& planted) {
    check_other_low_bits(check, planted, planted.pointer() | 1U << 6);
}
void check_other_memory_type(Check& check, PlantedPhysical& planted) {
    check_other_low_bits(check, planted, planted.pointer() & ~std::uint64_t{7});
}

void use(const Ept12& hierarchy) {
    write(field::ept_pointer, hierarchy.pointer());
}

// A, B, A: A is told of while B is in use.
void check_inactive(Check& check, PlantedPhysical& planted) {
    Ept12 second;
    map_image(second);
    second.map(free_window, physical(planted.old_page()), EptLevel::page_4k);
    for (const bool all : {false, true}) {
        if (all && !global()) continue;
        planted.plant(check);
        use(second);
        expect_word(check, planted.l2(), old_word);
        planted.change();
        all ? invept(invept_type::all_contexts, {0, 0}) : invalidate(planted);
        expect_word(check, planted.l2(), old_word);
        use(planted.hierarchy());
        expect_word(check, planted.l2(), new_word);
    }
}

void check_many_roots(Check& check, PlantedPhysical& planted) {
    constexpr unsigned count = 12;
    Ept12 others[count];
    planted.plant(check);
    for (Ept12& other : others) {
        map_image(other);
        other.map(free_window, physical(planted.old_page()), EptLevel::page_4k);
        use(other);
        expect_word(check, planted.l2(), old_word);
    }
    planted.change();
    for (Ept12& other : others) other.map(free_window, physical(planted.new_page()), EptLevel::page_4k);
    invept(invept_type::all_contexts, {0, 0});
    for (const Ept12& other : others) {
        use(other);
        expect_word(check, planted.l2(), new_word);
    }
    use(planted.hierarchy());
    expect_word(check, planted.l2(), new_word);
}

void check_another_vmcs(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    L2 second{usual_plan(0, planted.pointer())};
    expect_word(check, second, old_word);
    planted.change();
    invalidate(planted);
    expect_word(check, second, new_word);
    planted.l2().make_current();
    expect_word(check, planted.l2(), new_word);
}

void check_without_current_vmcs(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    planted.change();
    { const L2 gone{usual_plan(0, planted.pointer())}; }
    invalidate(planted);
    planted.l2().make_current();
    expect_word(check, planted.l2(), new_word);
}

void check_failed_entry(Check& check, PlantedPhysical& planted) {
    for (const bool on_controls : {false, true}) {
        planted.plant(check);
        planted.change();
        invalidate(planted);
        fail_an_entry(check, planted.l2(), on_controls);
        expect_word(check, planted.l2(), new_word);
    }
}

void check_every_vpid(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    for (const std::uint64_t vpid : {1U, 2U, 3U}) {
        write(field::virtual_processor_identifier, vpid);
        expect_word(check, planted.l2(), old_word);
    }
    planted.change();
    invalidate(planted);
    for (const std::uint64_t vpid : {1U, 2U, 3U}) {
        write(field::virtual_processor_identifier, vpid);
        expect_word(check, planted.l2(), new_word);
    }
}

void check_back_in_vmx_operation(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    leave_and_enter_vmx_operation(check, planted.l2());
    planted.change();
    forget_all_epts();
    expect_word(check, planted.l2(), new_word);
}

// An entry that is not present is never cached: making it present owes nothing.
void check_not_present(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    planted.hierarchy().entry(free_window, EptLevel::page_4k) = 0;
    invalidate(planted);
    start(planted.l2(), l2_load, free_window);
    check.runs_to(planted.l2(), reason::ept_violation);
    planted.change();
    expect_word(check, planted.l2(), new_word);
}

// An EPT violation invalidates what was cached for its address: wider rights owe nothing behind it.
void check_wider_rights(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    planted.change(ept::readable);
    invalidate(planted);
    expect_word(check, planted.l2(), new_word);
    start(planted.l2(), l2_store, free_window, new_word + 1);
    check.runs_to(planted.l2(), reason::ept_violation);
    planted.change();
    check.runs_to(planted.l2(), reason::vmcall);
    check.equal("L1's page", planted.new_page()->words[0], new_word + 1);
    planted.new_page()->words[0] = new_word;
}

void check_rights_taken(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    start(planted.l2(), l2_store, free_window, old_word);
    check.runs_to(planted.l2(), reason::vmcall);
    planted.hierarchy().map(free_window, physical(planted.old_page()), EptLevel::page_4k, ept::readable);
    invalidate(planted);
    start(planted.l2(), l2_store, free_window, 1);
    check.runs_to(planted.l2(), reason::ept_violation);
    check.equal("L1's page", planted.old_page()->words[0], old_word);
}

void check_page_taken(Check& check, PlantedPhysical& planted) {
    planted.plant(check);
    planted.hierarchy().entry(free_window, EptLevel::page_4k) = 0;
    invalidate(planted);
    start(planted.l2(), l2_load, free_window);
    check.runs_to(planted.l2(), reason::ept_violation);
}

void check_large_page(Check& check, PlantedPhysical& planted) {
    Page* const large = allocate_large_page();
    large->words[0] = old_word;
    planted.plant(check);
    planted.hierarchy().map(free_window, physical(large), EptLevel::page_2m);
    invalidate(planted);
    expect_word(check, planted.l2(), old_word);
    planted.change();  // the 2 MB page makes room for a table
    invalidate(planted);
    expect_word(check, planted.l2(), new_word);
}

void check_upper_level(Check& check, PlantedPhysical& planted) {
    Ept12 second;
    second.map(free_window, physical(planted.new_page()), EptLevel::page_4k);
    for (const EptLevel level : {EptLevel::page_2m, EptLevel::page_1g}) {
        planted.plant(check);
        const std::uint64_t before = planted.hierarchy().entry(free_window, level);
        planted.hierarchy().entry(free_window, level) = second.entry(free_window, level);
        invalidate(planted);
        expect_word(check, planted.l2(), new_word);
        planted.hierarchy().entry(free_window, level) = before;
    }
}

// The page that holds L2's page-table entry goes elsewhere: a linear translation is combined of both.
void check_page_table_moved(Check& check, PlantedPhysical& planted) {
    constexpr std::uint64_t linear = free_window;
    constexpr std::uint64_t at = free_window + page_size;  // guest-physical address of L2's page table
    constexpr std::uint64_t target = free_window + 2 * page_size;
    LinearTables tables;
    tables.map_image();
    tables.entry(linear) = 0;  // makes the tables above
    Page* const first = allocate_page();
    Page* const second = allocate_page();
    Ept12& hierarchy = planted.hierarchy();
    hierarchy.map(at, physical(first), EptLevel::page_4k);
    hierarchy.map(target, physical(planted.old_page()), EptLevel::page_4k);
    hierarchy.map(target + page_size, physical(planted.new_page()), EptLevel::page_4k);
    first->words[0] = target | 3;
    second->words[0] = (target + page_size) | 3;
    tables.entry(linear, 2) = at | 3;
    const std::uint64_t before = read(field::guest_cr3);
    write(field::guest_cr3, tables.root());
    forget_all_vpids();
    forget_all_epts();
    expect_word(check, planted.l2(), old_word);
    hierarchy.map(at, physical(second), EptLevel::page_4k);
    invalidate(planted);
    expect_word(check, planted.l2(), new_word);
    write(field::guest_cr3, before);
    forget_all_vpids();
}

struct Case {
    std::string_view name;
    void (*run)(Check& check, PlantedPhysical& planted);
    Rule rule;
    bool (*offered)();
};

// clang-format off
constexpr Case cases[] = {
    {"single-context-invept", check_single, {"3C 29.4.3.1", "INVEPT type 1 invalidates what belongs to the EP4TA", 13}, single},
    {"global-invept", check_global, {"3C 29.4.3.1", "INVEPT type 2 invalidates what belongs to every EP4TA", 17}, global},
    {"invept-by-other-flags", check_other_flags, {"3C 29.4.3.1", "bits 51:12 of the EPTP are the context", 21}, accessed_and_dirty},
    {"invept-by-another-memory-type", check_other_memory_type, {"3C 29.4.3.1", "bits 51:12 of the EPTP are the context", 21}, uncacheable},
    {"invept-of-an-eptp-that-is-not-in-use", check_inactive, {"3C 29.4.3.1", "INVEPT reaches an EPTP that is not in use, at its next use", 18}, single},
    {"global-invept-of-a-dozen-eptps", check_many_roots, {"3C 29.4.3.1", "INVEPT type 2 invalidates what belongs to every EP4TA", 17}, global},
    {"invept-under-another-vmcs", check_another_vmcs, {"3C 29.4.3.1", "INVEPT is for the EP4TA, whatever VMCS is current", 18}, single},
    {"invept-without-a-current-vmcs", check_without_current_vmcs, {"3C 31.3 INVEPT", "INVEPT needs no current VMCS, and takes effect", 3}, single},
    {"invept-before-an-entry-that-fails", check_failed_entry, {"3C 29.4.3.1", "a failed entry between INVEPT and the next good one loses nothing", 29}, single},
    {"invept-of-several-vpids", check_every_vpid, {"3C 29.4.3.1", "INVEPT invalidates combined mappings of every VPID", 35}, vpids},
    {"invept-after-vmxoff-and-vmxon", check_back_in_vmx_operation, {"3C 29.4.3.4", "INVEPT after VMXON reaches what was cached before VMXOFF", 27}, global},
    {"an-ept-violation-of-an-absent-page", check_not_present, {"3C 29.4.2", "an entry that is not present is not cached"}, single},
    {"an-ept-violation-and-wider-rights", check_wider_rights, {"3C 29.4.3.1", "an EPT violation invalidates what is cached for its address"}, single},
    {"invept-of-rights-that-are-taken", check_rights_taken, {"3C 29.4.3.1", "INVEPT takes rights away", 17}, single},
    {"invept-of-a-page-that-is-taken", check_page_taken, {"3C 29.4.3.1", "INVEPT takes a page away", 17}, single},
    {"invept-of-a-2-mb-page", check_large_page, {"3C 29.4.3.1", "INVEPT invalidates pages of every size"}, single},
    {"invept-after-a-change-of-an-upper-level", check_upper_level, {"3C 29.4.3.1", "INVEPT invalidates EPT paging-structure caches too"}, single},
    {"invept-after-l2s-page-table-is-moved", check_page_table_moved, {"3C 29.4.3.1", "INVEPT invalidates combined mappings"}, single},
};
// clang-format on

}  // namespace

void check_stale_physical() {
    for (const Case& each : cases) {
        if (!each.offered()) {
            report_not_offered(each.name);
            continue;
        }
        const PageScope scope;
        const RuleScope rule{each.rule};
        Line name;
        name << "no-stale-translation-after-" << each.name;
        PlantedPhysical planted;
        Check check{name.text()};
        each.run(check, planted);
    }
}

}  // namespace flatback::guests
