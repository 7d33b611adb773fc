// Several rules broken at once: the one that the SDM names first is the one that is found
// (3C 27.1, 27.2, 31.3). Where the SDM leaves the order open, what was found is reported as text; who runs
// this guest twice compares.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/mutation.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t not_canonical = 0x8000'0000'0000'0000;
constexpr std::uint32_t invalid_guest_state = reason::entry_failure_guest_state | reason::entry_failure;
constexpr std::uint32_t invalid_msr = reason::entry_failure_msr_loading | reason::entry_failure;
constexpr std::uint64_t no_field = 0x6FFE;

// One broken rule of each kind.
constexpr Change bad_control{field::cr3_target_count.encoding, 0, 5};
constexpr Change bad_host{field::host_rip.encoding, 0, not_canonical};
constexpr Change bad_guest{field::guest_rflags.encoding, 2, 0};
constexpr Change bad_link{field::vmcs_link_pointer.encoding, all_bits, 0x1234};
constexpr Change bad_injection{field::vm_entry_interruption_information.encoding, all_bits,
                               1U << 31 | 1U << 8 | 32};
constexpr Change blocked_twice{field::guest_interruptibility_state.encoding, 0, 3};

void report_order(std::string_view name, const Outcome& outcome) {
    Line key;
    Line text;
    text << outcome;
    if (outcome == vm_exit) {
        (text << ", reason ").hexadecimal(read(field::exit_reason)) << ", qualification ";
        text.hexadecimal(read(field::exit_qualification));
    }
    report_text((key << "bare_l1.order." << name).text(), text.text());
}

// VMLAUNCH or VMRESUME right behind a MOV to SS.
Outcome try_enter_behind_mov_ss(bool launch) {
    std::uint64_t flags;
    std::uint32_t selector;
    last_fault.taken = false;
    asm volatile(
        "movl %%ss, %[selector]\n\t"
        "testl %[launch], %[launch]\n\t"
        "jz 1f\n\t"
        "pushq %[preset]\n\tpopfq\n\t"
        "movl %[selector], %%ss\n\t"
        "vmlaunch\n\t"
        "jmp 2f\n"
        "1:\tpushq %[preset]\n\tpopfq\n\t"
        "movl %[selector], %%ss\n\t"
        "vmresume\n"
        "2:\tpushfq\n\tpopq %[flags]\n"
        : [flags] "=r"(flags), [selector] "=&r"(selector)
        : [preset] "r"(arithmetic_flags | 2), [launch] "r"(static_cast<std::uint32_t>(launch))
        : "cc", "memory");
    return outcome_of(flags);
}

void check_vmcs_instructions() {
    const RuleScope rule{{"3C 31.3", "the checks of an instruction come in the SDM's order"}};
    map_linear(0, 0);
    const void* const hole = window_address(0);
    std::uint64_t value = 0;
    {
        const std::uint64_t bad_address = physical(vmxon_region()) | 0x800;
        Check check{"a-misaligned-pointer-is-found-before-it-is-compared-with-vmxons"};
        check.outcome("VMPTRLD", try_vmptrld(&bad_address), vm_fail_invalid);
        check.outcome("VMCLEAR", try_vmclear(&bad_address), vm_fail_invalid);
        const L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        check.outcome("VMPTRLD", try_vmptrld(&bad_address), vm_fail_valid(9));
        check.outcome("VMCLEAR", try_vmclear(&bad_address), vm_fail_valid(2));
    }
    {
        Check check{"without-a-current-vmcs-nothing-else-of-vmread-and-vmwrite-is-looked-at"};
        check.outcome("VMREAD of no field", try_vmread(no_field, value), vm_fail_invalid);
        check.outcome("VMWRITE of no field", try_vmwrite(no_field, 0), vm_fail_invalid);
        check.outcome("VMREAD to no memory", try_vmread_to(field::guest_rip.encoding, window_address(0)),
                      vm_fail_invalid);
    }
    const L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    {
        // SDM 3C 31.3, VMREAD: the destination is written last.
        Check check{"vmread-of-no-field-to-no-memory-fails-with-error-12"};
        check.outcome("VMREAD", try_vmread_to(no_field, window_address(0)), vm_fail_valid(12));
    }
    report_order("vmwrite-of-no-field-from-no-memory", try_vmwrite_from(no_field, hole));
    report_order("vmwrite-of-a-field-from-no-memory", try_vmwrite_from(field::guest_rip.encoding, hole));
    const std::uint64_t vmxon = physical(vmxon_region());
    report_order("vmxon-in-root-operation-with-no-memory", try_vmxon(hole));
    report_order("vmxon-in-root-operation", try_vmxon(&vmxon));
}

void check_invalidations() {
    const RuleScope rule{{"3C 31.3 INVVPID", "one failure, whatever else is wrong"}};
    if (!capabilities.has_invvpid()) return;
    const L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    const InvalidationDescriptor all_wrong{0xFFFF'0000, not_canonical};
    Check check{"an-invvpid-with-everything-wrong-fails-once-with-error-28"};
    for (std::uint64_t type = 0; type <= 4; ++type)
        check.outcome("INVVPID", try_invvpid(type, &all_wrong), vm_fail_valid(28));
}

struct Order {
    std::string_view name;
    Mutation wrong;
    Outcome want;
    std::uint32_t reason = 0;  // where an exit is wanted
};

void check_entries(L2& l2) {
    const RuleScope rule{{"3C 27.1, 27.2", "the checks of an entry come in the SDM's order"}};
    const Order orders[] = {
        {"a-bad-control-is-found-before-bad-guest-state", {"", {bad_control, bad_guest}}, vm_fail_valid(7)},
        {"bad-host-state-is-found-before-bad-guest-state", {"", {bad_host, bad_guest}}, vm_fail_valid(8)},
        {"a-bad-injection-is-found-before-bad-guest-state",
         {"", {bad_injection, bad_guest}},
         vm_fail_valid(7)},
        {"bad-guest-state-is-an-exit-whatever-else-of-it-is-bad",
         {"", {bad_guest, blocked_twice}},
         vm_exit,
         invalid_guest_state},
    };
    for (const Order& each : orders) {
        const Mutated mutated{each.wrong};
        Check check{each.name};
        check.outcome("VMLAUNCH", try_enter(true), each.want);
        if (each.reason != 0) check.equal("exit reason", read(field::exit_reason), each.reason);
        check.outcome("VMRESUME: the launch state comes first", try_enter(false), vm_fail_valid(5));
    }
    const Mutation open[] = {{"bad-control-and-bad-host", {bad_control, bad_host}},
                             {"bad-link-pointer-and-bad-guest", {bad_link, bad_guest}},
                             {"bad-injection-and-bad-host", {bad_injection, bad_host}}};
    for (const Mutation& each : open) {
        const Mutated mutated{each};
        report_order(each.name, try_enter(true));
    }
    {
        const Mutation all{"", {bad_control, bad_host, bad_guest}};
        const Mutated mutated{all};
        Check check{"blocking-by-mov-ss-is-found-before-launch-state-controls-and-states"};
        check.outcome("VMLAUNCH", try_enter_behind_mov_ss(true), vm_fail_valid(26));
        check.outcome("VMRESUME of a clear VMCS", try_enter_behind_mov_ss(false), vm_fail_valid(26));
    }
    {
        Check check{"a-launched-vmcs-is-found-before-bad-controls"};
        check.runs_to(l2, reason::vmcall);
        const Mutation all{"", {bad_control, bad_host, bad_guest}};
        const Mutated mutated{all};
        check.outcome("VMLAUNCH", try_enter(true), vm_fail_valid(4));
        check.outcome("VMLAUNCH behind MOV SS", try_enter_behind_mov_ss(true), vm_fail_valid(26));
    }
    Check check{"without-a-current-vmcs-blocking-by-mov-ss-is-not-looked-at"};
    const std::uint64_t address = l2.vmcs_address();
    check.outcome("VMCLEAR", try_vmclear(&address), vm_succeed);
    check.outcome("VMLAUNCH", try_enter_behind_mov_ss(true), vm_fail_invalid);
    check.outcome("VMRESUME", try_enter_behind_mov_ss(false), vm_fail_invalid);
}

struct MsrEntry {
    std::uint32_t index, reserved;
    std::uint64_t value;
};

// A list with two bad entries behind a good one; the good one is a write that would be seen.
void check_msr_list() {
    const RuleScope rule{{"3C 27.4", "MSRs are loaded behind all checks"}};
    constexpr std::uint32_t msr_lstar = 0xC0000082;
    constexpr std::uint32_t msr_fs_base = 0xC0000100;
    constexpr std::uint64_t before = 0x1234'5678;
    auto* const list = reinterpret_cast<MsrEntry*>(allocate_page());
    list[0] = {msr_lstar, 0, 0x8765'4321};
    list[1] = {msr_fs_base, 0, 0};
    list[2] = {msr_lstar, 1, 0};
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    write(field::vm_entry_msr_load_address, physical(list));
    write(field::vm_entry_msr_load_count, 3);
    const std::uint64_t kept = read_msr(msr_lstar);
    {
        Check check{"controls-host-and-guest-state-are-found-before-any-msr-is-loaded"};
        write_msr(msr_lstar, before);
        for (const Change& wrong : {bad_control, bad_host, bad_injection, bad_guest}) {
            const Mutation mutation{"", {wrong}};
            const Mutated mutated{mutation};
            const Outcome got = try_enter(true);
            check.holds("found before the list",
                        got != vm_exit || read(field::exit_reason) == invalid_guest_state);
            check.equal("the list's first MSR", read_msr(msr_lstar), before);
        }
        if (capabilities.primary.may_set(primary::use_tpr_shadow)) {
            const Mutation threshold{
                "",
                {{field::primary_processor_based_vm_execution_controls.encoding, 0, primary::use_tpr_shadow},
                 {field::virtual_apic_address.encoding, all_bits, physical(allocate_page())},
                 {field::tpr_threshold.encoding, all_bits, 4}}};
            const Mutated mutated{threshold};
            check.outcome("TPR threshold", try_enter(true), vm_fail_valid(7));
            check.equal("the list's first MSR", read_msr(msr_lstar), before);
        }
    }
    {
        Check check{"the-first-bad-entry-of-an-msr-list-is-the-one-that-is-told"};
        check.outcome("VMLAUNCH", try_enter(true), vm_exit);
        check.equal("exit reason", read(field::exit_reason), invalid_msr);
        check.equal("qualification", read(field::exit_qualification), 2);
    }
    write_msr(msr_lstar, kept);
}

}  // namespace

void check_orders() {
    const PageScope scope;
    check_vmcs_instructions();
    check_invalidations();
    {
        L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        check_entries(l2);
    }
    check_msr_list();
}

}  // namespace flatback::guests
