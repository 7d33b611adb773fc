// NMIs: where they come while a guest runs, and where they meet L0, against everything that blocks them or
// fails.
#include "judge/ledger/ledger.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t page_b = 0x4000'1000;
constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t frame = layout::scratch(7);    // of L1's IRET
constexpr std::uint64_t list = layout::data_page(20);  // of MSRs
constexpr std::uint64_t pin_default1 = 0x16;           // SDM 3D A.3.1
constexpr std::uint64_t nmis_exit = pin_default1 | vmx::pin::nmi_exiting;
constexpr std::uint64_t virtual_nmis = nmis_exit | vmx::pin::virtual_nmis;
constexpr std::uint64_t injected_nmi = 0x8000'0202;
constexpr std::uint64_t interrupts_on = x86::rflags::fixed_one | x86::rflags::interrupt_enable;

/// Pages A and B for L1, and for an L2 whose EPT02 is filled page by page, as each access is an exit to L0.
Scenario world(std::uint64_t pin = pin_default1) {
    Scenario say;
    say.edit();
    for (const unsigned hierarchy : {0U, 1U}) {
        say.map(hierarchy, page_a, layout::data_page(0)).map(hierarchy, page_b, layout::data_page(8));
        // Each in another 2 MB, so that each is another fill of EPT02.
        for (unsigned page = 0; page < 4; ++page)
            say.map(hierarchy, page_a + (2 + page) * 0x20'0000, layout::data_page(0) + page * 0x20'0000);
    }
    for (unsigned page = 0; page < 16; ++page)
        say.ept_map(0, layout::data_page(page), layout::data_page(page));
    for (unsigned page = 0; page < 4; ++page) {
        const std::uint64_t frames = layout::data_page(0) + page * 0x20'0000;
        say.ept_map(0, frames, frames);
    }
    say.l1().vmxon().prepare(vmcs, {.vpid = 1, .ept = 0, .tables = 1});
    return say.vmwrite(field::pin_based_vm_execution_controls, pin);
}

/// What L1 reads of an exit that an NMI caused, and that it is blocked until its IRET.
Scenario& read_exit(Scenario& say) {
    say.l1().vmread(field::exit_reason).vmread(field::vm_exit_interruption_information);
    say.vmread(field::guest_interruptibility_state).vmread(field::idt_vectoring_information);
    return say.vmread(field::vm_entry_interruption_information);
}

class Cases {
public:
    Cases() {
        in_l1();
        in_l2();
        at_an_entry();
        where_the_entry_fails();
        beside_another_event();
        under_blocking();
        with_virtual_nmis();
    }
    std::vector<LedgerCase> all;

private:
    void add(const char* name, const Scenario& say) {
        all.push_back({0, name, {}, say.program(), std::nullopt});
        NestedWorld::Options without;
        without.shadow_vmcs = false;
        all.push_back({0, std::string(name) + "WithoutShadowVmcs", without, say.program(), std::nullopt});
    }

    void in_l1() {
        Scenario say;
        // Two come: one is taken, one waits for the IRET; a third is lost, as the processor keeps one.
        say.l0().nmi().nmi().nmi().l1().cpuid().iret(frame).iret(frame).cpuid();
        say.l0().nmi_at_next_exit().l1().nop().cpuid().cpuid().iret(frame).cpuid();
        // It meets L0 while NMIs are blocked: the processor keeps it until the IRET.
        say.l0().nmi().nmi_at_next_exit().l1().cpuid().cpuid().nop().iret(frame).nop().iret(frame);
        say.vmxon().l0().nmi_at_next_exit().l1().vmxoff().iret(frame).hlt().l0().nmi().l1().iret(frame);
        add("AnNmiInL1IsTakenOnceAndBlocksUntilIret", say);
    }

    void in_l2() {
        {
            Scenario say = world();
            say.vmlaunch().l0().nmi().l2().load(page_a).l0().nmi().l2().iret(page_b).iret(page_b);
            // During the fill of EPT02: through L2's IDT, before the access.
            say.l0().nmi_at_next_exit().l2().load(page_a + 0x60'0000).load(page_a).iret(page_b).vmcall();
            read_exit(say).cpuid();
            add("AnNmiInL2GoesThroughItsIdt", say);
        }
        {
            // L2 leaves with NMIs blocked: so is L1, until its own IRET.
            Scenario say = world();
            say.vmlaunch().l0().nmi().nmi().l2().vmcall();
            read_exit(say).cpuid().iret(frame).iret(frame).vmresume().l2().vmcall();
            add("BlockingByNmiGoesFromL2ToL1", say);
        }
        {
            Scenario say = world(nmis_exit);
            say.vmlaunch().l0().nmi();
            read_exit(say).l0().nmi().l1().cpuid().iret(frame).cpuid().iret(frame).vmresume();
            say.l0().nmi_at_next_exit().l2().load(page_a).load(page_a);
            read_exit(say).cpuid().iret(frame).vmresume().l2().load(page_a).vmcall();
            read_exit(say);
            add("AnNmiThatL1WantsIsAnExitAndBlocksL1", say);
        }
    }

    void at_an_entry() {
        {
            Scenario say = world();
            say.l0().nmi_at_next_exit().l1().vmlaunch().l2().nop().iret(page_a).vmcall();
            say.l0().nmi_at_next_exit().l1().vmresume().l2().load(page_b).iret(page_a).vmcall();
            read_exit(say).cpuid();
            add("AnNmiAtTheEntryIsL2s", say);
        }
        {
            Scenario say = world(nmis_exit);
            say.l0().nmi_at_next_exit().l1().vmlaunch().vmread(field::guest_rip);
            read_exit(say).cpuid().iret(frame).vmlaunch().vmresume().l2().vmcall();
            add("AnNmiAtTheEntryIsTheExitThatL1Wants", say);
        }
        {
            // L2 is entered with NMIs blocked, and its IRET takes it.
            Scenario say = world();
            say.vmwrite(field::guest_interruptibility_state, 8).vmlaunch().l0().nmi().l2().nop();
            say.iret(page_a).iret(page_a).vmcall();
            read_exit(say);
            add("AnL2ThatIsEnteredWithNmisBlockedTakesOneAtItsIret", say);
        }
    }

    void where_the_entry_fails() {
        for (const bool exits : {false, true}) {
            Scenario say = world(exits ? nmis_exit : pin_default1);
            // Guest state, then controls, host state, an MSR list; and then an entry that is good.
            say.vmwrite(field::guest_rflags, 0).l0().nmi_at_next_exit().l1().vmlaunch();
            read_exit(say).cpuid().iret(frame).vmwrite(field::guest_rflags, x86::rflags::fixed_one);
            say.vmwrite(field::cr3_target_count, 99).l0().nmi_at_next_exit().l1().vmlaunch().iret(frame);
            say.vmwrite(field::cr3_target_count, 0).vmwrite(field::host_cr0, 0);
            say.l0().nmi_at_next_exit().l1().vmlaunch().iret(frame).vmwrite(field::host_cr0, 0x8001'0031);
            say.edit().poke(list, x86::msr::ia32_fs_base).poke(list + 8, 1).l1();
            say.vmwrite(field::vm_entry_msr_load_address, list).vmwrite(field::vm_entry_msr_load_count, 1);
            say.l0().nmi_at_next_exit().l1().vmlaunch();
            read_exit(say).cpuid().iret(frame).vmwrite(field::vm_entry_msr_load_count, 0);
            say.vmlaunch().l2().load(page_a).load(page_b).vmcall();
            read_exit(say).vmresume().l2().vmcall();
            add(exits ? "AFailedEntryGivesTheNmiThatWasToExitBack" : "AFailedEntryGivesTheNmiBack", say);
        }
    }

    void beside_another_event() {
        Scenario say = world();
        // L1 injects a #UD, and an NMI of its own; L0 has another one.
        say.vmwrite(field::guest_rflags, interrupts_on);
        say.vmwrite(field::vm_entry_interruption_information, 0x8000'0306).l0().nmi_at_next_exit();
        say.l1().vmlaunch().l2().nop().load(page_a).iret(page_b).vmcall();
        read_exit(say).vmwrite(field::vm_entry_interruption_information, injected_nmi);
        say.l0().nmi_at_next_exit().l1().vmresume().l2().nop().iret(page_b).nop().iret(page_b).vmcall();
        read_exit(say);
        add("AnNmiWaitsForTheEventThatTheEntryDelivers", say);
    }

    void under_blocking() {
        {
            Scenario say;
            say.l1().sti().l0().nmi().l1().nop().iret(frame).mov_to_ss().l0().nmi().l1().nop().iret(frame);
            say.sti().mov_to_ss().l0().nmi_at_next_exit().l1().cpuid().iret(frame);
            add("StiAndMovSsBlockAnNmiInL1ForOneInstruction", say);
        }
        {
            // The fill of EPT02 comes while STI, or MOV SS, blocks: the load first, then the NMI.
            Scenario say = world();
            say.vmlaunch().l2().sti().l0().nmi_at_next_exit().l2().load(page_a).nop().iret(page_b);
            say.mov_to_ss().l0().nmi_at_next_exit().l2().load(page_a + 0x60'0000).nop().nop();
            say.iret(page_b).vmcall();
            read_exit(say);
            add("StiAndMovSsBlockAnNmiInL2ForOneInstruction", say);
        }
        {
            Scenario say = world(nmis_exit);
            say.vmwrite(field::guest_rflags, interrupts_on).vmwrite(field::guest_interruptibility_state, 1);
            say.l0().nmi_at_next_exit().l1().vmlaunch().l2().load(page_a).nop();
            read_exit(say).iret(frame).vmresume().l2().vmcall();
            add("StiBlocksTheExitOfAnNmiToo", say);
        }
        {
            // L0 has one, the processor keeps another, and L2 leaves to L1 with NMIs blocked: L0's own window
            // lets the second one out, and it is no exit of L1's.
            Scenario say = world(nmis_exit);
            say.vmwrite(field::guest_interruptibility_state, 8).l0().nmi_at_next_exit().l1().vmlaunch();
            say.l0().nmi().l2().load(page_a + 0x40'0000).load(0x5000'0000).vmcall();
            read_exit(say).cpuid().iret(frame).cpuid().iret(frame).cpuid();
            add("TwoNmisMeetAnL2ThatBlocksThem", say);
        }
    }

    void with_virtual_nmis() {
        {
            Scenario say = world(virtual_nmis);
            say.vmwrite(field::vm_entry_interruption_information, injected_nmi).vmlaunch().l2().load(page_a);
            say.l0().nmi();  // blocked is only what L1 injects
            read_exit(say).iret(frame).vmresume().l2().load(page_a);
            // The IRET's own frame is not in EPT02 yet: it has unblocked, faulted, and must block again.
            say.iret(page_a + 0x60'0000).l0().nmi_at_next_exit().l2().load(page_b).vmcall();
            read_exit(say);
            add("VirtualNmisBlockOnlyWhatL1Injects", say);
        }
        {
            Scenario say = world(virtual_nmis);
            const auto primary = [&](std::uint64_t more) {
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            (std::uint64_t{0x8401'E1F2} & ~std::uint64_t{0x1'8000}) | more);
            };
            primary(vmx::primary::nmi_window_exiting);
            say.vmwrite(field::vm_entry_interruption_information, injected_nmi).vmlaunch().l2().nop();
            say.iret(page_a).nop();
            read_exit(say);
            primary(0);
            say.vmresume().l2().vmcall();
            add("TheNmiWindowOpensAtTheIret", say);
        }
        {
            // L1's window is open where an NMI waits at L0: it comes before the NMI.
            Scenario say = world(virtual_nmis);
            say.vmwrite(
                field::primary_processor_based_vm_execution_controls,
                (std::uint64_t{0x8401'E1F2} & ~std::uint64_t{0x1'8000}) | vmx::primary::nmi_window_exiting);
            say.l0().nmi_at_next_exit().l1().vmlaunch().l2().nop();
            read_exit(say).cpuid().iret(frame).cpuid();
            add("L1sNmiWindowComesBeforeAnNmi", say);
        }
        {
            // EPT12 lacks the frame's page: L1 sees the violation, and that the IRET had unblocked NMIs.
            for (const std::uint64_t pin : {pin_default1, nmis_exit, virtual_nmis}) {
                Scenario say = world(pin);
                say.edit().ept_unmap(0, layout::data_page(8)).l1();
                say.vmwrite(field::vm_entry_interruption_information, injected_nmi).vmlaunch();
                say.l2().nop().iret(page_b);
                read_exit(say).vmread(field::exit_qualification);
                say.edit().ept_map(0, layout::data_page(8), layout::data_page(8)).l1();
                say.vmwrite(field::guest_interruptibility_state, 8).vmresume().l2().iret(page_b).vmcall();
                read_exit(say);
                add(pin == pin_default1 ? "AnIretThatMeetsAnEptViolation"
                    : pin == nmis_exit  ? "AnIretThatMeetsAnEptViolationWhereNmisExit"
                                        : "AnIretThatMeetsAnEptViolationWithVirtualNmis",
                    say);
            }
        }
        {
            // The fault of an IRET that exits says that it unblocked NMIs.
            Scenario say = world(virtual_nmis);
            say.vmwrite(field::exception_bitmap, 1U << 14);
            say.vmwrite(field::vm_entry_interruption_information, injected_nmi).vmlaunch();
            say.l2().iret(0x5000'0000);
            read_exit(say).vmresume().l2().iret(0x5000'0000);
            read_exit(say);
            add("AnIretThatFaultsSaysThatItUnblockedNmis", say);
        }
    }
};

}  // namespace

std::vector<LedgerCase> nmi_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
