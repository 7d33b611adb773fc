// VM entries from 32-bit mode: how they fail at once, and guests of each 32-bit mode. SDM 3C 27.1
// to 27.3, 28.5.

#include "guests/bare32/check.hpp"
#include "guests/bare32/checks.hpp"
#include "guests/bare32/cpu.hpp"
#include "guests/bare32/interrupts.hpp"
#include "guests/bare32/vmcs.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_reason.hpp"

extern "C" {
extern char l2_32_vmcall[];
extern char l2_32_load[];
}

asm(R"(
.pushsection .text
.globl l2_32_vmcall, l2_32_load
l2_32_vmcall:
    vmcall
    jmp l2_32_vmcall
# EAX = [EDI], then VMCALL.
l2_32_load:
    movl (%edi), %eax
    movl $0x89ABCDEF, %ebx
    vmcall
    hlt
.popsection
)");

namespace flatback::guests::bare32 {
namespace {

constexpr std::uint32_t number(vmx::ExitReason reason) {
    return static_cast<std::uint32_t>(reason);
}

constexpr std::uint32_t vmcall = number(vmx::ExitReason::vmcall);
constexpr std::uint32_t invalid_guest_state = 1U << 31 | number(vmx::ExitReason::entry_failure_guest_state);
const Outcome bad_controls = vm_fail_valid(7);
const Outcome bad_host_state = vm_fail_valid(8);

Outcome try_vmlaunch_behind_mov_ss() {
    std::uint32_t flags;
    std::uint32_t selector;
    last_fault.taken = false;
    asm volatile(
        "movl %%ss, %[selector]\n\t"
        "pushl %[preset]\n\tpopfl\n\t"
        "movl %[selector], %%ss\n\t"
        "vmlaunch\n\t"
        "pushfl\n\tpopl %[flags]\n"
        : [flags] "=r"(flags), [selector] "=&r"(selector)
        : [preset] "i"(arithmetic_flags | 2)
        : "cc", "memory");
    return outcome_of(flags);
}

// A field changed for the length of one entry.
Outcome enter_with(std::uint32_t encoding, std::uint32_t clear, std::uint32_t set, bool launch = true) {
    const std::uint32_t before = read_raw(encoding);
    write_raw(encoding, (before & ~clear) | set);
    const Outcome got = try_enter(launch);
    write_raw(encoding, before);
    return got;
}

Plan usual_plan() {
    Plan plan;
    plan.ept = capabilities.offers_ept();
    plan.paging = paging();
    plan.program = l2_32_vmcall;
    return plan;
}

struct Refusal {
    std::string_view name;
    std::uint32_t encoding, clear, set;
};

void check_refusals() {
    constexpr Refusal controls[] = {
        {"a reserved pin control", field::pin_based_vm_execution_controls.encoding, 0, 1U << 31},
        {"five CR3 targets", field::cr3_target_count.encoding, 0, 5},
        {"a default1 exit control clear", field::vm_exit_controls.encoding, 1, 0},
        {"a misaligned MSR list", field::vm_entry_msr_load_count.encoding, 0, 1},
    };
    constexpr std::uint32_t vmxe = cr4_vmxe;
    constexpr Refusal host[] = {
        {"CR0.PG clear", field::host_cr0.encoding, cr0_pg, 0},
        {"CR4.VMXE clear", field::host_cr4.encoding, vmxe, 0},
        {"CR4.PCIDE", field::host_cr4.encoding, 0, 1U << 17},
        {"null CS", field::host_cs_selector.encoding, 0xFFFF, 0},
        {"null SS", field::host_ss_selector.encoding, 0xFFFF, 0},
        {"null TR", field::host_tr_selector.encoding, 0xFFFF, 0},
        {"DS with RPL", field::host_ds_selector.encoding, 0, 3},
    };
    write_64(field::vm_entry_msr_load_address, 8);
    {
        Check check{"bad-controls-are-error-7"};
        for (const Refusal& each : controls)
            check.outcome(each.name, enter_with(each.encoding, each.clear, each.set), bad_controls);
    }
    {
        Check check{"bad-host-state-is-error-8"};
        for (const Refusal& each : host)
            check.outcome(each.name, enter_with(each.encoding, each.clear, each.set), bad_host_state);
    }
    {
        // SDM 3C 27.2.4. The host's RIP is checked for a 32-bit host only by its upper half.
        Check check{"outside-ia-32e-mode-neither-the-host-nor-the-guest-may-be-64-bit"};
        check.outcome(
            "host address-space size",
            enter_with(field::vm_exit_controls.encoding, 0, vmx::exit_control::host_address_space_size),
            bad_host_state);
        check.outcome("IA-32e mode guest",
                      enter_with(field::vm_entry_controls.encoding, 0, vmx::entry_control::ia32e_mode_guest),
                      bad_host_state);
    }
    {
        Check check{"bad-guest-state-is-an-exit-that-leaves-the-vmcs-clear"};
        check.outcome("VMLAUNCH", enter_with(field::guest_cr4.encoding, vmxe, 0), vm_exit);
        check.equal("exit reason", read(field::exit_reason), invalid_guest_state);
        check.outcome("VMRESUME", try_enter(false), vm_fail_valid(5));
    }
}

void check_mode(std::string_view name, Paging guest, bool with_ept) {
    if (with_ept && !capabilities.offers_ept()) return;
    static std::uint32_t word = 0x2468;
    Plan plan;
    plan.paging = guest;
    plan.ept = with_ept;
    plan.program = l2_32_load;
    start_vmcs(0, plan);
    GuestRegisters registers{};
    registers.edi = physical(&word);
    Check check{name};
    last_fault.taken = false;
    check.equal("entry", enter_l2(&registers, true), 0);
    check.equal("exit reason", read(field::exit_reason), vmcall);
    check.equal("what L2 read", registers.eax, 0x2468);
    check.equal("EBX", registers.ebx, 0x89ABCDEF);
    check.equal("guest RIP", read(field::guest_rip), physical(l2_32_load) + 7);
    check.equal("guest CR3", read(field::guest_cr3), guest == Paging::none ? 0 : paging_root(guest));
    check.equal("instruction length", read(field::vm_exit_instruction_length), 3);
}

}  // namespace

void check_launch() {
    start_vmcs(0, usual_plan());
    {
        Check check{"vmresume-of-a-clear-vmcs-fails-with-error-5"};
        check.outcome("VMRESUME", try_enter(false), vm_fail_valid(5));
    }
    {
        Check check{"vmlaunch-blocked-by-mov-ss-fails-with-error-26"};
        check.outcome("VMLAUNCH", try_vmlaunch_behind_mov_ss(), vm_fail_valid(26));
    }
    check_refusals();
    {
        Check check{"vmlaunch-enters-and-vmcall-exits"};
        check.outcome("VMLAUNCH", try_enter(true), vm_exit);
        check.equal("exit reason", read(field::exit_reason), vmcall);
        check.outcome("VMLAUNCH of a launched VMCS", try_enter(true), vm_fail_valid(4));
        check.outcome("VMRESUME", try_enter(false), vm_exit);
        check.equal("exit reason", read(field::exit_reason), vmcall);
    }
    if (!directly_on_bochs()) {  // which calls a VMCALL in root operation a panic
        Check check{"vmcall-in-root-operation-fails-with-error-1"};
        check.outcome("VMCALL", try_vmcall(), vm_fail_valid(1));
    }
    Check check{"without-a-current-vmcs-entries-fail-invalid"};
    const std::uint64_t address = physical(&vmcs_region(0));
    check.outcome("VMCLEAR", try_vmclear(physical(&address)), vm_succeed);
    check.outcome("VMLAUNCH", try_enter(true), vm_fail_invalid);
    check.outcome("VMRESUME", try_enter(false), vm_fail_invalid);
}

void check_guests() {
    check_mode("an-l2-without-paging-runs", Paging::none, true);
    check_mode("an-l2-with-32-bit-paging-runs-with-ept", Paging::legacy, true);
    check_mode("an-l2-with-pae-paging-runs-with-ept", Paging::pae, true);
    check_mode("an-l2-with-32-bit-paging-runs-without-ept", Paging::legacy, false);
    check_mode("an-l2-with-pae-paging-runs-without-ept", Paging::pae, false);
}

void check_host_state() {
    start_vmcs(0, usual_plan());
    {
        Check check{"an-exit-loads-a-32-bit-hosts-state"};
        const std::uint32_t cr0 = read_cr0();
        const std::uint32_t cr3 = read_cr3();
        const std::uint32_t cr4 = read_cr4();
        check.outcome("VMLAUNCH", try_enter(true), vm_exit);
        check.equal("exit reason", read(field::exit_reason), vmcall);
        check.equal("CR0", read_cr0(), cr0);
        check.equal("CR3", read_cr3(), cr3);
        check.equal("CR4", read_cr4(), cr4);
        check.equal("EFER: LMA, LME", read_msr(0xC0000080) & 0x500, 0);
        std::uint32_t limit = 0;
        std::uint32_t selector = data_selector;
        asm volatile("lsl %1, %0" : "=r"(limit) : "r"(selector) : "cc");
        check.equal("limit of the data segment", limit, 0xFFFFFFFF);
        asm volatile("movl %%fs, %0" : "=r"(selector));
        check.equal("FS", selector, 0);
        struct [[gnu::packed]] {
            std::uint16_t limit;
            std::uint32_t base;
        } pointer{};
        asm volatile("sidt %0" : "=m"(pointer));
        check.equal("IDTR limit", pointer.limit, 0xFFFF);
        check.equal("IDTR base", pointer.base, idt_base());
    }
    if (paging() != Paging::pae) return;
    // SDM 3C 28.5.4.
    static Page pages[2];
    for (unsigned which = 0; which < 2; ++which) {
        pages[which].words[0] = which;
        fill_second_gigabyte(which, physical(&pages[which]));
    }
    Check check{"an-exit-to-pae-paging-loads-the-pdptes"};
    bool launch = false;
    for (const unsigned which : {0U, 1U, 0U, 1U}) {
        name_second_gigabyte(which);
        check.outcome("entry", try_enter(launch), vm_exit);
        std::uint32_t plain = 0;
        asm volatile("movl (%1), %0" : "=r"(plain) : "r"(second_gigabyte) : "memory");
        check.equal("plain access after the exit", plain, which);
        pages[0].words[2] = pages[1].words[2] = 0;
        check.outcome("VMREAD", try_vmread_to(field::guest_rip.encoding, second_gigabyte + 8), vm_succeed);
        check.equal("the page that VMREAD wrote", pages[which].words[2], read(field::guest_rip));
    }
}

void check_invalidation() {
    start_vmcs(0, usual_plan());
    static InvalidationDescriptor descriptor;
    const Outcome bad_operand = vm_fail_valid(28);
    constexpr unsigned invept_bit = 20;
    if ((capabilities.ept_vpid >> invept_bit & 1) != 0) {
        Check check{"invept-takes-its-type-from-32-bits"};
        descriptor = {ept_pointer(), 0};
        check.outcome("type 1", try_invept(1, physical(&descriptor)), vm_succeed);
        check.outcome("type 2", try_invept(2, physical(&descriptor)), vm_succeed);
        check.outcome("type 0", try_invept(0, physical(&descriptor)), bad_operand);
        check.outcome("type FFFFFFFFH", try_invept(0xFFFFFFFF, physical(&descriptor)), bad_operand);
    }
    constexpr unsigned invvpid_bit = 32;
    if ((capabilities.ept_vpid >> invvpid_bit & 1) == 0) return;
    Check check{"invvpid-takes-sixteen-bytes"};
    descriptor = {1, 0x12345000};
    for (std::uint32_t type = 0; type <= 3; ++type)
        check.outcome("INVVPID", try_invvpid(type, physical(&descriptor)), vm_succeed);
    descriptor = {1, 0x8000'0000'0000};
    check.outcome("INVVPID of a noncanonical address", try_invvpid(0, physical(&descriptor)), bad_operand);
    descriptor = {1ULL << 32 | 1, 0};
    check.outcome("INVVPID with a reserved bit", try_invvpid(1, physical(&descriptor)), bad_operand);
}

void check_without_paging() {
    // SDM 3C 31.3, VMXON: CR0 must have the bits that VMX operation fixes, PG among them.
    const std::uint64_t address = physical(&vmcs_region(0));
    Check check{"vmxon-without-paging-is-a-general-protection-fault"};
    check.outcome("VMXON", enter_vmx_operation(), fault(vector_general_protection));
    check.known("VMXON succeeds");
    if (try_vmxoff() == vm_succeed) return;
    check.outcome("VMPTRLD", try_vmptrld(physical(&address)), fault(vector_invalid_opcode));
    check.outcome("VMXOFF", try_vmxoff(), fault(vector_invalid_opcode));
    check.outcome("VMCALL", try_vmcall(), fault(vector_invalid_opcode));
}

}  // namespace flatback::guests::bare32
