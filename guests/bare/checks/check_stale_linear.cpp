// Stale translations of linear addresses: an entry of L2's page tables is changed, by L1 or by L2, while a
// translation may be cached under L2's VPID. With EPT and without. SDM 3C 29.4.3.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/stale.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/forget.hpp"

extern "C" {
extern char l2_edit_invlpg[];
extern char l2_edit_exit_invlpg[];
extern char l2_edit_mov_cr3[];
extern char l2_edit_toggle_pge[];
extern char l2_edit_invpcid_address[];
extern char l2_edit_invpcid_all[];
}

// RDI: an address. R8: its page-table entry, R9: what L2 writes there. RAX: what it reads before, RDX: after.
asm(R"(
.pushsection .text
.globl l2_edit_invlpg, l2_edit_exit_invlpg, l2_edit_mov_cr3, l2_edit_toggle_pge, l2_edit_invpcid_address, l2_edit_invpcid_all
.macro edit
    movq (%rdi), %rax
    movq %r9, (%r8)
.endm
.macro look
    movq (%rdi), %rdx
    vmcall
.endm
l2_edit_invlpg:
    edit
    invlpg (%rdi)
    look
l2_edit_exit_invlpg:
    edit
    vmcall
    invlpg (%rdi)
    look
l2_edit_mov_cr3:
    edit
    movq %cr3, %rcx
    movq %rcx, %cr3
    look
l2_edit_toggle_pge:
    edit
    movq %cr4, %rcx
    xorq $0x80, %rcx
    movq %rcx, %cr4
    xorq $0x80, %rcx
    movq %rcx, %cr4
    look
l2_edit_invpcid_address:
    edit
    xorl %ecx, %ecx
    invpcid (%rsi), %rcx
    look
l2_edit_invpcid_all:
    edit
    movl $2, %ecx
    invpcid (%rsi), %rcx
    look
.purgem edit
.purgem look
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t global = 1U << 8;
constexpr std::uint64_t cr4_pge = 1U << 7;
constexpr std::uint64_t cr4_pcide = 1U << 17;
constexpr std::uint16_t vpid = 1;
constexpr std::uint16_t other_vpid = 2;

bool has_type(std::uint64_t type) {
    return capabilities.has_invvpid_type(static_cast<unsigned>(type));
}

// INVVPID of this type that reaches free_window under `which`.
void invalidate(std::uint64_t type, std::uint16_t which) {
    if (type == invvpid_type::all_contexts) return invvpid(type, {0, 0});
    invvpid(type, {which, type == invvpid_type::individual_address ? free_window : 0});
}

void run_under(std::uint16_t which, Check& check, PlantedLinear& planted, std::uint64_t want) {
    write(field::virtual_processor_identifier, which);
    expect_word(check, planted.l2(), want);
}

struct TypeCase {
    std::string_view name;
    std::uint64_t type;
    std::uint64_t bits;
    Rule rule;
};

// clang-format off
constexpr TypeCase types[] = {
    {"type-0", invvpid_type::individual_address, 0, {"3C 29.4.3.1", "INVVPID type 0 invalidates the address for the VPID", 11}},
    {"type-1", invvpid_type::single_context, 0, {"3C 29.4.3.1", "INVVPID type 1 invalidates all of the VPID", 13}},
    {"type-2", invvpid_type::all_contexts, 0, {"3C 29.4.3.1", "INVVPID type 2 invalidates every VPID, whatever the descriptor holds", 34}},
    {"type-3", invvpid_type::single_context_retaining_globals, 0, {"3C 29.4.3.1", "INVVPID type 3 invalidates all of the VPID but global translations", 31}},
    {"type-0-of-a-global-page", invvpid_type::individual_address, global, {"3C 29.4.3.1", "INVVPID type 0 invalidates global translations too", 11}},
    {"type-1-of-a-global-page", invvpid_type::single_context, global, {"3C 29.4.3.1", "INVVPID type 1 invalidates global translations too"}},
    {"type-2-of-a-global-page", invvpid_type::all_contexts, global, {"3C 29.4.3.1", "INVVPID type 2 invalidates global translations too"}},
};
// clang-format on

void check_types(Check& check, PlantedLinear& planted, const TypeCase& each) {
    write(field::guest_cr4, read(field::guest_cr4) | cr4_pge);
    planted.plant(check, each.bits);
    planted.change();
    invalidate(each.type, vpid);
    expect_word(check, planted.l2(), new_word);
}

void check_every_pcid(Check& check, PlantedLinear& planted) {
    const std::uint64_t root = planted.tables().root();
    for (const std::uint64_t type :
         {invvpid_type::individual_address, invvpid_type::single_context, invvpid_type::all_contexts,
          invvpid_type::single_context_retaining_globals}) {
        if (!has_type(type)) continue;
        write(field::guest_cr4, read(field::guest_cr4) | cr4_pcide);
        planted.plant(check);
        for (const std::uint64_t pcid : {1U, 2U}) {
            write(field::guest_cr3, root | pcid);
            expect_word(check, planted.l2(), old_word);
        }
        planted.change();
        invalidate(type, vpid);
        for (const std::uint64_t pcid : {0U, 1U, 2U}) {
            write(field::guest_cr3, root | pcid);
            expect_word(check, planted.l2(), new_word);
        }
        write(field::guest_cr3, root);
    }
}

void check_inactive_vpid(Check& check, PlantedLinear& planted) {
    planted.plant(check);
    run_under(other_vpid, check, planted, old_word);
    planted.change();
    invvpid(invvpid_type::single_context, {vpid, 0});
    run_under(vpid, check, planted, new_word);
    invvpid(invvpid_type::single_context, {other_vpid, 0});
    run_under(other_vpid, check, planted, new_word);
}

void check_inactive_vmcs(Check& check, PlantedLinear& planted) {
    L2 second{paged_plan(planted.tables().root(), other_vpid, planted.with_ept())};
    planted.l2().make_current();
    planted.plant(check);
    second.make_current();
    expect_word(check, second, old_word);
    planted.change();
    invvpid(invvpid_type::single_context, {vpid, 0});
    planted.l2().make_current();
    expect_word(check, planted.l2(), new_word);
    invvpid(invvpid_type::individual_address, {other_vpid, free_window});
    second.make_current();
    expect_word(check, second, new_word);
    planted.l2().make_current();
}

void check_all_contexts_of_two(Check& check, PlantedLinear& planted) {
    planted.plant(check);
    run_under(other_vpid, check, planted, old_word);
    planted.change();
    invvpid(invvpid_type::all_contexts, {0, 0});
    run_under(vpid, check, planted, new_word);
    run_under(other_vpid, check, planted, new_word);
}

void check_without_current_vmcs(Check& check, PlantedLinear& planted) {
    planted.plant(check);
    planted.change();
    { const L2 gone{paged_plan(planted.tables().root(), other_vpid, planted.with_ept())}; }
    invvpid(invvpid_type::single_context, {vpid, 0});
    planted.l2().make_current();
    expect_word(check, planted.l2(), new_word);
}

void check_failed_entry(Check& check, PlantedLinear& planted) {
    for (const bool on_controls : {false, true}) {
        planted.plant(check);
        planted.change();
        invvpid(invvpid_type::single_context, {vpid, 0});
        fail_an_entry(check, planted.l2(), on_controls);
        expect_word(check, planted.l2(), new_word);
    }
}

// The same VPID and the same tables under two EPTPs: INVVPID is for all of them.
void check_several_epts(Check& check, PlantedLinear& planted) {
    Ept12 second;
    second.map_identity(image_window().begin, image_window().end, EptLevel::page_2m);
    const std::uint64_t eptps[] = {usual_ept().pointer(), second.pointer()};
    const auto expect_under_both = [&](std::uint64_t want) {
        for (const std::uint64_t eptp : eptps) {
            write(field::ept_pointer, eptp);
            expect_word(check, planted.l2(), want);
        }
    };
    for (const std::uint64_t type : {invvpid_type::individual_address, invvpid_type::single_context}) {
        if (!has_type(type)) continue;
        planted.plant(check);
        expect_under_both(old_word);
        planted.change();
        invalidate(type, vpid);
        expect_under_both(new_word);
    }
    write(field::ept_pointer, eptps[0]);
}

void check_fresh_vpid(Check& check, PlantedLinear& planted) {
    planted.plant(check);
    planted.change();
    run_under(7, check, planted, new_word);  // never used since everything was dropped
}

void check_back_in_vmx_operation(Check& check, PlantedLinear& planted) {
    planted.plant(check);
    leave_and_enter_vmx_operation(check, planted.l2());
    planted.change();
    forget_all_vpids();
    expect_word(check, planted.l2(), new_word);
}

void check_many_vpids(Check& check, PlantedLinear& planted) {
    constexpr std::uint16_t count = 300;
    planted.plant(check);
    for (std::uint16_t which = 1; which <= count; ++which) run_under(which, check, planted, old_word);
    planted.change();
    forget_all_vpids();
    for (std::uint16_t which = count; which > 0; --which) run_under(which, check, planted, new_word);
}

// An earlier root, which is not the guest's CR3 when INVVPID comes.
void check_earlier_root(Check& check, PlantedLinear& planted) {
    LinearTables second;
    second.map_image();
    second.entry(free_window) = physical(page_with(7)) | 3;
    planted.plant(check);
    write(field::guest_cr3, second.root());
    forget_vpid(vpid);
    expect_word(check, planted.l2(), 7);
    planted.change();
    invvpid(invvpid_type::single_context, {vpid, 0});
    write(field::guest_cr3, planted.tables().root());
    expect_word(check, planted.l2(), new_word);
}

// Not the last entry of the walk but one above it: what is cached of the walk itself goes too.
void check_upper_levels(Check& check, PlantedLinear& planted) {
    for (const unsigned level : {2U, 3U}) {
        LinearTables second;
        second.entry(free_window) = planted.new_entry();
        planted.plant(check);
        const std::uint64_t before = planted.tables().entry(free_window, level);
        planted.tables().entry(free_window, level) = second.entry(free_window, level);
        invvpid(invvpid_type::single_context, {vpid, 0});
        expect_word(check, planted.l2(), new_word);
        planted.tables().entry(free_window, level) = before;
    }
}

struct Case {
    std::string_view name;
    void (*run)(Check& check, PlantedLinear& planted);
    Rule rule;
    bool (*offered)() = nullptr;
    bool needs_ept = false;
};

bool pcids() {
    return (cpuid(1).ecx >> 17 & 1) != 0;
}
bool type_1() {
    return has_type(invvpid_type::single_context);
}
bool types_0_and_1() {
    return type_1() && has_type(invvpid_type::individual_address);
}
bool type_2() {
    return has_type(invvpid_type::all_contexts);
}

// clang-format off
constexpr Case cases[] = {
    {"invvpid-of-every-pcid", check_every_pcid, {"3C 29.4.3.1", "INVVPID invalidates in every PCID", 11}, pcids},
    {"invvpid-of-a-vpid-that-ran-before-the-last", check_inactive_vpid, {"3C 29.4.3.1", "INVVPID reaches a VPID that is not the current VMCS's", 24}, type_1},
    {"invvpid-of-another-vmcs-vpid", check_inactive_vmcs, {"3C 29.4.3.1", "INVVPID reaches a VPID that is not the current VMCS's", 13}, types_0_and_1},
    {"invvpid-of-all-contexts-after-two", check_all_contexts_of_two, {"3C 29.4.3.1", "INVVPID type 2 invalidates every VPID, whatever the descriptor holds", 34}, type_2},
    {"invvpid-without-a-current-vmcs", check_without_current_vmcs, {"3C 31.3 INVVPID", "INVVPID needs no current VMCS, and takes effect", 3}, type_1},
    {"invvpid-before-an-entry-that-fails", check_failed_entry, {"3C 29.4.3.1", "a failed entry between INVVPID and the next good one loses nothing", 29}, type_1},
    {"invvpid-of-a-vpid-under-two-eptps", check_several_epts, {"3C 29.4.3.1", "INVVPID invalidates combined mappings of every EPTP", 35}, type_1, true},
    {"a-vpid-that-was-not-used-yet", check_fresh_vpid, {"3C 29.4.2", "a VPID shows nothing that was cached under another", 24}},
    {"invvpid-after-vmxoff-and-vmxon", check_back_in_vmx_operation, {"3C 29.4.3.3", "INVVPID after VMXON reaches what was cached before VMXOFF", 27}, type_2},
    {"invvpid-after-three-hundred-vpids", check_many_vpids, {"3C 29.4.3.1", "however many VPIDs are used, INVVPID type 2 invalidates all", 36}, type_2},
    {"invvpid-of-an-earlier-root", check_earlier_root, {"3C 29.4.3.1", "INVVPID reaches the translations of every CR3", 19}, type_1},
    {"invvpid-after-a-change-of-an-upper-level", check_upper_levels, {"3C 29.4.3.1", "INVVPID invalidates paging-structure caches too", 19}, type_1},
};
// clang-format on

// What L2 does for itself.
struct OwnCase {
    std::string_view name;
    const char* program;
    std::uint64_t bits;
    Rule rule;
    bool invpcid = false;
    bool exits_between = false;
};

// clang-format off
constexpr OwnCase own_cases[] = {
    {"invlpg", l2_edit_invlpg, 0, {"3C 29.4.3.1", "INVLPG of a guest invalidates for its VPID", 22}},
    {"invlpg-of-a-global-page", l2_edit_invlpg, global, {"3A 5.10.4.1", "INVLPG invalidates global translations too", 22}},
    {"invlpg-after-an-exit", l2_edit_exit_invlpg, 0, {"3C 29.4.3.1", "INVLPG of a guest invalidates for its VPID", 22}, false, true},
    {"mov-to-cr3", l2_edit_mov_cr3, 0, {"3C 29.4.3.1", "MOV to CR3 of a guest invalidates for its VPID", 22}},
    {"a-change-of-cr4-pge", l2_edit_toggle_pge, global, {"3C 29.4.3.1", "a change of CR4.PGE invalidates global translations of the VPID", 22}},
    {"invpcid-of-an-address", l2_edit_invpcid_address, 0, {"3C 29.4.3.1", "INVPCID of a guest invalidates for its VPID", 22}, true},
    {"invpcid-of-everything", l2_edit_invpcid_all, global, {"3C 29.4.3.1", "INVPCID of a guest invalidates for its VPID", 22}, true},
};
// clang-format on

void run_own_case(Check& check, PlantedLinear& planted, const OwnCase& each) {
    write(field::guest_cr4, read(field::guest_cr4) | cr4_pge);
    planted.plant(check, each.bits);
    InvalidationDescriptor descriptor{0, free_window};
    start(planted.l2(), each.program, free_window);
    planted.l2().registers.rsi = physical(&descriptor);
    planted.l2().registers.r8 = physical(&planted.tables().entry(free_window));
    planted.l2().registers.r9 = planted.new_entry() | each.bits;
    if (each.exits_between) check.runs_past(planted.l2(), reason::vmcall);
    if (!check.runs_to(planted.l2(), reason::vmcall)) return;
    check.equal("before", planted.l2().registers.rax, old_word);
    check.equal("after", planted.l2().registers.rdx, new_word);
    // And it stays so when L2 comes back.
    expect_word(check, planted.l2(), new_word);
}

// One probe: a name, a planted translation of its own, and what the probe does with it.
template <typename Body>
void probe(std::string_view name, bool with_ept, std::uint16_t under, const Rule& rule, Body body) {
    const PageScope scope;
    const RuleScope ruled{rule};
    Line full;
    full << "no-stale-translation-" << (with_ept ? "with-ept-" : "without-ept-") << name;
    PlantedLinear planted{with_ept, under};
    Check check{full.text()};
    body(check, planted);
}

void probe_own(bool with_ept, std::uint16_t under) {
    const bool has_invpcid =
        (cpuid(7).ebx >> 10 & 1) != 0 && capabilities.secondary.may_set(secondary::enable_invpcid);
    for (const OwnCase& each : own_cases) {
        if (each.invpcid && !has_invpcid) {
            report_not_offered("INVPCID in a guest");
            continue;
        }
        Line name;
        name << "after-l2s-own-" << each.name << (under == 0 ? "-and-no-vpid" : "");
        probe(name.text(), with_ept, under, each.rule, [&](Check& check, PlantedLinear& planted) {
            if (each.invpcid) {
                write(
                    field::secondary_processor_based_vm_execution_controls,
                    read(field::secondary_processor_based_vm_execution_controls) | secondary::enable_invpcid);
            }
            run_own_case(check, planted, each);
        });
    }
}

void probe_vpids(bool with_ept) {
    for (const TypeCase& each : types) {
        if (!has_type(each.type)) {
            report_not_offered(each.name);
            continue;
        }
        Line name;
        name << "after-invvpid-of-" << each.name;
        probe(name.text(), with_ept, vpid, each.rule,
              [&](Check& check, PlantedLinear& planted) { check_types(check, planted, each); });
    }
    for (const Case& each : cases) {
        if (each.needs_ept && !with_ept) continue;
        if (each.offered != nullptr && !each.offered()) {
            report_not_offered(each.name);
            continue;
        }
        Line name;
        name << "after-" << each.name;
        probe(name.text(), with_ept, vpid, each.rule, each.run);
    }
    probe_own(with_ept, vpid);
}

// Without VPIDs every entry and exit invalidates: nothing is owed.
void probe_without_vpid(bool with_ept) {
    probe("where-no-vpid-is-used", with_ept, 0,
          {"3C 29.4.3.1", "with \"enable VPID\" 0 every entry and exit invalidates VPID 0000H", 25},
          [](Check& check, PlantedLinear& planted) {
              planted.plant(check);
              planted.change();
              expect_word(check, planted.l2(), new_word);
          });
    probe_own(with_ept, 0);
}

}  // namespace

void check_stale_linear() {
    const bool ept = capabilities.secondary.may_set(secondary::enable_ept);
    const bool vpids = capabilities.secondary.may_set(secondary::enable_vpid) && capabilities.has_invvpid();
    if (!vpids) report_not_offered("VPIDs");
    for (const bool with_ept : {true, false}) {
        if (with_ept && !ept) continue;
        if (vpids) probe_vpids(with_ept);
        probe_without_vpid(with_ept);
    }
}

}  // namespace flatback::guests
