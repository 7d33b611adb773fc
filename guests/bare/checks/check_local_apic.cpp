// The local APIC's modes: IA32_APIC_BASE, the page, the x2APIC registers. SDM 3A 11.4, 11.12.

#include <array>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint64_t x2apic_enable = 1U << 10;
constexpr std::uint64_t global_enable = 1U << 11;
constexpr std::uint64_t both = global_enable | x2apic_enable;
constexpr std::uint64_t default_page = 0xFEE00000;
constexpr std::uint32_t version = 0x30;
constexpr std::uint32_t task_priority = 0x80;
constexpr std::uint8_t vector = 0x61;

std::uint32_t page_register(std::uint64_t page, std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(page + offset);
}

bool try_write_base(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: wrmsr\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"
                 :
                 : "c"(msr_apic_base), "a"(static_cast<std::uint32_t>(value)),
                   "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
    return !last_fault.taken;
}
bool try_read_x2apic(std::uint32_t msr) {
    last_fault.taken = false;
    asm volatile("1: rdmsr\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"
                 :
                 : "c"(msr)
                 : "eax", "edx", "memory");
    return !last_fault.taken;
}

void* in_page(std::uint32_t offset) {
    return reinterpret_cast<void*>(default_page + offset);
}

void let_interrupts_in() {
    asm volatile("sti; nop; nop; cli" ::: "memory");
}

// What belongs to a mode, seen from outside.
void expect_mode(Check& check, std::uint64_t base, std::uint32_t page_version) {
    const std::uint64_t mode = base & both;
    check.equal("IA32_APIC_BASE", read_msr(msr_apic_base), base);
    check.equal("version in the page", page_register(default_page, version),
                mode == global_enable ? page_version : 0xFFFFFFFF);
    if (mode != global_enable) {
        *reinterpret_cast<volatile std::uint32_t*>(default_page + version) = 0;
        check.equal("the same after a write", page_register(default_page, version), 0xFFFFFFFF);
    }
    check.equal("CPUID.01H:EDX.APIC", cpuid(1).edx >> 9 & 1, mode == 0 ? 0 : 1);
    check.equal("x2APIC registers are there", try_read_x2apic(0x803) ? 1 : 0, mode == both ? 1 : 0);
}

void expect_refused(Check& check, std::uint64_t value) {
    const std::uint64_t before = read_msr(msr_apic_base);
    check.holds("#GP", !try_write_base(value) && last_fault.vector == vector_general_protection);
    check.equal("IA32_APIC_BASE afterwards", read_msr(msr_apic_base), before);
}

volatile std::uint32_t& in_page_register(std::uint32_t offset) {
    return *static_cast<volatile std::uint32_t*>(in_page(offset));
}

// In xAPIC mode once more, where an L0 may have no page to give: every instruction has its effect, once.
void check_accesses() {
    Check check{"every-kind-of-instruction-reaches-the-registers-of-a-local-apic-enabled-again"};
    const auto priority = [] { return page_register(default_page, task_priority); };
    auto& tpr = in_page_register(task_priority);
    tpr = 0x20;
    check.equal("MOV", priority(), 0x20);
    std::uint64_t cr8 = 0;
    asm volatile("movq %%cr8, %0" : "=r"(cr8));
    check.equal("CR8", cr8, 2);
    asm volatile("lock orl $0x10, %0" : "+m"(tpr));
    check.equal("OR", priority(), 0x30);
    asm volatile("andl $0x10, %0" : "+m"(tpr));
    check.equal("AND", priority(), 0x10);
    asm volatile("addl $0x20, %0" : "+m"(tpr));
    check.equal("ADD", priority(), 0x30);
    std::uint32_t other = 0x40;
    asm volatile("xchgl %0, %1" : "+r"(other), "+m"(tpr));
    check.equal("what XCHG found", other, 0x30);
    check.equal("XCHG", priority(), 0x40);
    bool equal = false;
    other = 0x40;
    asm volatile("lock cmpxchgl %3, %1" : "=@ccz"(equal), "+m"(tpr), "+a"(other) : "r"(0x50));
    check.holds("CMPXCHG takes place", equal);
    check.equal("CMPXCHG", priority(), 0x50);
    asm volatile("cmpl $0x50, %1" : "=@ccz"(equal) : "m"(tpr));
    check.holds("CMP", equal);
    std::uint32_t copy = 0;
    const void* from = in_page(task_priority);
    void* to = &copy;
    asm volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
    check.equal("MOVS out of it", copy, 0x50);
    copy = 0x60;
    from = &copy;
    to = in_page(task_priority);
    asm volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
    check.equal("MOVS into it", priority(), 0x60);
    constexpr std::uint32_t error_entry = 0x370;
    from = in_page(task_priority);
    to = in_page(error_entry);
    asm volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
    check.equal("MOVS from one to another", page_register(default_page, error_entry), 0x60);
    in_page_register(error_entry) = 0x10000;
    tpr = 0;
    in_page_register(version) = 0;
    check.holds("the version cannot be written", page_register(default_page, version) != 0);
}

// A MOV that ends with the page that it lies in, one that goes on in the next, and those before them: each
// once more with other bytes behind the page's end, and again.
void check_stores_around_the_end_of_a_page() {
    Check check{"a-store-to-a-local-apic-enabled-again-may-lie-on-two-pages"};
    constexpr std::uint32_t initial_count = 0x380;  // of a timer that is masked
    alignas(page_size) static std::array<std::uint8_t, 2 * page_size> code;
    for (std::size_t before = 1; before <= 16; ++before) {
        std::uint8_t* const at = code.data() + page_size - before;
        const auto store = reinterpret_cast<void (*)(volatile std::uint32_t*)>(at);
        for (const std::uint32_t value : {0x04030201U, 0x14131201U, 0x14030201U, 0x04030201U}) {
            at[0] = 0xC7;  // MOV DWORD PTR [RDI], value; RET
            at[1] = 0x07;
            for (unsigned byte = 0; byte < 4; ++byte)
                at[2 + byte] = static_cast<std::uint8_t>(value >> 8 * byte);
            at[6] = 0xC3;
            for (unsigned time = 0; time < 2; ++time) {
                in_page_register(initial_count) = 0;
                store(&in_page_register(initial_count));
                check.equal("what was stored", page_register(default_page, initial_count), value);
            }
        }
    }
    in_page_register(initial_count) = 0;
}

void check_timer() {
    Check check{"the-timer-of-a-local-apic-enabled-again-counts-and-ends"};
    constexpr std::uint32_t entry = 0x320;
    constexpr std::uint32_t initial_count = 0x380;
    constexpr std::uint32_t current_count = 0x390;
    constexpr std::uint32_t divide_configuration = 0x3E0;
    in_page_register(divide_configuration) = 0xB;
    in_page_register(entry) = vector;
    const std::uint64_t before = interrupt_count[vector];
    in_page_register(initial_count) = 100'000;
    const std::uint32_t first = page_register(default_page, current_count);
    const std::uint32_t second = page_register(default_page, current_count);
    check.holds("it counts", first < 100'000 && second <= first && second != 0);
    const std::uint64_t start = read_tsc();
    asm volatile("sti" ::: "memory");
    while (interrupt_count[vector] == before && read_tsc() - start < 100'000'000) asm volatile("pause");
    asm volatile("cli" ::: "memory");
    check.equal("interrupts", interrupt_count[vector], before + 1);
    check.equal("current count", page_register(default_page, current_count), 0);
    in_page_register(entry) = 0x10000;
}

void check_logical_destination() {
    Check check{"a-local-apic-enabled-again-has-the-logical-destination-that-it-is-given"};
    constexpr std::uint32_t logical_destination = 0xD0;
    constexpr std::uint32_t command_low = 0x300;
    constexpr std::uint32_t command_high = 0x310;
    constexpr std::uint32_t lowest_priority = 1U << 8;
    const auto got = [](std::uint32_t destination, std::uint32_t bits) {
        const std::uint64_t before = interrupt_count[vector];
        in_page_register(command_high) = destination << 24;
        in_page_register(command_low) = 0x4800U | bits | vector;
        let_interrupts_in();
        return interrupt_count[vector] - before;
    };
    // One bit: with 42H, which the SDM allows, KVM delivers nothing to 40H.
    in_page_register(logical_destination) = 0x40U << 24;
    check.equal("logical destination", page_register(default_page, logical_destination), 0x40U << 24);
    check.equal("to it", got(0x40, 0), 1);
    check.equal("command", page_register(default_page, command_high), 0x40U << 24);
    check.equal("by lowest priority", got(0x42, lowest_priority), 1);
    check.equal("to all", got(0xFF, 0), 1);
    check.equal("to another", got(0x81, 0), 0);
    in_page_register(logical_destination) = 0;
    check.equal("to none", got(0x01, 0), 0);
}

}  // namespace

void check_local_apic() {
    const RuleScope rule{{"3A 11.4, 11.12", "the local APIC's modes by IA32_APIC_BASE"}};
    const Deviation one_way{"IA32_APIC_BASE.EN, once 0, is 0 until reset", Deviation::Seen::panic};
    if (shows(one_way)) {
        report_deviation("local-apic-modes", one_way);
        return;
    }
    if ((cpuid(1).ecx >> 21 & 1) == 0) return report_not_offered("x2apic");
    const std::uint64_t start = read_msr(msr_apic_base);
    const std::uint64_t disabled = start & ~both;
    const std::uint64_t xapic = disabled | global_enable;
    const std::uint64_t x2apic = disabled | both;
    const std::uint32_t page_version = page_register(default_page, version);
    count_interrupts(vector);
    {
        Check check{"every-legal-transition-of-the-local-apic-is-taken"};
        for (const std::uint64_t base : {xapic, x2apic, x2apic, disabled, disabled, xapic, disabled, xapic}) {
            check.holds("taken", try_write_base(base));
            expect_mode(check, base, page_version);
        }
    }
    {
        Check check{"every-other-transition-of-the-local-apic-is-a-general-protection-fault"};
        expect_refused(check, disabled | x2apic_enable);
        try_write_base(x2apic);
        expect_refused(check, xapic);
        expect_refused(check, disabled | x2apic_enable);
        try_write_base(disabled);
        expect_refused(check, x2apic);
        expect_refused(check, disabled | x2apic_enable);
        try_write_base(xapic);
    }
    {
        Check check{"x2apic-mode-takes-over-the-state-and-sends-interrupts"};
        start_local_apic();
        *reinterpret_cast<volatile std::uint32_t*>(default_page + task_priority) = 0x20;
        try_write_base(x2apic);
        use_x2apic(true);
        check.equal("TPR", read_msr(0x808), 0x20);
        check.equal("spurious vector", read_msr(0x80F), 0x1FF);
        const std::uint64_t id = read_msr(0x802);
        check.equal("logical ID", read_msr(0x80D), (id & 0xFFFF0) << 12 | 1U << (id & 15));
        const std::uint64_t before = interrupt_count[vector];
        write_msr(0x83F, vector);
        check.equal("requested", read_msr(0x823) >> (vector - 0x60) & 1, 1);
        let_interrupts_in();
        check.equal("delivered by self IPI", interrupt_count[vector], before + 1);
        write_msr(0x830, id << 32 | 0x4000 | vector);
        let_interrupts_in();
        check.equal("delivered by the command register", interrupt_count[vector], before + 2);
        check.equal("in service after EOI", read_msr(0x813), 0);
        write_msr(0x83F, vector);
        use_x2apic(false);
    }
    {
        Check check{"a-local-apic-enabled-again-is-as-after-reset-and-works"};
        try_write_base(disabled);
        try_write_base(xapic);
        check.equal("TPR", page_register(default_page, task_priority), 0);
        check.equal("spurious vector", page_register(default_page, 0xF0), 0xFF);
        check.equal("logical destination", page_register(default_page, 0xD0), 0);
        check.equal("destination format", page_register(default_page, 0xE0), 0xFFFFFFFF);
        for (const std::uint32_t entry : {0x320U, 0x350U, 0x360U, 0x370U})
            check.equal("local vector table", page_register(default_page, entry), 0x10000);
        check.holds("nothing is requested", !interrupt_requested(vector));
        start_local_apic();
        const std::uint64_t before = interrupt_count[vector];
        send_self_interrupt(vector);
        let_interrupts_in();
        check.equal("delivered", interrupt_count[vector], before + 1);
    }
    check_accesses();
    check_stores_around_the_end_of_a_page();
    check_timer();
    check_logical_destination();
    {
        Check check{"operands-of-vmx-instructions-find-no-local-apic-where-it-has-no-page"};
        L2 l2{usual_plan(0, usual_ept().pointer())};
        try_write_base(x2apic);
        const std::uint64_t priority = read_msr(0x808);
        for (const std::uint64_t base : {x2apic, disabled}) {
            try_write_base(base);
            check.outcome("VMWRITE",
                          try_vmwrite_from(field::guest_ia32_sysenter_esp.encoding, in_page(version)),
                          vm_succeed);
            // What is there where there is nothing is the machine's affair, and with Flatback ones.
            const std::uint64_t found = read(field::guest_ia32_sysenter_esp);
            check.holds("it read no APIC's version", static_cast<std::uint32_t>(found) != page_version);
            if (under_flatback()) check.equal("what it read", found, ~std::uint64_t{0});
            check.outcome("VMPTRST", try_vmptrst(in_page(task_priority)), vm_succeed);
            if (base == x2apic) check.equal("TPR", read_msr(0x808), priority);
            try_write_base(disabled);
        }
        try_write_base(xapic);
    }
    {
        Check check{"the-local-apic-page-can-be-moved"};
        constexpr std::uint64_t elsewhere = 0xFED40000;
        check.holds("taken", try_write_base((xapic & 0xFFF) | elsewhere));
        check.equal("version there", page_register(elsewhere, version), page_version);
        check.equal("version in the old place", page_register(default_page, version), 0xFFFFFFFF);
        check.holds("taken", try_write_base(xapic));
        check.equal("version", page_register(default_page, version), page_version);
    }
    try_write_base(start);
    start_local_apic();
}

}  // namespace flatback::guests
