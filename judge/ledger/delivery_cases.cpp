// Events on their way through the IDT of L1 or L2: what L0 does in the midst of it, what L1 is shown of it,
// two exceptions at once, and the way back by IRETQ.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "machine/program/handlers.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;
using handlers::GateType;

constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t nowhere = 0x7000'0000;  // no structure maps it
constexpr std::uint64_t not_canonical = std::uint64_t{1} << 47;
constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t pin_default1 = 0x16;  // SDM 3D A.3.1
constexpr std::uint64_t nmis_exit = pin_default1 | vmx::pin::nmi_exiting;
constexpr std::uint64_t virtual_nmis = nmis_exit | vmx::pin::virtual_nmis;
constexpr std::uint64_t interrupts_on = x86::rflags::fixed_one | x86::rflags::interrupt_enable;
constexpr std::uint64_t stack = handlers::stack - 8;

struct Form {
    bool ept = true;
    std::uint64_t pin = pin_default1;
    std::uint64_t without = 0;  // the page of the handlers that EPT12 does not map
    bool l1_has_handlers = true;
};

/// An L2 with an IDT, not launched yet; L1 gets one by its first exit.
Scenario world(const Form& form = {}) {
    Scenario say;
    handlers::put_all(say);
    say.map(1, page_a, layout::data_page(0)).ept_map(0, layout::data_page(0), layout::data_page(0));
    for (const std::uint64_t page : handlers::pages) {
        say.map(1, page, page);
        if (page != form.without) say.ept_map(0, page, page);
    }
    Guest guest{.vpid = 1, .ept = {}, .tables = 1};
    if (form.ept) guest.ept = 0;
    say.l1().vmxon().prepare(vmcs, guest);
    say.vmwrite(field::pin_based_vm_execution_controls, form.pin);
    say.vmwrite(field::guest_idtr_limit, handlers::idt_limit)
        .vmwrite(field::guest_gdtr_limit, handlers::gdt_limit);
    handlers::give_l2(say, handlers::idt, stack);
    if (form.l1_has_handlers) handlers::give_l1(say, stack - 0x400);
    return say;
}

/// What L1 reads of an exit. Error codes and lengths only where they are given.
Scenario& read_exit(Scenario& say) {
    say.l1().vmread(field::exit_reason).vmread(field::idt_vectoring_information);
    say.vmread(field::vm_exit_interruption_information).vmread(field::vm_entry_interruption_information);
    say.vmread(field::guest_rip).vmread(field::guest_rsp).vmread(field::guest_rflags);
    return say.vmread(field::guest_interruptibility_state);
}

/// L0's structures for L2 are empty again, so that the next delivery is interrupted.
Scenario& cold(Scenario& say) {
    return say.l2().vmcall().l1().invept(2, 0).vmresume().l2();
}

class Cases {
public:
    Cases() {
        in_l1();
        in_l2();
        from_outside();
        injected();
        with_a_page_that_l1_withholds();
        two_exceptions();
        levels_and_stacks();
        without_ept();
        returning();
    }
    std::vector<LedgerCase> all;

private:
    void add(const std::string& name, const Scenario& say, bool of_interrupts = false) {
        all.push_back({0, name, {}, say.program(), std::nullopt});
        NestedWorld::Options without;
        without.shadow_vmcs = false;
        all.push_back({0, name + "WithoutShadowVmcs", without, say.program(), std::nullopt});
        for (std::uint64_t seed = 1; seed <= 6; ++seed) {
            NestedWorld::Options host;
            host.random_host = seed;
            host.saves_states = seed % 2 == 0;
            all.push_back({0, name + "UnderHost" + std::to_string(seed), host, say.program(), std::nullopt});
        }
        if (!of_interrupts) return;
        using Interrupts = NestedWorld::Options::Interrupts;
        for (const auto who : {Interrupts::l0_acknowledges_as_they_go_in, Interrupts::l0_knows_the_vector}) {
            NestedWorld::Options host;
            host.interrupts = who;
            const bool late = who == Interrupts::l0_acknowledges_as_they_go_in;
            all.push_back({0, name + (late ? "ThatL0Acknowledges" : "OfAVectorThatL0Knows"), host,
                           say.program(), std::nullopt});
        }
    }

    void in_l1() {
        {
            Scenario say = world();
            // L0 gives L1 a #GP for the RDMSR, the processor the others.
            say.vmlaunch()
                .l2()
                .vmcall()
                .l1()
                .ud2()
                .iretq()
                .rdmsr(0x12345)
                .cpuid()
                .int_n(0x40)
                .cpuid()
                .iretq();
            say.load(nowhere).mov_from_cr0().store(nowhere, 1).lidt(handlers::idt, 0xFFF).nop().wbinvd();
            say.mov_to_cr4(0x20).mov_to_cr0(1).vmwrite(field::guest_rsp, stack).vmresume().l2().vmcall();
            read_exit(say);
            add("AnL1HasItsFaultsByItsIdt", say);
        }
        {
            Scenario say = world();
            say.vmlaunch().l2().vmcall().l0().nmi().l1().nop().iretq().sti().nop().l0().interrupt(0x40);
            say.l1().cpuid().l0().eoi().l1().iretq().nop().l0().nmi_at_next_exit().l1().cpuid().iretq();
            say.l0().interrupt_at_next_exit(0x50).l1().cpuid().nop().hlt().l0().interrupt(0x60).l1().iretq();
            add("AnL1HasItsNmisAndInterruptsByItsIdt", say, true);
        }
        for (const unsigned bad : {13U, 8U}) {
            Scenario say = world();
            handlers::put_gate(say, 13, {.present = false});
            handlers::put_gate(say, bad, {.present = false});
            say.l1().vmlaunch().l2().vmcall().l1().rdmsr(0x12345).cpuid().nop().load(not_canonical).cpuid();
            say.iretq().ud2();
            add(bad == 8 ? "AnL1IsShutDownByThreeFaults" : "AnL1HasADoubleFault", say);
        }
    }

    void in_l2() {
        Scenario say = world();
        say.vmlaunch().l2();
        cold(say).ud2().iretq().nop();
        cold(say).int_n(0x40).iretq().int_n(0x50);
        cold(say).load(nowhere).iretq();
        cold(say).store(nowhere, 7);
        cold(say).load(not_canonical).int_n(0x41).iretq();
        cold(say).mov_to_ss().ud2().sti().int_n(0x30).iretq().cli();
        cold(say).wbinvd().lidt(handlers::idt, 0x2FF).int_n(0x2F).int_n(0x30).vmcall();
        read_exit(say).vmresume().l2().ud2().vmcall();
        read_exit(say);
        add("AnL2HasItsFaultsByItsIdt", say);
    }

    void from_outside() {
        for (const std::uint64_t pin : {pin_default1, nmis_exit, virtual_nmis}) {
            Scenario say = world({.pin = pin});
            say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch().l2();
            cold(say).l0().interrupt(0x40).l2().nop().l0().eoi().l2().iretq().nop();
            cold(say).l0().nmi().l2().nop().iretq().l1().iretq().vmresume().l2();
            cold(say).l0().nmi_at_next_exit().l2().load(page_a).load(page_a).iretq().l1().iretq().vmresume();
            say.l2();
            cold(say)
                .l0()
                .interrupt_at_next_exit(0x50)
                .l2()
                .load(page_a)
                .nop()
                .l0()
                .eoi()
                .l2()
                .iretq()
                .vmcall();
            read_exit(say).iretq();
            const std::string name = pin == pin_default1 ? "ByItsIdt"
                                     : pin == nmis_exit  ? "WhereNmisExit"
                                                         : "WithVirtualNmis";
            add("AnL2HasNmisAndInterrupts" + name, say, true);
        }
        {
            // Halted, it is woken in the midst of a delivery that L0 interrupts.
            Scenario say = world();
            say.vmwrite(field::primary_processor_based_vm_execution_controls, 0x8400'6172);
            say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch().l2();
            cold(say).hlt().l0().interrupt(0x40).l2().nop().iretq();
            cold(say).hlt().l0().nmi().l2().nop().iretq().vmcall();
            read_exit(say);
            add("AnL2IsWokenByItsIdt", say, true);
        }
        {
            Scenario say = world({.pin = pin_default1 | vmx::pin::external_interrupt_exiting});
            say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch().l2();
            cold(say).l0().interrupt(0x40);
            read_exit(say)
                .vmwrite(field::vm_entry_interruption_information, 0x8000'0040)
                .invept(2, 0)
                .vmresume();
            say.l0().eoi().l2().iretq().vmcall();
            read_exit(say);
            add("AnL1GivesAnInterruptOn", say, true);
        }
    }

    void injected() {
        for (const std::uint64_t pin : {pin_default1, virtual_nmis}) {
            Scenario say = world({.pin = pin});
            say.vmwrite(field::guest_rflags, interrupts_on).vmwrite(field::vm_entry_exception_error_code, 4);
            say.vmwrite(field::vm_entry_instruction_length, 3).vmlaunch();
            for (const std::uint64_t event : {0x8000'0306U, 0x8000'0B0EU, 0x8000'0202U, 0x8000'0040U,
                                              0x8000'0450U, 0x8000'0603U, 0x8000'0501U}) {
                say.l2().vmcall().l1().invept(2, 0).vmwrite(field::vm_entry_interruption_information, event);
                say.vmresume().l2().nop().iretq();
            }
            say.vmcall();
            read_exit(say);
            add(pin == pin_default1 ? "WhatL1InjectsIsBegunAgain"
                                    : "WhatL1InjectsIsBegunAgainWithVirtualNmis",
                say);
        }
        {
            // At the first entry, and where the entry fails behind an MSR list.
            Scenario say = world();
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0306).vmlaunch().vmlaunch();
            say.l2().iretq().vmcall();
            read_exit(say).vmlaunch().vmresume().l2().vmcall();
            add("AnEntryThatInjectsIsMadeOnce", say);
        }
    }

    void with_a_page_that_l1_withholds() {
        for (const std::uint64_t page : {handlers::idt, handlers::gdt, handlers::stacks}) {
            Scenario say = world({.without = page});
            say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch();
            const auto gets_it_again = [&](std::uint64_t event) {
                read_exit(say).vmread(field::guest_linear_address).vmread(field::guest_physical_address);
                // Not yet; then with the page; then it is gone again.
                say.vmwrite(field::guest_interruptibility_state, 0);
                say.vmwrite(field::vm_entry_interruption_information, event).vmresume();
                read_exit(say).vmwrite(field::guest_interruptibility_state, 0);
                say.edit().ept_map(0, page, page).l1().invept(2, 0);
                say.vmwrite(field::vm_entry_interruption_information, event).vmresume().l2().nop().iretq();
                say.vmcall().edit().ept_unmap(0, page).l1().invept(2, 0);
                // (The handler of an error code left that on its stack.)
                say.vmwrite(field::guest_rflags, interrupts_on).vmwrite(field::guest_rsp, stack).vmresume();
                say.l2();
            };
            say.l2().ud2();
            gets_it_again(0x8000'0306);
            say.load(nowhere).l1().vmread(field::idt_vectoring_error_code);
            say.vmwrite(field::vm_entry_exception_error_code, 0);
            gets_it_again(0x8000'0B0E);
            say.int_n(0x40).l1().vmread(field::vm_exit_instruction_length);
            say.vmwrite(field::vm_entry_instruction_length, 2);
            gets_it_again(0x8000'0440);
            say.l0().nmi();
            gets_it_again(0x8000'0202);
            say.l0().interrupt(0x50);
            gets_it_again(0x8000'0050);
            const char* const name = page == handlers::idt ? "Idt" : page == handlers::gdt ? "Gdt" : "Stack";
            add(std::string("AnL1WithholdsThePageOfThe") + name, say, true);
        }
    }

    void two_exceptions() {
        // Which of the two exits, or what comes of them, by L1's exception bitmap.
        for (const std::uint64_t bitmap :
             {0ULL, 1ULL << 8, 1ULL << 11, 1ULL << 13, 1ULL << 14, 1ULL << 6, 1ULL << 8 | 1ULL << 14}) {
            for (const bool double_fault_works : {true, false}) {
                Scenario say = world();
                handlers::put_gate(say, 8, {.stack_table = 1, .present = double_fault_works});
                say.l1().vmwrite(field::exception_bitmap, bitmap).vmlaunch();
                const auto again = [&] {
                    read_exit(say)
                        .vmwrite(field::guest_rsp, stack)
                        .vmwrite(field::guest_rip, 0x1000)
                        .vmresume();
                    return say.vmread(field::exit_reason).l2();
                };
                // #PF in the delivery of #GP, #UD, #PF, INT and of what L1 injects: the stack is not there.
                say.vmwrite(field::guest_rsp, nowhere).vmresume().l2().load(not_canonical).vmcall();
                again();
                say.vmcall().l1().vmwrite(field::guest_rsp, nowhere).vmresume().l2().ud2().vmcall();
                again();
                say.vmcall().l1().vmwrite(field::guest_rsp, nowhere).vmresume().l2().load(page_a + 0x8000);
                again();
                say.vmcall().l1().vmwrite(field::guest_rsp, nowhere).vmresume().l2().int_n(0x40).vmcall();
                again();
                say.vmcall()
                    .l1()
                    .vmwrite(field::guest_rsp, nowhere)
                    .vmresume()
                    .l0()
                    .nmi()
                    .l2()
                    .nop()
                    .vmcall();
                again();
                // #NP in that of #GP, #PF, INT and #UD: their gates are not present.
                for (const unsigned vector : {6U, 13U, 14U, 0x40U})
                    handlers::put_gate(say, vector, {.present = false});
                say.l2();
                cold(say).load(not_canonical).vmcall();
                again();
                cold(say).load(nowhere).vmcall();
                again();
                cold(say).int_n(0x40).vmcall();
                again();
                cold(say).ud2().vmcall();
                again();
                cold(say).l1().vmread(field::exit_reason);
                char name[64];
                std::snprintf(name, sizeof name, "TwoExceptionsWithBitmap%llx%s",
                              static_cast<unsigned long long>(bitmap),
                              double_fault_works ? "" : "AndNoDoubleFault");
                add(name, say);
            }
        }
    }

    void levels_and_stacks() {
        Scenario say = world();
        handlers::put_gate(say, 6, {.stack_table = 2});
        handlers::put_gate(say, 0x40, {.type = GateType::trap, .privilege_level = 3});
        say.l1().vmwrite(field::guest_cs_selector, handlers::user_code);
        say.vmwrite(field::guest_cs_access_rights, 0xA0FB)
            .vmwrite(field::guest_ss_selector, handlers::user_data);
        say.vmwrite(field::guest_ss_access_rights, 0xC0F3).vmwrite(field::guest_rsp, 0x1234);
        for (const auto name : {field::guest_ds_access_rights, field::guest_es_access_rights,
                                field::guest_fs_access_rights, field::guest_gs_access_rights})
            say.vmwrite(name, 0xC0F3);
        say.vmlaunch().l2();
        cold(say).ud2().iretq();
        cold(say).int_n(0x40).iretq().int_n(0x50).iretq();
        cold(say).hlt().iretq().rdmsr(0x10).l0().nmi().l2().ud2().iretq().iretq().load(nowhere).vmcall();
        read_exit(say).vmread(field::guest_ss_access_rights).vmread(field::guest_ds_selector);
        say.vmwrite(field::guest_tr_limit, 0x2B).vmresume().l2().ud2().vmcall();
        read_exit(say);
        add("AnL2HasAUserAndStacksOfTheTss", say);
    }

    void without_ept() {
        Scenario say = world({.ept = false});
        say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch();
        for (const std::uint64_t page : {handlers::idt, handlers::gdt, handlers::stacks}) {
            say.l0().take_page(page).l2().ud2().iretq().l0().take_page(page).interrupt(0x40).l2().nop();
            say.l0().eoi().take_page(page).l2().iretq().l0().take_page(page).nmi().l2().nop().iretq();
        }
        say.vmcall();
        read_exit(say);
        add("PagesOfAnL2WithoutEptAreTakenInBetween", say, true);
    }

    void returning() {
        for (const std::uint64_t pin : {pin_default1, nmis_exit, virtual_nmis}) {
            // Its frame is not in EPT02; then EPT12 lacks it; then nothing maps it.
            Scenario say = world({.pin = pin});
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0202).vmlaunch().l2();
            cold(say).iretq().nop().vmcall();
            read_exit(say)
                .vmwrite(field::vm_entry_interruption_information, 0x8000'0202)
                .vmresume()
                .l2()
                .vmcall();
            say.edit().ept_unmap(0, handlers::stacks).l1().invept(2, 0).vmresume().l2().iretq();
            read_exit(say)
                .vmread(field::exit_qualification)
                .edit()
                .ept_map(0, handlers::stacks, handlers::stacks);
            say.l1().vmwrite(field::guest_interruptibility_state, 8).vmresume().l2().iretq().vmcall();
            read_exit(say).vmwrite(field::guest_interruptibility_state, 8).vmwrite(field::guest_rsp, nowhere);
            handlers::put_gate(say, 14, {.stack_table = 2});
            say.l1().vmresume().l2().iretq().nop().iretq().vmcall();
            read_exit(say).vmwrite(field::guest_interruptibility_state, 8).vmwrite(field::guest_rsp, nowhere);
            say.vmwrite(field::exception_bitmap, 1U << 14).vmresume().l2().iretq();
            read_exit(say);
            const std::string name = pin == pin_default1 ? ""
                                     : pin == nmis_exit  ? "WhereNmisExit"
                                                         : "WithVirtualNmis";
            add("AnL2ReturnsFromAnNmi" + name, say);
        }
    }
};

}  // namespace

std::vector<LedgerCase> delivery_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
