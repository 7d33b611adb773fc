// The TPR shadow, the APIC-access page and virtual x2APIC mode. SDM 3C 30.1, 30.3 to 30.5.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_write_cr8[];
extern char l2_read_cr8[];
extern char l2_apic_read[];
extern char l2_apic_write[];
extern char l2_x2apic_tpr[];
}

asm(R"(
.pushsection .text
.globl l2_write_cr8, l2_read_cr8, l2_apic_read, l2_apic_write, l2_x2apic_tpr
l2_write_cr8:
    movq %rbx, %cr8
    vmcall
l2_read_cr8:
    movq %cr8, %rbx
    vmcall
l2_apic_read:
    movl (%rsi), %ebx
    vmcall
l2_apic_write:
    movl %ebx, (%rsi)
    vmcall
l2_x2apic_tpr:
    movl $0x808, %ecx
    rdmsr
    movl %eax, %r8d
    movl $0x60, %eax
    xorl %edx, %edx
    wrmsr
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t tpr_offset = 0x80;
// SDM 3C table 28-6: access type in bits 15:12, linear accesses.
constexpr std::uint64_t linear_read = 0;
constexpr std::uint64_t linear_write = 1U << 12;

void start(const char* program) {
    write(field::guest_rip, physical(program));
}

volatile std::uint32_t& virtual_tpr(Page* page) {
    return *reinterpret_cast<volatile std::uint32_t*>(physical(page) + tpr_offset);
}

void check_cr8_exiting() {
    const RuleScope rule{{"3C 26.1.3", "MOV CR8 exits by its controls"}};
    constexpr std::uint32_t wanted = primary::cr8_load_exiting | primary::cr8_store_exiting;
    if (!capabilities.primary.may_set(wanted)) {
        report_not_offered("CR8 exiting");
        return;
    }
    VmcsPlan plan = usual_plan(physical(l2_write_cr8), usual_ept().pointer());
    plan.primary |= wanted;
    L2 l2{plan};
    Check check{"mov-cr8-exits-with-its-controls"};
    check.runs_to(l2, reason::control_register_access);
    check.equal("qualification of the load", read(field::exit_qualification), 8 | 0U << 4 | 3U << 8);
    start(l2_read_cr8);
    check.runs_to(l2, reason::control_register_access);
    check.equal("qualification of the store", read(field::exit_qualification), 8 | 1U << 4 | 3U << 8);
}

void check_tpr_shadow() {
    const RuleScope rule{{"3C 30.3", "with the TPR shadow MOV CR8 accesses the virtual TPR"}};
    Page* const virtual_apic = allocate_page();
    VmcsPlan plan = usual_plan(physical(l2_write_cr8), usual_ept().pointer());
    L2 l2{plan};
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | primary::use_tpr_shadow);
    write(field::virtual_apic_address, physical(virtual_apic));
    {
        Check check{"mov-cr8-reads-and-writes-the-virtual-tpr"};
        write(field::tpr_threshold, 0);
        l2.registers.rbx = 5;
        check.runs_to(l2, reason::vmcall);
        check.equal("virtual TPR", virtual_tpr(virtual_apic), 0x50);
        virtual_tpr(virtual_apic) = 0x70;
        start(l2_read_cr8);
        check.runs_to(l2, reason::vmcall);
        check.equal("CR8", l2.registers.rbx, 7);
    }
    {
        Check check{"a-virtual-tpr-that-falls-below-the-threshold-exits-behind-the-instruction"};
        write(field::tpr_threshold, 4);
        start(l2_write_cr8);
        l2.registers.rbx = 3;
        check.runs_to(l2, reason::number(vmx::ExitReason::tpr_below_threshold));
        check.equal("RIP", read(field::guest_rip), physical(l2_write_cr8) + 4);
        check.equal("virtual TPR", virtual_tpr(virtual_apic), 0x30);
    }
    {
        // SDM 3C 27.2.1.1: without virtualized APIC accesses the entry itself is refused.
        Check check{"a-threshold-above-the-virtual-tpr-is-error-7"};
        start(l2_write_cr8);
        check.equal("exit reason", l2.run(), L2::no_exit);
        check.outcome("VMRESUME", l2.failure, vm_fail_valid(7));
    }
    {
        Check check{"the-entry-succeeds-once-the-threshold-is-low-enough"};
        write(field::tpr_threshold, 3);
        start(l2_read_cr8);
        check.runs_to(l2, reason::vmcall);
        check.equal("CR8", l2.registers.rbx, 3);
    }
}

void check_apic_access() {
    const RuleScope rule{{"3C 30.4", "an access to the APIC-access page exits or is virtualized"}};
    if (!capabilities.secondary.may_set(secondary::virtualize_apic_accesses)) {
        report_not_offered("the APIC-access page");
        return;
    }
    Page* const virtual_apic = allocate_page();
    Page* const access = allocate_page();
    // The page has an EPT entry of its own, as hypervisors make it.
    Ept12 ept;
    ept.map_identity(0, 4ULL << 30, EptLevel::page_2m);
    const std::uint64_t around = physical(access) & ~(large_page_size - 1);
    ept.map_identity(around, around + large_page_size, EptLevel::page_4k);
    VmcsPlan plan = usual_plan(physical(l2_apic_read), ept.pointer());
    L2 l2{plan};
    const auto set = [](std::uint32_t primary_bits, std::uint32_t secondary_bits) {
        write(field::primary_processor_based_vm_execution_controls,
              read(field::primary_processor_based_vm_execution_controls) | primary_bits);
        write(field::secondary_processor_based_vm_execution_controls,
              read(field::secondary_processor_based_vm_execution_controls) | secondary_bits);
    };
    set(0, secondary::virtualize_apic_accesses);
    write(field::apic_access_address, physical(access));
    {
        Check check{"a-read-and-a-write-of-the-apic-access-page-exit-with-offset-and-kind"};
        l2.registers.rsi = physical(access) + 0x30;
        check.runs_to(l2, reason::number(vmx::ExitReason::apic_access));
        check.equal("qualification of the read", read(field::exit_qualification), linear_read | 0x30);
        start(l2_apic_write);
        l2.registers.rsi = physical(access) + 0xB0;
        check.runs_to(l2, reason::number(vmx::ExitReason::apic_access));
        check.equal("qualification of the write", read(field::exit_qualification), linear_write | 0xB0);
    }
    set(primary::use_tpr_shadow, 0);
    write(field::virtual_apic_address, physical(virtual_apic));
    write(field::tpr_threshold, 0);
    {
        Check check{"with-the-tpr-shadow-offset-80h-of-the-apic-access-page-is-the-virtual-tpr"};
        virtual_tpr(virtual_apic) = 0x90;
        l2.registers.rsi = physical(access) + tpr_offset;
        start(l2_apic_read);
        check.runs_to(l2, reason::vmcall);
        check.equal("read", l2.registers.rbx, 0x90);
        start(l2_apic_write);
        l2.registers.rbx = 0x40;
        check.runs_to(l2, reason::vmcall);
        check.equal("written", virtual_tpr(virtual_apic), 0x40);
        check.equal("the page itself", virtual_tpr(access), 0);
    }
    {
        Check check{"with-virtualized-apic-accesses-a-threshold-above-the-virtual-tpr-exits-at-once"};
        write(field::tpr_threshold, 9);
        start(l2_read_cr8);
        check.runs_to(l2, reason::number(vmx::ExitReason::tpr_below_threshold));
        check.equal("RIP", read(field::guest_rip), physical(l2_read_cr8));
    }
}

void check_virtual_x2apic() {
    const RuleScope rule{{"3C 30.5", "in virtual x2APIC mode MSR 808H is the virtual TPR"}};
    if (!capabilities.secondary.may_set(secondary::virtualize_x2apic_mode)) {
        report_not_offered("virtual x2APIC mode");
        return;
    }
    Page* const virtual_apic = allocate_page();
    VmcsPlan plan = usual_plan(physical(l2_x2apic_tpr), usual_ept().pointer());
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    L2 l2{plan};
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | primary::use_tpr_shadow);
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) | secondary::virtualize_x2apic_mode);
    write(field::virtual_apic_address, physical(virtual_apic));
    write(field::tpr_threshold, 0);
    Check check{"in-virtual-x2apic-mode-msr-808h-is-the-virtual-tpr"};
    virtual_tpr(virtual_apic) = 0x20;
    check.runs_to(l2, reason::vmcall);
    check.equal("read", l2.registers.r8, 0x20);
    check.equal("written", virtual_tpr(virtual_apic), 0x60);
}

}  // namespace

void check_virtual_apic() {
    const PageScope scope;
    check_cr8_exiting();
    if (!capabilities.primary.may_set(primary::use_tpr_shadow)) {
        report_not_offered("the TPR shadow");
        return;
    }
    check_tpr_shadow();
    check_apic_access();
    check_virtual_x2apic();
}

}  // namespace flatback::guests
