// Instructions of L2 that exit always, or because a control says so. SDM 3C 26.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_cpuid_once[];
extern char l2_vmx_instructions[];
extern char l2_conditional_instructions[];
extern char l2_halt[];
}

asm(R"(
.pushsection .text
.globl l2_cpuid_once, l2_vmx_instructions, l2_conditional_instructions, l2_halt
l2_cpuid_once:
    cpuid
    vmcall
l2_vmx_instructions:
    vmclear (%rsi)
    vmptrld (%rsi)
    vmptrst (%rsi)
    vmread %rax, %rbx
    vmwrite %rax, %rbx
    vmlaunch
    vmresume
    vmxoff
    vmxon (%rsi)
    invept (%rsi), %rax
    invvpid (%rsi), %rax
    hlt
l2_conditional_instructions:
    rdtsc
    invlpg (%rsi)
    movq %dr7, %rbx
    sgdt (%rsi)
    str %ax
    wbinvd
    vmcall
l2_halt:
    hlt
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

L2 usual_l2(const char* program) {
    return L2{usual_plan(physical(program), usual_ept().pointer())};
}

void check_cpuid() {
    const RuleScope rule{{"3C 26.1.2", "CPUID exits always"}};
    L2 l2 = usual_l2(l2_cpuid_once);
    l2.registers = {.rax = 1,
                    .rbx = 2,
                    .rcx = 3,
                    .rdx = 4,
                    .rsi = 5,
                    .rdi = 6,
                    .rbp = 7,
                    .r8 = 8,
                    .r9 = 9,
                    .r10 = 10,
                    .r11 = 11,
                    .r12 = 12,
                    .r13 = 13,
                    .r14 = 14,
                    .r15 = 15};
    write(field::guest_rsp, 0x123456789A);
    write(field::guest_rflags, 0xED7);  // IF, DF and the arithmetic flags are L2's own
    Check check{"cpuid-in-l2-exits-and-l2-keeps-its-registers"};
    check.runs_to(l2, reason::cpuid);
    check.equal("length", read(field::vm_exit_instruction_length), 2);
    check.equal("qualification", read(field::exit_qualification), 0);
    check.equal("RIP", read(field::guest_rip), physical(l2_cpuid_once));
    check.equal("RSP", read(field::guest_rsp), 0x123456789A);
    check.equal("RFLAGS", read(field::guest_rflags), 0xED7);
    check.equal("interruption information", read(field::vm_exit_interruption_information) >> 31, 0);
    check.equal("IDT-vectoring information", read(field::idt_vectoring_information) >> 31, 0);
    const GuestRegisters& r = l2.registers;
    check.holds("registers are those that L1 gave",
                r.rax == 1 && r.rbx == 2 && r.rcx == 3 && r.rdx == 4 && r.rsi == 5 && r.rdi == 6 &&
                    r.rbp == 7 && r.r8 == 8 && r.r9 == 9 && r.r10 == 10 && r.r11 == 11 && r.r12 == 12 &&
                    r.r13 == 13 && r.r14 == 14 && r.r15 == 15);
}

void check_vmx_in_l2() {
    const RuleScope rule{{"3C 26.1.2", "VMX instructions exit always, each with its reason"}};
    L2 l2 = usual_l2(l2_vmx_instructions);
    l2.registers.rsi = physical(allocate_page());
    struct Expected {
        std::uint32_t reason;
        std::uint64_t length;
    };
    constexpr Expected expected[] = {
        {reason::vmclear, 4}, {reason::vmptrld, 3},  {reason::vmptrst, 3},  {reason::vmread, 3},
        {reason::vmwrite, 3}, {reason::vmlaunch, 3}, {reason::vmresume, 3}, {reason::vmxoff, 3},
        {reason::vmxon, 4},   {reason::invept, 5},   {reason::invvpid, 5},
    };
    Check check{"every-vmx-instruction-in-l2-exits-with-its-own-reason"};
    for (const Expected& each : expected) {
        check.runs_to(l2, each.reason);
        check.equal("length", read(field::vm_exit_instruction_length), each.length);
        L2::skip_instruction();
    }
    check.runs_to(l2, reason::hlt);
}

void set_primary(std::uint32_t controls) {
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | controls);
}

void check_conditional_exits() {
    const RuleScope rule{{"3C 26.1.3", "an instruction exits where its control is 1, and else does not"}};
    constexpr std::uint32_t wanted =
        primary::rdtsc_exiting | primary::invlpg_exiting | primary::mov_dr_exiting;
    constexpr std::uint32_t wanted_secondary =
        secondary::descriptor_table_exiting | secondary::wbinvd_exiting;
    const std::uint64_t address = physical(allocate_page());
    {
        L2 l2 = usual_l2(l2_conditional_instructions);
        l2.registers.rsi = address;
        Check{"without-their-controls-rdtsc-invlpg-mov-dr-sgdt-str-and-wbinvd-do-not-exit"}.runs_to(
            l2, reason::vmcall);
    }
    if (!capabilities.primary.may_set(wanted)) {
        report_not_offered("RDTSC, INVLPG or MOV-DR exiting");
        return;
    }
    L2 l2 = usual_l2(l2_conditional_instructions);
    l2.registers.rsi = address;
    set_primary(wanted);
    Check check{"with-their-controls-rdtsc-invlpg-mov-dr-sgdt-str-and-wbinvd-exit"};
    check.runs_past(l2, reason::rdtsc);
    check.runs_to(l2, reason::invlpg);
    check.equal("qualification of INVLPG", read(field::exit_qualification), address);
    L2::skip_instruction();
    check.runs_to(l2, reason::mov_dr);
    // SDM 3C table 28-4: DR7, direction from DR, RBX.
    check.equal("qualification of MOV DR", read(field::exit_qualification), 7 | 1U << 4 | 3U << 8);
    L2::skip_instruction();
    if (!capabilities.secondary.may_set(wanted_secondary)) {
        report_not_offered("descriptor-table or WBINVD exiting");
        return;
    }
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) | wanted_secondary);
    check.runs_past(l2, reason::gdtr_or_idtr_access);
    check.runs_past(l2, reason::ldtr_or_tr_access);
    check.runs_past(l2, reason::wbinvd_or_wbnoinvd);
    check.runs_to(l2, reason::vmcall);
}

void check_hlt() {
    const RuleScope rule{{"3C 26.1.3", "HLT exits where HLT exiting is 1"}};
    L2 l2 = usual_l2(l2_halt);
    Check check{"hlt-in-l2-exits-and-l2-goes-on-behind-it"};
    check.runs_to(l2, reason::hlt);
    check.equal("length", read(field::vm_exit_instruction_length), 1);
    check.equal("activity state", read(field::guest_activity_state), 0);
    L2::skip_instruction();
    check.runs_to(l2, reason::vmcall);
}

// The CPU as L1 finds it after an exit: host state, all of it loaded. SDM 3C 28.5.
void check_host_after_exit() {
    const RuleScope rule{{"3C 28.5", "an exit loads the host state"}};
    L2 l2 = usual_l2(l2_cpuid_once);
    write(field::guest_cr0, read_cr0() & ~0x10000ULL);  // WP off in L2
    write(field::host_ia32_sysenter_esp, 0x1234);
    write(field::host_fs_base, 0x5678);
    write(field::host_gs_base, 0xFFFF'8000'0000'9ABC);
    const std::uint64_t cr0 = read_cr0();
    const std::uint64_t cr3 = read_cr3();
    const std::uint64_t cr4 = read_cr4();
    Check check{"an-exit-loads-the-host-state-of-the-vmcs"};
    check.runs_to(l2, reason::cpuid);
    check.equal("CR0", read_cr0(), cr0);
    check.equal("CR3", read_cr3(), cr3);
    check.equal("CR4", read_cr4(), cr4);
    check.equal("IA32_SYSENTER_ESP", read_msr(0x175), 0x1234);
    check.equal("FS base", read_msr(0xC0000100), 0x5678);
    check.equal("GS base", read_msr(0xC0000101), 0xFFFF'8000'0000'9ABC);
    check.equal(
        "DR7",
        [] {
            std::uint64_t dr7;
            asm volatile("movq %%dr7, %0" : "=r"(dr7));
            return dr7;
        }(),
        0x400);
    std::uint64_t flags;
    asm volatile("pushfq; popq %0" : "=r"(flags));
    check.equal("RFLAGS.IF", flags & 0x200, 0);
    check.equal("guest CR0 in the VMCS", read(field::guest_cr0), cr0 & ~0x10000ULL);
    write_msr(0xC0000100, 0);
    write_msr(0xC0000101, 0);
}

}  // namespace

void check_exits() {
    const PageScope scope;
    check_cpuid();
    check_vmx_in_l2();
    check_conditional_exits();
    check_hlt();
    check_host_after_exit();
}

}  // namespace flatback::guests
