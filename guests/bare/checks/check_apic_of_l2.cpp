// The local APIC in the hands of an L2, on a machine with several processors: INIT and SIPI that it sends
// reach L1's other processor as if L1 had sent them, by whatever way it writes. SDM 3A 11.6, 9.4.4, 3C 30.4.

#include <utility>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/destinations.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

extern "C" {
extern char l2_send_command[];
extern char l2_send_by_string[];
extern char l2_send_by_exchange[];
extern char l2_send_by_read_and_write[];
extern char l2_send_by_msr[];
extern char l2_version_and_priority[];
extern char l2_wait_for_timer[];
extern const char l2_real_send_begin[];
extern const char l2_real_send_end[];
}

asm(R"(
.pushsection .text
.globl l2_send_command, l2_send_by_string, l2_send_by_exchange, l2_send_by_read_and_write, l2_send_by_msr
.globl l2_version_and_priority, l2_wait_for_timer, l2_real_send_begin, l2_real_send_end
# RDI: the APIC's page; EBX: interrupt command, bits 63:32; ECX: bits 31:0.
l2_send_command:
    movl %ebx, 0x310(%rdi)
    movl %ecx, 0x300(%rdi)
    vmcall
l2_send_by_string:
    movq %rdi, %rsi
    movl %ecx, %edx
    leaq 0x310(%rsi), %rdi
    movl %ebx, %eax
    stosl
    leaq 0x300(%rsi), %rdi
    movl %edx, %eax
    movl $1, %ecx
    rep stosl
    vmcall
l2_send_by_exchange:
    xchgl %ebx, 0x310(%rdi)
    xchgl %ecx, 0x300(%rdi)
    vmcall
# What is there is 0 at first: INIT would else go with bits of the command before.
l2_send_by_read_and_write:
    andl $0, 0x310(%rdi)
    lock orl %ebx, 0x310(%rdi)
    movl %ecx, 0x300(%rdi)
    vmcall
l2_send_by_msr:
    movl %ecx, %eax
    movl %ebx, %edx
    shrl $24, %edx
    movl $0x830, %ecx
    wrmsr
    vmcall
# EAX: version; EDX: the task priority, which becomes EBX and is read again.
l2_version_and_priority:
    movl 0x30(%rdi), %eax
    movl %ebx, 0x80(%rdi)
    movl 0x80(%rdi), %edx
    vmcall
# Masked, one shot of some ticks.
l2_wait_for_timer:
    movl $0x10000, 0x320(%rdi)
    movl $0xB, 0x3E0(%rdi)
    movl $20000, 0x380(%rdi)
1:  cmpl $0, 0x390(%rdi)
    jne 1b
    vmcall
# In real mode, with the page at DS.
.code16
l2_real_send_begin:
    movl %ebx, 0x310
    movl %ecx, 0x300
    vmcall
l2_real_send_end:
.code64
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t task_priority = 0x80;
constexpr std::uint32_t version = 0x30;
constexpr std::uint32_t command_low = 0x300;
constexpr std::uint32_t command_high = 0x310;
constexpr std::uint32_t init = 0x4500;
constexpr std::uint32_t start_at_8000h = 0x4608;

volatile unsigned works = 0;
void second_works() {
    works = works + 1;
}

// send(): gives the other processor this command.
template <typename Send>
void expect_start(Check& check, Send&& send) {
    works = 0;
    check.holds("the other processor works at first", do_on_second(second_works) && works == 1);
    const std::uint32_t before = second_arrivals();
    send(init);
    begin_on_second(second_works);
    wait_ticks(50'000);
    check.equal("work done between INIT and SIPI", works, 1);
    check.equal("starts before SIPI", second_arrivals() - before, 0);
    begin_on_second(nullptr);
    send(start_at_8000h);
    wait_ticks(100'000);
    check.equal("starts after it", second_arrivals() - before, 1);
    check.holds("the other processor works again", do_on_second(second_works) && works == 2);
}

void send_by(Check& check, L2& l2, const char* program, std::uint64_t page, std::uint32_t command) {
    start(l2, program, page, std::uint64_t{second_apic_identifier()} << 24);
    l2.registers.rcx = command;
    check.runs_to(l2, reason::vmcall);
}

void expect_start_by(Check& check, L2& l2, const char* program, std::uint64_t page) {
    expect_start(check, [&](std::uint32_t command) { send_by(check, l2, program, page, command); });
}

// What L2 reads and writes there is the real APIC.
void expect_registers(Check& check, L2& l2, std::uint64_t page) {
    for (const std::uint32_t priority : {0x30U, 0U}) {
        start(l2, l2_version_and_priority, page, priority);
        check.runs_to(l2, reason::vmcall);
        check.equal("version", l2.registers.rax, read_apic_register(version));
        check.equal("task priority as L2 reads it", l2.registers.rdx, priority);
        check.equal("task priority", read_apic_register(task_priority), priority);
    }
}

constexpr std::uint8_t fixed_vector = 0x55;
volatile std::uint64_t fixed_taken = 0;
volatile std::uint64_t nmis_taken = 0;
void second_waits_for_both() {
    const std::uint64_t fixed = interrupt_count[fixed_vector];
    const std::uint64_t nmis = interrupt_count[vector_nmi];
    asm volatile("sti" ::: "memory");
    wait_ticks(100'000);
    asm volatile("cli" ::: "memory");
    fixed_taken = interrupt_count[fixed_vector] - fixed;
    nmis_taken = interrupt_count[vector_nmi] - nmis;
}

// What an L2 with the page sends beside INIT and SIPI.
void expect_interrupts(Check& check, L2& l2, std::uint64_t page) {
    count_interrupts(fixed_vector);
    count_interrupts(vector_nmi);
    begin_on_second(second_waits_for_both);
    wait_ticks(20'000);
    send_by(check, l2, l2_send_command, page, 0x4000 | fixed_vector);
    send_by(check, l2, l2_send_command, page, 0x4400);
    check.holds("it comes to an end", finish_on_second());
    check.equal("fixed interrupts", fixed_taken, 1);
    check.equal("NMIs", nmis_taken, 1);
}

void check_through_ept12() {
    struct Way {
        std::string_view name;
        const char* program;
        EptLevel level;
        std::uint64_t at;
        bool offered;
    };
    const bool huge = (capabilities.ept_vpid >> 17 & 1) != 0;
    for (const Way& way :
         {Way{"in-a-page-of-4-kb", l2_send_command, EptLevel::page_4k, apic_page, true},
          Way{"in-a-page-of-2-mb", l2_send_command, EptLevel::page_2m, apic_page, true},
          Way{"in-a-page-of-1-gb", l2_send_command, EptLevel::page_1g, apic_page, huge},
          Way{"at-another-address", l2_send_command, EptLevel::page_4k, free_window, true},
          Way{"by-a-string", l2_send_by_string, EptLevel::page_4k, apic_page, true},
          Way{"by-an-exchange", l2_send_by_exchange, EptLevel::page_4k, free_window, true},
          Way{"by-a-read-and-write", l2_send_by_read_and_write, EptLevel::page_2m, apic_page, true}}) {
        if (!way.offered) continue;
        const PageScope scope;
        Ept12 hierarchy;
        map_image(hierarchy);
        hierarchy.map(way.at & ~(size_of(way.level) - 1), apic_page & ~(size_of(way.level) - 1), way.level);
        Line name;
        name << "an-l2-with-the-apic-" << way.name << "-starts-another-processor";
        Check check{name.text()};
        L2 l2{usual_plan(0, hierarchy.pointer())};
        expect_registers(check, l2, way.at);
        expect_start_by(check, l2, way.program, way.at);
        expect_registers(check, l2, way.at);
    }
}

void check_in_real_mode() {
    if (!capabilities.secondary.may_set(secondary::unrestricted_guest)) return;
    constexpr std::uint64_t code_address = 0x8000;
    const PageScope scope;
    Page* const code = allocate_page();
    auto* const bytes = reinterpret_cast<volatile std::uint8_t*>(code);
    for (std::int64_t i = 0; i < l2_real_send_end - l2_real_send_begin; ++i)
        bytes[i] = static_cast<std::uint8_t>(l2_real_send_begin[i]);
    Ept12 hierarchy;
    hierarchy.map(code_address, physical(code), EptLevel::page_4k);
    hierarchy.map(apic_page, apic_page, EptLevel::page_4k);
    forget_vpid(1);
    VmcsPlan plan = usual_plan(0, hierarchy.pointer());
    plan.entry &= ~entry_control::ia32e_mode_guest;
    L2 l2{plan};
    for (const std::uint64_t limit :
         {field::guest_es_limit.encoding, field::guest_cs_limit.encoding, field::guest_ss_limit.encoding,
          field::guest_ds_limit.encoding, field::guest_fs_limit.encoding, field::guest_gs_limit.encoding}) {
        write_raw(limit, 0xFFFF);
    }
    for (const std::uint64_t rights :
         {field::guest_es_access_rights.encoding, field::guest_ss_access_rights.encoding,
          field::guest_ds_access_rights.encoding, field::guest_fs_access_rights.encoding,
          field::guest_gs_access_rights.encoding}) {
        write_raw(rights, 0x93);
    }
    write(field::guest_cs_access_rights, 0x9B);
    write(field::guest_cs_selector, 0);
    write(field::guest_ds_base, apic_page);
    write(field::guest_cr0, 0x30);
    write(field::guest_cr4, cr4_vmxe);
    write(field::guest_cr3, 0);
    write(field::guest_ia32_efer, 0);
    Check check{"an-l2-with-the-apic-in-real-mode-starts-another-processor"};
    expect_start(check, [&](std::uint32_t command) {
        write(field::guest_rip, code_address);
        l2.registers.rbx = std::uint64_t{second_apic_identifier()} << 24;
        l2.registers.rcx = command;
        check.runs_to(l2, reason::vmcall);
    });
    forget_vpid(1);
}

void check_interrupts_of_l2() {
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.map(free_window, apic_page, EptLevel::page_4k);
    Check check{"an-l2-with-the-apic-sends-interrupts"};
    L2 l2{usual_plan(0, hierarchy.pointer())};
    expect_interrupts(check, l2, free_window);
}

void check_without_ept12() {
    const PageScope scope;
    LinearTables tables;
    tables.map_image();
    tables.entry(free_window) = apic_page | linear_page::present | linear_page::writable;
    forget_all_vpids();
    VmcsPlan plan = usual_plan(0, 0);
    plan.secondary &= ~(secondary::enable_ept | secondary::unrestricted_guest);
    plan.cr3 = tables.root();
    L2 l2{plan};
    for (const auto& [name, program] :
         {std::pair{"an-l2-without-ept12-starts-another-processor", l2_send_command},
          std::pair{"an-l2-without-ept12-starts-another-processor-by-a-string", l2_send_by_string}}) {
        Check check{name};
        expect_registers(check, l2, free_window);
        expect_start_by(check, l2, program, free_window);
    }
}

// L1's APIC-access page is the real one: every access of that L2's exits, and none of another's with the same
// EPTP.
void check_apic_access_page() {
    if (!capabilities.secondary.may_set(secondary::virtualize_apic_accesses)) return;
    constexpr std::uint32_t apic_access = reason::number(vmx::ExitReason::apic_access);
    constexpr std::uint64_t linear_write = 1U << 12;
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.map(apic_page, apic_page, EptLevel::page_4k);
    L2 virtualized{usual_plan(0, hierarchy.pointer())};
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) | secondary::virtualize_apic_accesses);
    write(field::apic_access_address, apic_page);
    {
        Check check{"an-apic-access-page-that-is-the-real-one-lets-nothing-through"};
        const std::uint32_t before = second_arrivals();
        for (const std::uint32_t command : {init, start_at_8000h}) {
            start(virtualized, l2_send_command, apic_page, std::uint64_t{second_apic_identifier()} << 24);
            virtualized.registers.rcx = command;
            check.runs_to(virtualized, apic_access);
            check.equal("qualification", read(field::exit_qualification), command_high | linear_write);
            L2::skip_instruction();
            check.runs_to(virtualized, apic_access);
            check.equal("qualification", read(field::exit_qualification), command_low | linear_write);
        }
        start(virtualized, l2_version_and_priority, apic_page);
        check.runs_to(virtualized, apic_access);
        check.equal("qualification", read(field::exit_qualification), version);
        wait_ticks(50'000);
        check.equal("starts", second_arrivals() - before, 0);
        check.holds("the other processor works", do_on_second(second_works));
    }
    if (capabilities.primary.may_set(primary::use_tpr_shadow)) {
        Check check{"a-virtual-tpr-stands-in-the-real-apics-place"};
        Page* const virtual_apic = allocate_page();
        write(field::primary_processor_based_vm_execution_controls,
              read(field::primary_processor_based_vm_execution_controls) | primary::use_tpr_shadow);
        write(field::virtual_apic_address, physical(virtual_apic));
        write(field::tpr_threshold, 0);
        write(field::guest_rip, physical(l2_version_and_priority) + 3);
        virtualized.registers.rdi = apic_page;
        virtualized.registers.rbx = 0x50;
        check.runs_to(virtualized, reason::vmcall);
        check.equal("as L2 reads it", virtualized.registers.rdx, 0x50);
        check.equal("virtual TPR", virtual_apic->words[task_priority / 8] & 0xFFFFFFFF, 0x50);
        check.equal("real TPR", read_apic_register(task_priority), 0);
    }
    Check check{"another-l2-under-the-same-eptp-has-the-real-apic"};
    L2 other{usual_plan(0, hierarchy.pointer())};
    expect_registers(check, other, apic_page);
    expect_start_by(check, other, l2_send_command, apic_page);
}

bool try_write_base(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: wrmsr\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"
                 :
                 : "c"(0x1B), "a"(static_cast<std::uint32_t>(value)),
                   "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
    return !last_fault.taken;
}

// In xAPIC mode again, where an L0 may have the registers itself: what L2 reads comes from it too.
void check_behind_x2apic() {
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.map(free_window, apic_page, EptLevel::page_4k);
    hierarchy.map(apic_page, apic_page & ~std::uint64_t{0x1F'FFFF}, EptLevel::page_2m);
    struct Way {
        const char* name;
        const char* program;
        std::uint64_t page;
    };
    for (const auto& [name, program, page] :
         {Way{"behind-x2apic-mode-an-l2-has-the-apic", l2_send_command, free_window},
          Way{"behind-x2apic-mode-an-l2-has-the-apic-by-a-string", l2_send_by_string, apic_page},
          Way{"behind-x2apic-mode-an-l2-has-the-apic-by-an-exchange", l2_send_by_exchange, free_window},
          Way{"behind-x2apic-mode-an-l2-has-the-apic-by-a-read-and-write", l2_send_by_read_and_write,
              apic_page}}) {
        Check check{name};
        L2 l2{usual_plan(0, hierarchy.pointer())};
        expect_registers(check, l2, page);
        expect_start_by(check, l2, program, page);
    }
    {
        Check check{"behind-x2apic-mode-an-l2-with-the-apic-sends-interrupts"};
        L2 l2{usual_plan(0, hierarchy.pointer())};
        expect_interrupts(check, l2, free_window);
    }
    {
        Check check{"behind-x2apic-mode-the-timer-of-an-l2-counts"};
        L2 l2{usual_plan(0, hierarchy.pointer())};
        start(l2, l2_wait_for_timer, free_window);
        check.runs_to(l2, reason::vmcall);
        check.equal("current count", read_apic_register(0x390), 0);
    }
}

// Only with an L0: the emulator's own APIC does not come back from being disabled, and takes these writes for
// its own failure.
void check_modes_and_places() {
    const std::uint64_t base = read_msr(0x1B);
    {
        const PageScope scope;
        constexpr std::uint64_t elsewhere = 0xFED40000;
        Ept12 hierarchy;
        map_image(hierarchy);
        hierarchy.map(free_window, elsewhere, EptLevel::page_4k);
        hierarchy.map(free_window + page_size, apic_page, EptLevel::page_4k);
        L2 l2{usual_plan(0, hierarchy.pointer())};
        Check check{"an-l2-with-an-apic-that-l1-has-moved-starts-another-processor"};
        check.holds("moved", try_write_base((base & 0xFFF) | elsewhere));
        send_by(check, l2, l2_send_command, free_window + page_size, init);
        expect_start_by(check, l2, l2_send_command, free_window);
        check.holds("moved back", try_write_base(base));
        send_by(check, l2, l2_send_command, free_window, init);
        expect_start_by(check, l2, l2_send_command, free_window + page_size);
    }
    if ((cpuid(1).ecx >> 21 & 1) != 0) {
        const PageScope scope;
        VmcsPlan plan = usual_plan(0, usual_ept().pointer());
        plan.primary |= primary::use_msr_bitmaps;
        plan.msr_bitmaps = physical(allocate_page());
        L2 l2{plan};
        Check check{"an-l2-with-the-x2apic-registers-starts-another-processor"};
        check.holds("x2APIC mode", try_write_base(base | 1U << 10));
        expect_start_by(check, l2, l2_send_by_msr, 0);
        check.holds("disabled", try_write_base(base & ~std::uint64_t{3U << 10}));
        check.holds("xAPIC mode", try_write_base(base));
        start_local_apic();
    }
    if ((cpuid(1).ecx >> 21 & 1) != 0) check_behind_x2apic();
}

// What an L0 writes for its L1 into L1's memory reaches no processor as a command either.
void check_what_l0_writes() {
    const std::uint64_t second = std::uint64_t{second_apic_identifier()} << 24;
    const auto expect_nothing = [](Check& check, std::uint32_t before) {
        wait_ticks(50'000);
        check.equal("starts", second_arrivals() - before, 0);
        check.holds("the other processor works", do_on_second(second_works));
        write_apic_register(command_high, 0);
    };
    {
        Check check{"what-is-stored-by-vmx-instructions-into-the-apics-page-ends-no-processor"};
        const std::uint32_t before = second_arrivals();
        write_apic_register(command_high, static_cast<std::uint32_t>(second));
        L2 l2{usual_plan(0, usual_ept().pointer())};
        for (const std::uint32_t command : {init, start_at_8000h}) {
            write(field::guest_ia32_sysenter_esp, command);
            check.outcome("VMREAD",
                          try_vmread_to(field::guest_ia32_sysenter_esp.encoding,
                                        reinterpret_cast<void*>(apic_page + command_low)),
                          vm_succeed);
        }
        expect_nothing(check, before);
        write_apic_register(command_high, static_cast<std::uint32_t>(second));
        check.outcome("VMPTRST", try_vmptrst(reinterpret_cast<void*>(apic_page + command_low)), vm_succeed);
        expect_nothing(check, before);
    }
    if ((capabilities.ept_vpid >> 21 & 1) == 0) return;
    // An NMI to nobody, which as an entry of EPT12 is present; with the accessed flag it would be an INIT.
    constexpr std::uint32_t nmi_to_nobody = 0x4407;
    constexpr std::uint64_t nobody = 0x0EULL << 24;
    const PageScope scope;
    Check check{"flags-of-ept12-in-the-apics-page-send-nothing"};
    const std::uint32_t before = second_arrivals();
    write_apic_register(command_high, static_cast<std::uint32_t>(nobody));
    write_apic_register(command_low, nmi_to_nobody);
    write_apic_register(command_high, static_cast<std::uint32_t>(second));
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.entry(free_window, EptLevel::page_2m) = apic_page | ept::all_rights;
    constexpr std::uint64_t enable_accessed_and_dirty = 1U << 6;
    L2 l2{usual_plan(0, hierarchy.pointer() | enable_accessed_and_dirty)};
    start(l2, l2_load, free_window + command_low / 8 * page_size);
    const std::uint32_t left = l2.run();
    check.holds("L2 reads there or exits", left == reason::vmcall || left == reason::ept_violation ||
                                               left == reason::ept_misconfiguration);
    expect_nothing(check, before);
}

// INIT of an L2's for the very processor it runs on is that L2's exit.
void check_init_to_itself() {
    const PageScope scope;
    Check check{"an-init-that-an-l2-sends-to-its-own-processor-exits"};
    L2 l2{usual_plan(0, usual_ept().pointer())};
    start(l2, l2_send_command, apic_page, read_apic_register(0x20));
    l2.registers.rcx = init;
    check.runs_to(l2, reason::init_signal);
    check.equal("RIP", read(field::guest_rip), physical(l2_send_command) + 12);
    check.runs_to(l2, reason::vmcall);
}

// By an instruction that is neither MOV nor XCHG.
void check_l1_by_string() {
    Check check{"l1-starts-another-processor-by-a-string"};
    expect_start(check, [](std::uint32_t command) {
        auto* to = reinterpret_cast<std::uint32_t*>(apic_page + command_high);
        asm volatile("stosl" : "+D"(to) : "a"(second_apic_identifier() << 24) : "memory");
        to = reinterpret_cast<std::uint32_t*>(apic_page + command_low);
        std::uint64_t count = 1;
        asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(command) : "memory");
    });
}

}  // namespace

void check_apic_of_l2() {
    const RuleScope rule{
        {"3A 9.4.4", "INIT and SIPI of a guest with the local APIC are as its hypervisor's"}};
    if (!start_second_processor()) {
        report_text("bare_l1.not_offered", "a second processor");
        return;
    }
    check_l1_by_string();
    if (capabilities.secondary.may_set(secondary::enable_ept)) {
        check_through_ept12();
        check_interrupts_of_l2();
        check_in_real_mode();
        check_apic_access_page();
    }
    check_without_ept12();
    if (!under_flatback()) return;
    check_modes_and_places();
    check_what_l0_writes();
    check_init_to_itself();
}

}  // namespace flatback::guests
