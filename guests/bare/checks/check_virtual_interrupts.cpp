// Virtual interrupts: APIC-register virtualization, virtual-interrupt delivery, virtual x2APIC mode with
// them, posted interrupts. SDM 3C 30.1 to 30.6.

#include <algorithm>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_takes_interrupts[];
extern char l2_writes_x2apic[];
extern char l2_reads_x2apic[];
extern char l2_reads_apic_page[];
extern char l2_writes_apic_page[];
}

asm(R"(
.pushsection .text
.globl l2_takes_interrupts, l2_writes_x2apic, l2_reads_x2apic, l2_reads_apic_page, l2_writes_apic_page
l2_takes_interrupts:
    nop
    nop
    vmcall
# RCX: which; RBX: the value.
l2_writes_x2apic:
    movl %ebx, %eax
    xorl %edx, %edx
    wrmsr
    nop
    vmcall
l2_reads_x2apic:
    rdmsr
    movl %eax, %ebx
    vmcall
l2_reads_apic_page:
    movl (%rsi), %ebx
    vmcall
l2_writes_apic_page:
    movl %ebx, (%rsi)
    nop
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t set = secondary::virtualize_x2apic_mode | secondary::apic_register_virtualization |
                              secondary::virtual_interrupt_delivery;
constexpr std::uint8_t vector = 0x61;
constexpr std::uint8_t lower_vector = 0x51;
constexpr std::uint8_t notification = 0x71;
constexpr std::uint8_t other_notification = 0x72;
constexpr std::uint64_t interrupts_on = 0x202;
// Of the virtual-APIC page.
constexpr std::uint32_t version = 0x30;
constexpr std::uint32_t task_priority = 0x80;
constexpr std::uint32_t processor_priority = 0xA0;
constexpr std::uint32_t logical_destination = 0xD0;
constexpr std::uint32_t spurious_vector = 0xF0;
constexpr std::uint32_t in_service = 0x100;
constexpr std::uint32_t requests = 0x200;
constexpr std::uint32_t first_msr = 0x800;
constexpr std::uint32_t end_of_interrupt_msr = 0x80B;
constexpr std::uint32_t self_interrupt_msr = 0x83F;

volatile std::uint32_t& word(Page* page, std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(physical(page) + offset);
}
bool has(Page* page, std::uint32_t first, std::uint8_t which) {
    return (word(page, first + which / 32U * 16) >> which % 32 & 1) != 0;
}
void request(Page* page, std::uint8_t which) {
    volatile std::uint32_t& bits = word(page, requests + which / 32U * 16);
    bits = bits | 1U << which % 32;
    const std::uint64_t status = read(field::guest_interrupt_status);
    write(field::guest_interrupt_status, (status & 0xFF00) | std::max<std::uint64_t>(status & 0xFF, which));
}

// An L2 with the whole set, interrupts on and an IDT, whose MSR bitmap lets it have every MSR.
struct Guest {
    Page* const apic = allocate_page();
    Page* const bitmap = allocate_page();
    L2 l2;

    explicit Guest(std::uint32_t pin_controls = 0, std::uint32_t secondary_controls = set,
                   std::uint64_t ept = usual_ept().pointer())
        : l2{plan(pin_controls, secondary_controls, ept, bitmap)} {
        write(field::virtual_apic_address, physical(apic));
        write(field::tpr_threshold, 0);
        write(field::guest_interrupt_status, 0);
        use_l2_idt(physical(allocate_page()) + page_size - 64);
        write(field::guest_rflags, interrupts_on);
    }
    static VmcsPlan plan(std::uint32_t pin_controls, std::uint32_t secondary_controls, std::uint64_t ept,
                         Page* bitmap) {
        VmcsPlan plan = usual_plan(physical(l2_takes_interrupts), ept);
        plan.pin |= pin::external_interrupt_exiting | pin_controls;
        plan.primary |= primary::use_tpr_shadow | primary::use_msr_bitmaps;
        plan.secondary |= secondary_controls;
        plan.exit |= exit_control::acknowledge_interrupt_on_exit;
        plan.msr_bitmaps = physical(bitmap);
        return plan;
    }
    void start(const char* program, std::uint32_t which = 0, std::uint32_t value = 0) {
        write(field::guest_rip, physical(program));
        l2.registers.rcx = which;
        l2.registers.rbx = value;
        l2.registers.rax = 0;
    }
    // The vector whose handler L2 is in; 0: it is behind its program.
    [[nodiscard]] std::uint64_t taken() const { return l2.registers.rax; }
};

void check_registers() {
    const RuleScope rule{
        {"3C 30.5", "with APIC-register virtualization RDMSR of 800H to 8FFH reads the page"}};
    Guest guest;
    Check check{"in-virtual-x2apic-mode-rdmsr-reads-the-virtual-apic-page"};
    for (const std::uint32_t offset : {version, spurious_vector, in_service + 0x30}) {
        word(guest.apic, offset) = 0x1234'0000 | offset;
        guest.start(l2_reads_x2apic, first_msr + offset / 16);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("read", guest.l2.registers.rbx, 0x1234'0000 | offset);
    }
}

void check_delivery() {
    const RuleScope rule{{"3C 30.2", "a virtual interrupt is delivered, and ends, without an exit"}};
    Guest guest;
    {
        Check check{"a-requested-virtual-interrupt-goes-through-l2s-idt-at-the-entry"};
        request(guest.apic, vector);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), vector);
        check.equal("guest interrupt status", read(field::guest_interrupt_status), vector << 8);
        check.holds("in service", has(guest.apic, in_service, vector));
        check.holds("not requested", !has(guest.apic, requests, vector));
        check.equal("VPPR", word(guest.apic, processor_priority) & 0xFF, vector & 0xF0);
    }
    {
        Check check{"one-of-lower-priority-waits-until-the-end-of-the-other"};
        request(guest.apic, lower_vector);
        write(field::guest_rflags, interrupts_on);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), 0);
        write(field::guest_rflags, interrupts_on);
        guest.start(l2_writes_x2apic, end_of_interrupt_msr);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), lower_vector);
        check.equal("guest interrupt status", read(field::guest_interrupt_status), lower_vector << 8);
        check.holds("no longer in service", !has(guest.apic, in_service, vector));
    }
    {
        Check check{"an-end-of-interrupt-in-the-eoi-exit-bitmap-exits-with-its-vector"};
        write(field::eoi_exit_bitmap_1, std::uint64_t{1} << (lower_vector - 64));
        write(field::guest_rflags, 2);
        guest.start(l2_writes_x2apic, end_of_interrupt_msr);
        check.runs_to(guest.l2, reason::number(vmx::ExitReason::virtualized_eoi));
        check.equal("qualification", read(field::exit_qualification), lower_vector);
        check.equal("guest interrupt status", read(field::guest_interrupt_status), 0);
        check.equal("RIP: behind the instruction", read(field::guest_rip), physical(l2_writes_x2apic) + 6);
    }
    {
        Check check{"an-interrupt-that-l2-sends-itself-by-msr-83fh-makes-no-exit"};
        write(field::guest_rflags, interrupts_on);
        guest.start(l2_writes_x2apic, self_interrupt_msr, vector);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), vector);
        check.holds("the real local APIC has none", !interrupt_requested(vector));
        check.holds("nor serves one", !interrupt_in_service(vector));
        write(field::guest_rflags, 2);
        guest.start(l2_writes_x2apic, end_of_interrupt_msr);
        check.runs_to(guest.l2, reason::vmcall);
    }
    {
        Check check{"a-virtual-interrupt-waits-for-the-virtual-tpr"};
        word(guest.apic, task_priority) = 0x60;
        request(guest.apic, vector);
        write(field::guest_rflags, interrupts_on);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), 0);
        guest.start(l2_writes_x2apic, first_msr + task_priority / 16, 0x50);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), vector);
    }
}

// A page that is the APIC-access page, by an entry of EPT of its own.
void check_access_page() {
    const RuleScope rule{
        {"3C 30.4", "APIC-register virtualization: reads make no exit, writes one behind them"}};
    if (!capabilities.secondary.may_set(secondary::virtualize_apic_accesses)) {
        report_not_offered("the APIC-access page");
        return;
    }
    Page* const access = allocate_page();
    Ept12 ept;
    ept.map_identity(0, 4ULL << 30, EptLevel::page_2m);
    const std::uint64_t around = physical(access) & ~(large_page_size - 1);
    ept.map_identity(around, around + large_page_size, EptLevel::page_4k);
    Guest guest{0,
                secondary::virtualize_apic_accesses | secondary::apic_register_virtualization |
                    secondary::virtual_interrupt_delivery,
                ept.pointer()};
    write(field::apic_access_address, physical(access));
    {
        Check check{"an-l2-reads-the-apic-access-page-from-the-virtual-apic-page"};
        word(guest.apic, version) = 0x50014;
        guest.start(l2_reads_apic_page);
        guest.l2.registers.rsi = physical(access) + version;
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("read", guest.l2.registers.rbx, 0x50014);
    }
    {
        Check check{"an-apic-write-exits-behind-the-instruction"};
        guest.start(l2_writes_apic_page, 0, 0x0700'0000);
        guest.l2.registers.rsi = physical(access) + logical_destination;
        check.runs_to(guest.l2, reason::number(vmx::ExitReason::apic_write));
        check.equal("qualification", read(field::exit_qualification), logical_destination);
        check.equal("RIP", read(field::guest_rip), physical(l2_writes_apic_page) + 2);
        check.equal("in the virtual-APIC page", word(guest.apic, logical_destination), 0x0700'0000);
        check.equal("in the APIC-access page", word(access, logical_destination), 0);
    }
    {
        Check check{"an-end-of-interrupt-in-the-apic-access-page-makes-no-exit"};
        request(guest.apic, vector);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), vector);
        guest.start(l2_writes_apic_page);
        guest.l2.registers.rsi = physical(access) + 0xB0;
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("guest interrupt status", read(field::guest_interrupt_status), 0);
    }
}

// L1's bitmap lets L2 have what the processor no longer virtualizes: it is then L1's own register, or none.
void check_without_registers() {
    const RuleScope rule{{"3C 30.5", "without APIC-register virtualization RDMSR reads the real register"}};
    Guest guest;
    word(guest.apic, version) = 0xABCD'1234;
    Check check{"the-virtual-apic-page-is-not-read-where-its-registers-are-not-virtualized"};
    guest.start(l2_reads_x2apic, first_msr + version / 16);
    check.runs_to(guest.l2, reason::vmcall);
    check.equal("read", guest.l2.registers.rbx, 0xABCD'1234);
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) &
              ~std::uint64_t{secondary::apic_register_virtualization});
    guest.start(l2_reads_x2apic, first_msr + version / 16);
    guest.l2.run();
    // In xAPIC mode there is no such MSR.
    const bool faulted = !is_in_x2apic_mode() && read(field::guest_rip) != physical(l2_reads_x2apic) + 4;
    check.holds("the real one, or a fault", faulted || guest.l2.registers.rbx != 0xABCD'1234);
}

void check_posted() {
    const RuleScope rule{{"3C 30.6", "a posted interrupt reaches the guest without an exit"}};
    if (!capabilities.pin.may_set(pin::process_posted_interrupts)) {
        report_not_offered("posted interrupts");
        return;
    }
    Page* const page = allocate_page();
    auto* const descriptor = reinterpret_cast<volatile std::uint64_t*>(physical(page) + 64);
    count_interrupts(notification);
    count_interrupts(other_notification);
    Guest guest{pin::process_posted_interrupts};
    write(field::posted_interrupt_notification_vector, notification);
    write(field::posted_interrupt_descriptor_address, physical(page) + 64);
    const auto post = [&](std::uint8_t which) {
        descriptor[which / 64] = descriptor[which / 64] | std::uint64_t{1} << which % 64;
        descriptor[4] = descriptor[4] | 1;
    };
    {
        Check check{"a-notification-delivers-what-is-posted-without-an-exit"};
        const std::uint64_t taken_by_l1 = interrupt_count[notification];
        post(vector);
        post(lower_vector);
        send_self_interrupt(notification);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("vector", guest.taken(), vector);
        check.equal("descriptor", descriptor[0] | descriptor[1] | descriptor[2] | descriptor[3], 0);
        check.equal("outstanding notification", descriptor[4] & 1, 0);
        check.equal("guest interrupt status", read(field::guest_interrupt_status),
                    vector << 8 | lower_vector);
        check.holds("the other is requested", has(guest.apic, requests, lower_vector));
        check.holds("the notification is over",
                    !interrupt_requested(notification) && !interrupt_in_service(notification));
        check.equal("notifications that L1 took", interrupt_count[notification] - taken_by_l1, 0);
        guest.start(l2_writes_x2apic, end_of_interrupt_msr);
        write(field::guest_rflags, interrupts_on);
        check.runs_to(guest.l2, reason::vmcall);
        check.equal("then", guest.taken(), lower_vector);
    }
    {
        Check check{"another-vector-exits-acknowledged-and-posts-nothing"};
        post(vector);
        send_self_interrupt(other_notification);
        write(field::guest_rflags, interrupts_on);
        guest.start(l2_takes_interrupts);
        check.runs_to(guest.l2, reason::external_interrupt);
        check.equal("interruption information", read(field::vm_exit_interruption_information),
                    0x80000000 | other_notification);
        check.holds("in service", interrupt_in_service(other_notification));
        check.equal("outstanding notification", descriptor[4] & 1, 1);
        end_of_interrupt();
    }
    {
        Check check{"a-descriptor-that-is-not-aligned-is-error-7"};
        write(field::posted_interrupt_descriptor_address, physical(page) + 32);
        check.equal("exit reason", guest.l2.run(), L2::no_exit);
        check.outcome("VMRESUME", guest.l2.failure, vm_fail_valid(7));
    }
}

}  // namespace

void check_virtual_interrupts() {
    const PageScope scope;
    if (!capabilities.primary.may_set(primary::use_tpr_shadow) || !capabilities.secondary.may_set(set)) {
        report_not_offered("virtual interrupts");
        return;
    }
    check_registers();
    check_delivery();
    check_access_page();
    check_without_registers();
    check_posted();
}

}  // namespace flatback::guests
