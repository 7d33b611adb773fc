// MSR lists that VM entries load, and VM exits store and load. SDM 3C 25.7.2, 25.8.2, 27.4, 28.4, 28.6.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_swap_msrs[];
}

asm(R"(
.pushsection .text
.globl l2_swap_msrs
# R8, R9: IA32_LSTAR and IA32_KERNEL_GS_BASE as L2 finds them; then it writes 1111H and 2222H.
l2_swap_msrs:
    movl $0xC0000082, %ecx
    rdmsr
    movl %eax, %r8d
    movl $0x1111, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xC0000102, %ecx
    rdmsr
    movl %eax, %r9d
    movl $0x2222, %eax
    xorl %edx, %edx
    wrmsr
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_lstar = 0xC0000082;
constexpr std::uint32_t msr_kernel_gs_base = 0xC0000102;
constexpr std::uint32_t msr_fs_base = 0xC0000100;
constexpr std::uint32_t invalid_msr = reason::entry_failure_msr_loading | reason::entry_failure;

struct MsrEntry {
    std::uint32_t index;
    std::uint32_t reserved;
    std::uint64_t value;
};

MsrEntry* new_list() {
    return reinterpret_cast<MsrEntry*>(allocate_page());
}

VmcsPlan plan_with_own_msrs() {
    VmcsPlan plan = usual_plan(physical(l2_swap_msrs), usual_ept().pointer());
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    return plan;
}

void check_lists() {
    const RuleScope rule{{"3C 27.4, 28.4, 28.6", "lists are loaded at entries, stored and loaded at exits"}};
    MsrEntry* const load = new_list();
    MsrEntry* const store = new_list();
    MsrEntry* const load_host = new_list();
    load[0] = {msr_lstar, 0, 0xAAAA};
    load[1] = {msr_kernel_gs_base, 0, 0xBBBB};
    store[0] = {msr_kernel_gs_base, 0, 0};
    store[1] = {msr_lstar, 0, 0};
    load_host[0] = {msr_lstar, 0, 0xCCCC};
    load_host[1] = {msr_kernel_gs_base, 0, 0xDDDD};
    L2 l2{plan_with_own_msrs()};
    write(field::vm_entry_msr_load_address, physical(load));
    write(field::vm_entry_msr_load_count, 2);
    write(field::vm_exit_msr_store_address, physical(store));
    write(field::vm_exit_msr_store_count, 2);
    write(field::vm_exit_msr_load_address, physical(load_host));
    write(field::vm_exit_msr_load_count, 2);
    Check check{"msr-lists-are-loaded-at-entry-and-stored-and-loaded-at-exit"};
    check.runs_to(l2, reason::vmcall);
    check.equal("IA32_LSTAR in L2", l2.registers.r8, 0xAAAA);
    check.equal("IA32_KERNEL_GS_BASE in L2", l2.registers.r9, 0xBBBB);
    check.equal("IA32_KERNEL_GS_BASE stored", store[0].value, 0x2222);
    check.equal("IA32_LSTAR stored", store[1].value, 0x1111);
    check.equal("IA32_LSTAR in L1", read_msr(msr_lstar), 0xCCCC);
    check.equal("IA32_KERNEL_GS_BASE in L1", read_msr(msr_kernel_gs_base), 0xDDDD);
    check.equal("index stored", store[0].index, msr_kernel_gs_base);
}

// The list is processed in order: the last entry of an MSR wins.
void check_order() {
    const RuleScope rule{{"3C 27.4", "a list is loaded in its order"}};
    MsrEntry* const load = new_list();
    for (unsigned i = 0; i < 8; ++i) load[i] = {msr_lstar, 0, 0x1000 + i};
    L2 l2{plan_with_own_msrs()};
    write(field::vm_entry_msr_load_address, physical(load));
    write(field::vm_entry_msr_load_count, 8);
    Check check{"an-msr-list-is-loaded-in-order"};
    check.runs_to(l2, reason::vmcall);
    check.equal("IA32_LSTAR in L2", l2.registers.r8, 0x1007);
}

struct BadEntry {
    std::string_view name;
    MsrEntry entry;
    Deviation deviation = {};
};

void check_failures() {
    const RuleScope rule{
        {"3C 27.4", "an entry of a list that cannot be loaded is an exit with reason 34 and its number"}};
    constexpr BadEntry bad[] = {
        {"an-entry-that-loads-fs-base-by-its-msr-list-fails", {msr_fs_base, 0, 0}},
        {"an-entry-whose-msr-list-has-a-reserved-bit-fails", {msr_lstar, 1, 0}},
        {"an-entry-whose-msr-list-loads-a-value-that-wrmsr-refuses-fails", {msr_lstar, 0, 0x8000'0000'0000}},
    };
    for (const BadEntry& each : bad) {
        MsrEntry* const load = new_list();
        MsrEntry* const load_host = new_list();
        load[0] = {msr_lstar, 0, 0x1234};
        load[1] = {msr_kernel_gs_base, 0, 0x5678};
        load[2] = each.entry;
        load_host[0] = {msr_lstar, 0, 0x9999};
        L2 l2{plan_with_own_msrs()};
        write(field::vm_entry_msr_load_address, physical(load));
        write(field::vm_entry_msr_load_count, 4);
        write(field::vm_exit_msr_load_address, physical(load_host));
        write(field::vm_exit_msr_load_count, 1);
        Check check{each.name};
        check.runs_to(l2, invalid_msr);
        check.equal("qualification: the third entry", read(field::exit_qualification), 3);
        check.equal("guest RIP", read(field::guest_rip), physical(l2_swap_msrs));
        check.equal("IA32_LSTAR, by the exit's own list", read_msr(msr_lstar), 0x9999);
        check.outcome("VMRESUME: it was not launched", try_enter(false), vm_fail_valid(5));
        write(field::vm_entry_msr_load_count, 2);
        check.runs_to(l2, reason::vmcall);
        check.known(each.deviation);
    }
}

}  // namespace

void check_msr_lists() {
    const PageScope scope;
    const std::uint64_t lstar = read_msr(msr_lstar);
    const std::uint64_t kernel_gs_base = read_msr(msr_kernel_gs_base);
    check_lists();
    check_order();
    check_failures();
    write_msr(msr_lstar, lstar);
    write_msr(msr_kernel_gs_base, kernel_gs_base);
}

}  // namespace flatback::guests
