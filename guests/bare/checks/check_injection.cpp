// Events that L1 injects with a VM entry: SDM 3C 27.6.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t valid = 1U << 31;
constexpr std::uint32_t with_error_code = 1U << 11;
enum class Type : std::uint32_t {
    external = 0,
    nmi = 2,
    hardware = 3,
    software_interrupt = 4,
    privileged = 5,
    software = 6
};

constexpr std::uint32_t event(Type type, std::uint32_t vector) {
    return valid | static_cast<std::uint32_t>(type) << 8 | vector;
}

void inject(std::uint32_t information, std::uint32_t error_code = 0, std::uint32_t length = 0) {
    write(field::vm_entry_interruption_information, information);
    write(field::vm_entry_exception_error_code, error_code);
    write(field::vm_entry_instruction_length, length);
}

constexpr std::uint64_t interrupts_on = 0x202;

class Injection final {
public:
    Injection() : l2_{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())} { reset(); }

    void reset() {
        use_l2_idt(stack_top_);
        write(field::guest_rip, physical(l2_cpuid_loop));
        write(field::guest_rflags, interrupts_on);
        write(field::guest_interruptibility_state, 0);
        write(field::guest_activity_state, 0);
        write(field::idt_vectoring_information, 0);
    }

    // The event arrives in L2's IDT before any instruction of L2, and L1's injection is used up.
    void arrives(std::string_view name, std::uint32_t information, std::uint32_t error_code,
                 std::uint32_t length) {
        reset();
        inject(information, error_code, length);
        Check check{name};
        check.runs_to(l2_, reason::vmcall);
        const L2Frame frame = l2_frame(l2_);
        check.equal("vector", frame.vector, information & 0xFF);
        check.equal("error code", frame.error_code, error_code);
        check.equal("pushed RIP", frame.rip, physical(l2_cpuid_loop) + length);
        check.equal("pushed RFLAGS but RF", frame.rflags & ~0x10000ULL, interrupts_on);
        check.equal("pushed RSP", frame.rsp, stack_top_);
        check.equal("RFLAGS.IF", read(field::guest_rflags) & 0x200, 0);
        check.equal("valid bit after the exit", read(field::vm_entry_interruption_information) & valid, 0);
        check.equal("IDT-vectoring", read(field::idt_vectoring_information) & valid, 0);
    }

    L2& l2() { return l2_; }
    std::uint64_t stack_top() const { return stack_top_; }

private:
    std::uint64_t stack_top_ = physical(allocate_page()) + page_size - 64;
    L2 l2_;
};

void check_arrivals(Injection& injection) {
    const RuleScope rule{{"3C 27.6.1", "an injected event is delivered by the guest's IDT"}};
    injection.arrives("an-injected-external-interrupt-arrives-before-l2s-first-instruction",
                      event(Type::external, 0x60), 0, 0);
    injection.arrives("an-injected-undefined-opcode-arrives", event(Type::hardware, 6), 0, 0);
    injection.arrives("an-injected-general-protection-fault-arrives-with-its-error-code",
                      event(Type::hardware, 13) | with_error_code, 0x1238, 0);
    injection.arrives("an-injected-software-interrupt-returns-behind-its-instruction",
                      event(Type::software_interrupt, 0x80), 0, 2);
    injection.arrives("an-injected-breakpoint-returns-behind-its-instruction", event(Type::software, 3), 0,
                      1);
    injection.arrives("an-injected-nmi-arrives", event(Type::nmi, 2), 0, 0);
}

void check_cr2(Injection& injection) {
    const RuleScope rule{{"3C 27.6.1", "the injection of a page fault does not write CR2"}};
    injection.reset();
    Check check{"an-injected-page-fault-arrives-and-cr2-is-as-l1-left-it"};
    asm volatile("movq %0, %%cr2" : : "r"(0x4567ULL));
    inject(event(Type::hardware, 14) | with_error_code, 6);
    check.runs_to(injection.l2(), reason::vmcall);
    check.equal("vector", l2_frame(injection.l2()).vector, 14);
    check.equal("error code", l2_frame(injection.l2()).error_code, 6);
    check.equal("CR2", read_cr2(), 0x4567);
}

// An injected exception never exits by the exception bitmap; one that its delivery causes does. SDM
// 3C 27.6.2.
void check_bitmap_is_ignored(Injection& injection) {
    const RuleScope rule{
        {"3C 27.6.1.2",
         "an injected event does not exit by the exception bitmap; a fault in its delivery may"}};
    injection.reset();
    {
        Check check{"an-injected-exception-does-not-exit-by-the-exception-bitmap"};
        write(field::exception_bitmap, 0xFFFFFFFF);
        inject(event(Type::hardware, 6));
        check.runs_to(injection.l2(), reason::vmcall);
        check.equal("vector", l2_frame(injection.l2()).vector, 6);
    }
    injection.reset();
    {
        Check check{"a-fault-in-delivering-an-injected-event-exits-with-idt-vectoring-information"};
        write(field::guest_idtr_limit, 0x60 * 16 - 1);
        inject(event(Type::external, 0x60));
        check.runs_to(injection.l2(), reason::exception_or_nmi);
        check.equal("interruption information", read(field::vm_exit_interruption_information), 0x80000B0D);
        // SDM 3A 6.13: EXT, IDT, and the vector's index.
        check.equal("error code", read(field::vm_exit_interruption_error_code), 0x60 << 3 | 3);
        check.equal("IDT-vectoring information", read(field::idt_vectoring_information),
                    event(Type::external, 0x60));
        check.equal("RIP", read(field::guest_rip), physical(l2_cpuid_loop));
    }
    write(field::exception_bitmap, 0);
}

void check_ept_violation_in_delivery(Injection& injection) {
    const RuleScope rule{
        {"3C 28.2.4", "an exit during delivery records the event as IDT-vectoring information"}};
    injection.reset();
    Ept12 hierarchy;
    hierarchy.map_identity(image_window().begin, image_window().end, EptLevel::page_2m);
    hierarchy.map(read(field::guest_idtr_base) & ~(large_page_size - 1), 0, EptLevel::page_2m, 0);
    const std::uint64_t idt = l2_idt();
    const std::uint64_t first = idt & ~(large_page_size - 1);
    for (std::uint64_t at = first; at < first + large_page_size; at += page_size) {
        if (at != idt) hierarchy.map(at, at, EptLevel::page_4k);
    }
    write(field::ept_pointer, hierarchy.pointer());
    Check check{"an-ept-violation-in-delivering-an-injected-event-exits-with-idt-vectoring-information"};
    inject(event(Type::hardware, 13) | with_error_code, 0x28);
    check.runs_to(injection.l2(), reason::ept_violation);
    check.equal("guest-physical address", read(field::guest_physical_address), idt + 13 * 16);
    check.equal("IDT-vectoring information", read(field::idt_vectoring_information),
                event(Type::hardware, 13) | with_error_code);
    check.equal("IDT-vectoring error code", read(field::idt_vectoring_error_code), 0x28);
    // As a hypervisor does: mend, inject again.
    hierarchy.map(idt, idt, EptLevel::page_4k);
    inject(read(field::idt_vectoring_information), read(field::idt_vectoring_error_code));
    check.runs_to(injection.l2(), reason::vmcall);
    check.equal("vector", l2_frame(injection.l2()).vector, 13);
    check.equal("error code", l2_frame(injection.l2()).error_code, 0x28);
    write(field::ept_pointer, usual_ept().pointer());
}

void check_nmi_blocking(Injection& injection) {
    const RuleScope rule{{"3C 27.6.1.1", "an injected NMI blocks NMIs until IRET"}};
    if (!capabilities.pin.may_set(pin::nmi_exiting | pin::virtual_nmis)) {
        report_not_offered("virtual NMIs");
        return;
    }
    injection.reset();
    const auto before = read(field::pin_based_vm_execution_controls);
    write(field::pin_based_vm_execution_controls, before | pin::nmi_exiting | pin::virtual_nmis);
    Check check{"an-injected-nmi-blocks-virtual-nmis-until-iret"};
    inject(event(Type::nmi, 2));
    check.runs_to(injection.l2(), reason::vmcall);
    check.equal("blocking by NMI", read(field::guest_interruptibility_state) & 8, 8);
    return_from_l2_event(l2_frame(injection.l2()));
    check.runs_to(injection.l2(), reason::cpuid);
    check.equal("blocking by NMI after IRET", read(field::guest_interruptibility_state) & 8, 0);
    write(field::pin_based_vm_execution_controls, before);
}

void check_failed_entry_keeps_event(Injection& injection) {
    const RuleScope rule{{"3C 27.8", "a failed entry leaves the event to inject as it is"}};
    injection.reset();
    Check check{"an-event-of-a-failed-entry-is-still-there-for-the-next"};
    inject(event(Type::external, 0x61));
    write(field::cr3_target_count, 5);
    check.outcome("VMRESUME", try_enter(false), vm_fail_valid(7));
    check.equal("information", read(field::vm_entry_interruption_information), event(Type::external, 0x61));
    write(field::cr3_target_count, 0);
    check.runs_to(injection.l2(), reason::vmcall);
    check.equal("vector", l2_frame(injection.l2()).vector, 0x61);
}

}  // namespace

void check_injection() {
    const PageScope scope;
    Injection injection;
    check_arrivals(injection);
    check_cr2(injection);
    check_bitmap_is_ignored(injection);
    if (capabilities.secondary.may_set(secondary::enable_ept)) check_ept_violation_in_delivery(injection);
    check_nmi_blocking(injection);
    check_failed_entry_keeps_event(injection);
}

}  // namespace flatback::guests
