// External interrupts: where they come while a guest runs, and where they meet L0, against everything that
// blocks them, that comes first, or that fails; for a host that leaves them to L1, and for one that has them
// all and gives L1's on.
#include <string>
#include <vector>

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
constexpr std::uint64_t interrupts_exit = pin_default1 | vmx::pin::external_interrupt_exiting;
constexpr std::uint64_t both_exit = interrupts_exit | vmx::pin::nmi_exiting;
constexpr std::uint64_t interrupts_off = x86::rflags::fixed_one;
constexpr std::uint64_t interrupts_on = x86::rflags::fixed_one | x86::rflags::interrupt_enable;

enum class Exits : std::uint8_t { no, unacknowledged, acknowledged };

/// An L2 whose EPT02 is filled page by page, as each access to another 2 MB is an exit to L0. It is not
/// launched yet.
Scenario world(std::uint64_t pin, bool acknowledges, std::uint64_t rflags, bool hlt_exits = true) {
    Scenario say;
    say.edit();
    for (const unsigned hierarchy : {0U, 1U}) {
        say.map(hierarchy, page_a, layout::data_page(0)).map(hierarchy, page_b, layout::data_page(8));
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
    constexpr std::uint64_t exit_default = 0x0033'6FFB;  // IA32_EFER is saved and loaded
    if (acknowledges) {
        say.vmwrite(field::vm_exit_controls, exit_default | vmx::exit_control::acknowledge_interrupt_on_exit);
    }
    constexpr std::uint64_t primary = 0x8400'61F2;
    if (!hlt_exits) {
        say.vmwrite(field::primary_processor_based_vm_execution_controls,
                    primary & ~std::uint64_t{vmx::primary::hlt_exiting});
    }
    return say.vmwrite(field::pin_based_vm_execution_controls, pin).vmwrite(field::guest_rflags, rflags);
}
Scenario world(Exits exits = Exits::no, std::uint64_t rflags = interrupts_on, bool hlt_exits = true) {
    return world(exits == Exits::no ? pin_default1 : interrupts_exit, exits == Exits::acknowledged, rflags,
                 hlt_exits);
}

/// What L1 reads of an exit that an interrupt caused.
Scenario& read_exit(Scenario& say) {
    say.l1().vmread(field::exit_reason).vmread(field::vm_exit_interruption_information);
    say.vmread(field::guest_interruptibility_state).vmread(field::guest_activity_state);
    say.vmread(field::guest_rflags).vmread(field::idt_vectoring_information);
    return say.vmread(field::vm_entry_interruption_information);
}

/// L1 takes what its APIC has for it, and says that it is done.
Scenario& take_in_l1(Scenario& say) {
    return say.l1().sti().nop().nop().l0().eoi().l1().cpuid();
}

class Cases {
public:
    Cases() {
        in_l1();
        in_l2();
        exits();
        halted();
        entered_halted();
        at_an_entry();
        where_the_entry_fails();
        windows();
        beside_an_nmi();
        moved();
    }
    std::vector<LedgerCase> all;

private:
    using Interrupts = NestedWorld::Options::Interrupts;

    void add(const std::string& name, const Scenario& say) {
        const auto variant = [&](const char* suffix, Interrupts interrupts, bool shadow_vmcs) {
            NestedWorld::Options options;
            options.interrupts = interrupts;
            options.shadow_vmcs = shadow_vmcs;
            all.push_back({0, name + suffix, options, say.program(), std::nullopt});
        };
        variant("", Interrupts::are_l1s, true);
        variant("GivenByL0", Interrupts::l0_acknowledges_as_they_go_in, true);
        variant("GivenByL0WithTheVector", Interrupts::l0_knows_the_vector, false);
    }

    void in_l1() {
        {
            // It waits for IF, and for the instruction behind STI.
            Scenario say;
            say.l0().interrupt(0x31).l1().nop().cpuid().sti().nop().nop().l0().eoi();
            say.l0().interrupt(0x31).l1().sti().cpuid().cpuid().l0().eoi();
            // CLI right behind STI lets none in, MOV SS blocks for an instruction more.
            say.l0().interrupt(0x32).l1().sti().cli().cpuid().sti().mov_to_ss().nop().nop().l0().eoi();
            say.l1().sti().nop().mov_to_ss().l0().interrupt(0x33).l1().cpuid().nop().l0().eoi();
            say.l1().sti().nop().l0().interrupt(0x34).eoi().l1().cpuid();
            add("AnInterruptInL1WaitsForIfAndWhatBlocksIt", say);
        }
        {
            Scenario say;
            say.l1().vmxon().sti().nop().l0().interrupt_at_next_exit(0x41).l1().nop().cpuid().nop();
            say.l0().eoi().interrupt_at_next_exit(0x42).l1().cpuid().cpuid().sti().cpuid().cpuid();
            say.l0().eoi().l1().sti().nop().vmxoff().l0().interrupt(0x43).l1().cpuid();
            add("AnInterruptThatMeetsL0GoesToL1", say);
        }
        {
            // The highest first; what is in service keeps out its own class and those below.
            Scenario say;
            say.l0().interrupt(0x31).interrupt(0x52).interrupt(0x41).interrupt(0x58).interrupt(0x0F).l1();
            say.sti().nop().nop().sti().nop().cpuid().l0().interrupt(0xE0).l1().cpuid();
            say.l0().eoi().l1().sti().cpuid().nop().l0().eoi().l1().sti().nop().nop();
            for (unsigned i = 0; i < 4; ++i) say.l0().eoi().l1().sti().nop().cpuid();
            add("InterruptsComeByTheirPriority", say);
        }
        {
            Scenario say;
            say.l0().tpr(0x50).interrupt(0x41).interrupt(0x5F).l1().sti().nop().cpuid().l0().tpr(0x4F);
            say.l1().cpuid().sti().nop().l0().eoi().l1().cpuid().l0().tpr(0x30).l1().cpuid();
            // It was on its way, and the priority withdraws it.
            say.l0().eoi().interrupt(0x41).l1().cpuid().l0().tpr(0xF0).l1().sti().cpuid().nop().cpuid();
            say.l0().tpr(0).l1().cpuid();
            add("TheTaskPriorityKeepsInterruptsOut", say);
        }
    }

    void in_l2() {
        {
            Scenario say = world();
            say.vmlaunch().l0().interrupt(0x31).l2().load(page_a).l0().eoi().interrupt(0x32).l2().nop();
            say.sti().load(page_a).load(page_b).l0().eoi().l2().sti().nop();
            // During the fill of EPT02: before the access.
            say.l0().interrupt_at_next_exit(0x33).l2().load(page_a + 0x60'0000).load(page_a).vmcall();
            read_exit(say);
            take_in_l1(say);
            add("AnInterruptInL2GoesThroughItsIdt", say);
        }
        {
            Scenario say = world(Exits::no, interrupts_off);
            say.vmlaunch().l0().interrupt(0x31).l2().load(page_a).sti().load(page_a + 0x60'0000).nop();
            say.l0().eoi().interrupt(0x41).l2().sti().mov_to_ss().load(page_a + 0x80'0000).nop().nop();
            say.l0().eoi().interrupt_at_next_exit(0x42).l2().load(page_a + 0xA0'0000).sti().cli().nop();
            say.vmcall();
            read_exit(say);
            take_in_l1(say);
            add("AnInterruptInL2WaitsForIfAndWhatBlocksIt", say);
        }
        {
            // It waits in L2, and L1 is the one that takes it.
            Scenario say = world(Exits::no, interrupts_off);
            say.vmlaunch().l0().interrupt(0x31).l2().load(page_a).vmcall();
            read_exit(say).cpuid().vmresume().l2().load(page_a).vmcall();
            take_in_l1(say).vmresume().l2().nop().vmcall();
            add("AnInterruptThatWaitsInL2GoesToL1", say);
        }
    }

    void exits() {
        for (const Exits exits : {Exits::unacknowledged, Exits::acknowledged}) {
            const std::string how = exits == Exits::acknowledged ? "Acknowledged" : "";
            {
                Scenario say = world(exits);
                say.vmlaunch().l0().interrupt(0x31);
                read_exit(say);
                take_in_l1(say).vmresume().l0().interrupt_at_next_exit(0x32).l2().load(page_a);
                read_exit(say);
                take_in_l1(say).vmresume().l2().load(page_a).l0().interrupt(0x33).interrupt(0x52);
                read_exit(say).vmresume();
                read_exit(say).l0().eoi().l1().sti().nop().nop().l0().eoi().l1().vmresume();
                say.l2().load(page_b).vmcall();
                add("AnInterruptThatL1WantsIsAnExit" + how, say);
            }
            {
                // RFLAGS.IF of L2's does not matter then.
                Scenario say = world(exits, interrupts_off);
                say.vmlaunch().l2().nop().l0().interrupt(0x31);
                read_exit(say);
                take_in_l1(say).vmresume().l2().load(page_a);
                say.l0().interrupt_at_next_exit(0x32).l2().load(page_a + 0x60'0000).nop();
                read_exit(say);
                take_in_l1(say);
                add("TheExitOfAnInterruptNeedsNoIf" + how, say);
            }
            {
                // But STI and MOV SS block it.
                Scenario say = world(exits, interrupts_off);
                say.vmlaunch().l2().sti().l0().interrupt(0x31).l2().load(page_a);
                read_exit(say);
                take_in_l1(say).vmresume().l2().mov_to_ss().l0().interrupt_at_next_exit(0x32);
                say.l2().load(page_a + 0x60'0000).nop();
                read_exit(say);
                take_in_l1(say).vmwrite(field::guest_rflags, interrupts_on);
                say.vmwrite(field::guest_interruptibility_state, 1).l0().interrupt_at_next_exit(0x33);
                say.l1().vmresume().l2().load(page_a + 0x80'0000).nop();
                read_exit(say);
                take_in_l1(say);
                add("StiAndMovSsBlockTheExitOfAnInterrupt" + how, say);
            }
            {
                // What L1 leaves for later: its exits end when it has taken it.
                Scenario say = world(exits);
                say.vmlaunch().l0().interrupt(0x31).l1().vmresume().l2().nop();
                read_exit(say).vmresume().l2().nop();
                read_exit(say);
                take_in_l1(say).vmresume().l2().nop().vmcall();
                say.l1().cpuid();
                add("L1EntersAgainAndTheInterruptStillWaits" + how, say);
            }
            {
                // The task priority holds it back, and a higher one passes.
                Scenario say = world(exits);
                say.l0().tpr(0x40).l1().vmlaunch().l0().interrupt(0x41).l2().nop().l0().interrupt(0x51);
                read_exit(say);
                take_in_l1(say).vmresume().l2().nop().l0().tpr(0x10);
                read_exit(say);
                take_in_l1(say);
                add("TheTaskPriorityKeepsBackAnExit" + how, say);
            }
        }
    }

    void halted() {
        for (const Exits exits : {Exits::no, Exits::unacknowledged, Exits::acknowledged}) {
            const std::string how = exits == Exits::no             ? "ThroughItsIdt"
                                    : exits == Exits::acknowledged ? "ByAnAcknowledgedExit"
                                                                   : "ByAnExit";
            Scenario say = world(exits, interrupts_on, false);
            say.vmlaunch().l2().hlt().nop().l0().interrupt(0x31).l2().nop().vmcall();
            read_exit(say);
            take_in_l1(say).vmresume().l2().nop().hlt().l0().interrupt(0x32).l2().nop();
            // L1 enters an L2 that is halted, and may wake it by an interrupt of its own.
            say.l1().vmwrite(field::guest_activity_state, 1).vmwrite(field::guest_rflags, interrupts_on);
            say.vmresume().l2().nop().l0().eoi().interrupt(0x33).l2().nop().vmcall();
            read_exit(say);
            take_in_l1(say).vmwrite(field::guest_activity_state, 1);
            say.vmwrite(field::guest_rflags, interrupts_on);
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0077).vmresume().l2().nop().vmcall();
            read_exit(say);
            add("AnInterruptWakesL2" + how, say);
        }
        {
            Scenario say;
            say.l1().sti().nop().hlt().nop().l0().interrupt(0x31).l1().nop().l0().eoi();
            // With IF = 0 it wakes nobody; an NMI does.
            say.l1().hlt().l0().interrupt(0x32).l1().nop().l0().nmi().l1().nop().iret(frame);
            take_in_l1(say);
            add("AnInterruptWakesL1", say);
        }
        {
            // A window of L1's wakes an L2 that is halted.
            Scenario say = world(Exits::no, interrupts_on, false);
            say.vmwrite(field::guest_activity_state, 1);
            say.vmwrite(field::primary_processor_based_vm_execution_controls,
                        (0x8400'61F2 & ~std::uint64_t{vmx::primary::hlt_exiting}) |
                            vmx::primary::interrupt_window_exiting);
            say.vmlaunch().l2().nop();
            read_exit(say);
            add("TheInterruptWindowWakesL2", say);
        }
    }

    /// L1 enters an L2 in the HLT state whose HLT exits: only an event, or a window, ends it.
    void entered_halted() {
        const auto halt = [](Scenario& say, std::uint64_t rflags) -> Scenario& {
            return say.vmwrite(field::guest_activity_state, 1).vmwrite(field::guest_rflags, rflags);
        };
        for (const Exits exits : {Exits::no, Exits::unacknowledged, Exits::acknowledged}) {
            const std::string how = exits == Exits::no             ? "ThroughItsIdt"
                                    : exits == Exits::acknowledged ? "ByAnAcknowledgedExit"
                                                                   : "ByAnExit";
            for (const std::uint64_t rflags : {interrupts_on, interrupts_off}) {
                const std::string suffix = how + (rflags == interrupts_on ? "" : "WithInterruptsOff");
                Scenario say = world(exits, rflags);
                halt(say, rflags).vmlaunch().l2().nop().nop().l0().interrupt(0x31).l2().nop().vmcall();
                read_exit(say);
                // What is still halted an NMI wakes.
                say.l0().nmi().l2().nop().vmcall();
                read_exit(say);
                take_in_l1(say);
                // One that came while L0 worked.
                halt(say, rflags).l0().interrupt_at_next_exit(0x32).l1().vmresume().l2().nop().vmcall();
                read_exit(say);
                say.l0().nmi().l2().nop().iret(page_a).nop().vmcall();
                read_exit(say);
                take_in_l1(say);
                // An event of L1's own wakes it, or may not be injected into it.
                for (const std::uint64_t event : {0x8000'0202U, 0x8000'0301U, 0x8000'0306U, 0x8000'0480U}) {
                    halt(say, rflags).vmwrite(field::vm_entry_interruption_information, event);
                    say.vmwrite(field::vm_entry_instruction_length, 2).vmresume().l2().nop().load(page_a);
                    say.vmcall();
                    read_exit(say).vmwrite(field::vm_entry_interruption_information, 0);
                    say.vmwrite(field::guest_interruptibility_state, 0);
                }
                add("AnL2ThatIsEnteredHaltedIsWoken" + suffix, say);
            }
        }
        for (const std::uint64_t rflags : {interrupts_on, interrupts_off}) {
            const std::string suffix = rflags == interrupts_on ? "" : "WithInterruptsOff";
            // Windows, of which the interrupts' is shut without IF; NMIs that exit; INIT.
            Scenario say =
                world(pin_default1 | vmx::pin::nmi_exiting | vmx::pin::virtual_nmis, false, rflags);
            constexpr std::uint64_t primary = 0x8400'61F2;
            for (const std::uint64_t window :
                 {vmx::primary::interrupt_window_exiting, vmx::primary::nmi_window_exiting}) {
                halt(say, rflags)
                    .vmwrite(field::primary_processor_based_vm_execution_controls, primary | window);
                say.vmresume().vmlaunch().l2().nop().l0().nmi().l1();
                read_exit(say).iret(frame);
                say.vmwrite(field::primary_processor_based_vm_execution_controls, primary);
                halt(say, rflags).vmresume().l2().nop().l0().init().l1();
                read_exit(say);
            }
            // At CPL 3, and where STI or MOV SS blocks, there is no such entry.
            for (const std::uint64_t blocking : {1U, 2U}) {
                halt(say, interrupts_on).vmwrite(field::guest_interruptibility_state, blocking).vmresume();
                say.vmread(field::exit_reason).vmread(field::exit_qualification);
            }
            say.vmwrite(field::guest_interruptibility_state, 0);
            say.vmwrite(field::guest_ss_access_rights, 0xC0F3).vmresume().vmread(field::exit_reason);
            add("AnL2ThatIsEnteredHaltedHasWindows" + suffix, say);
        }
    }

    void at_an_entry() {
        for (const Exits exits : {Exits::no, Exits::unacknowledged, Exits::acknowledged}) {
            for (const std::uint64_t rflags : {interrupts_on, interrupts_off}) {
                Scenario say = world(exits, rflags);
                say.l0().interrupt_at_next_exit(0x31).l1().vmlaunch().l2().nop().load(page_a).vmcall();
                read_exit(say);
                take_in_l1(say);
                // It waited for L1 before the entry.
                say.l1().cli().l0().interrupt(0x32).l1().vmresume().l2().load(page_a).sti().nop().vmcall();
                read_exit(say);
                take_in_l1(say);
                // L1 has something of its own for L2 at that entry.
                for (const std::uint64_t event : {0x8000'0306U, 0x8000'0077U, 0x8000'0202U}) {
                    if (event == 0x8000'0077U && rflags == interrupts_off) continue;
                    say.vmwrite(field::guest_rflags, rflags);
                    say.vmwrite(field::vm_entry_interruption_information, event);
                    say.l0().interrupt_at_next_exit(0x33).l1().vmresume().l2().nop().load(page_a);
                    say.iret(page_a).sti().nop().vmcall();
                    read_exit(say);
                    take_in_l1(say);
                }
                add(std::string("AnInterruptMeetsAnEntry") +
                        (exits == Exits::no               ? "OfAnL2ThatTakesIt"
                         : exits == Exits::unacknowledged ? "ThatItMakesExit"
                                                          : "ThatItMakesExitAcknowledged") +
                        (rflags == interrupts_on ? "" : "WithIfOff"),
                    say);
            }
        }
    }

    void where_the_entry_fails() {
        for (const Exits exits : {Exits::no, Exits::unacknowledged, Exits::acknowledged}) {
            Scenario say = world(exits);
            const auto enter = [&] {
                say.l0().interrupt_at_next_exit(0x31).l1().vmresume().cpuid();
                take_in_l1(say);
            };
            say.vmlaunch().l2().vmcall().l1();
            say.vmwrite(field::guest_rflags, 0x200);  // bit 1 must be 1
            enter();
            say.vmwrite(field::guest_rflags, interrupts_on).vmwrite(field::vmcs_link_pointer, 0x1234);
            enter();
            say.vmwrite(field::vmcs_link_pointer, ~std::uint64_t{0}).vmwrite(field::cr3_target_count, 5);
            enter();
            say.vmwrite(field::cr3_target_count, 0).vmwrite(field::guest_activity_state, 3);
            enter();
            say.vmwrite(field::guest_activity_state, 0);
            say.edit().poke(list, x86::msr::ia32_fs_base).poke(list + 8, 0).l1();
            say.vmwrite(field::vm_entry_msr_load_address, list).vmwrite(field::vm_entry_msr_load_count, 1);
            enter();
            say.vmwrite(field::vm_entry_msr_load_count, 0).vmresume().l2().nop().vmcall();
            add(std::string("AnInterruptMeetsAnEntryThatFails") + (exits == Exits::no ? ""
                                                                   : exits == Exits::unacknowledged
                                                                       ? "WhereItExits"
                                                                       : "WhereItExitsAcknowledged"),
                say);
        }
    }

    void windows() {
        constexpr std::uint64_t usual = 0x8400'61F2;
        const auto window = [](Scenario& say, bool open) {
            say.l1().vmwrite(field::primary_processor_based_vm_execution_controls,
                             usual | (open ? std::uint64_t{vmx::primary::interrupt_window_exiting} : 0));
        };
        for (const Exits exits : {Exits::no, Exits::unacknowledged, Exits::acknowledged}) {
            const std::string how = exits == Exits::no               ? ""
                                    : exits == Exits::unacknowledged ? "WhereInterruptsExit"
                                                                     : "WhereInterruptsExitAcknowledged";
            {
                // As a hypervisor does that has an interrupt of its own for L2.
                Scenario say = world(exits, interrupts_off);
                window(say, true);
                say.vmlaunch().l2().load(page_a).sti().load(page_a + 0x60'0000).nop();
                read_exit(say);
                window(say, false);
                say.vmwrite(field::vm_entry_interruption_information, 0x8000'0077).vmresume().l2().nop();
                say.l0().interrupt(0x31).l2().sti().nop().vmcall();
                read_exit(say);
                take_in_l1(say);
                add("L1sWindowOpens" + how, say);
            }
            {
                // Another interrupt waits at L0 meanwhile: L1's window comes before it.
                Scenario say = world(exits, interrupts_on);
                window(say, true);
                say.l0().interrupt_at_next_exit(0x31).l1().vmlaunch().l2().nop();
                read_exit(say);
                window(say, false);
                take_in_l1(say).vmresume().l2().nop().vmcall();
                add("L1sWindowComesBeforeAnInterrupt" + how, say);
            }
            {
                Scenario say = world(exits, interrupts_off);
                window(say, true);
                say.vmlaunch().l0().interrupt(0x31).l2().load(page_a).sti().load(page_a + 0x60'0000).nop();
                read_exit(say);
                take_in_l1(say);
                say.vmresume().l2().nop();
                read_exit(say);
                window(say, false);
                take_in_l1(say).vmresume().l2().nop().vmcall();
                add("BothHaveSomethingThatWaitsForL2" + how, say);
            }
        }
    }

    void beside_an_nmi() {
        constexpr std::uint64_t nmis_exit = pin_default1 | vmx::pin::nmi_exiting;
        {
            Scenario say;
            say.l1().sti().nop().l0().nmi_at_next_exit().interrupt_at_next_exit(0x31).l1().cpuid().cpuid();
            say.iret(frame).l0().eoi().l1().cpuid();
            // NMIs are blocked, interrupts are not.
            say.l1().sti().nop().l0().nmi().nmi_at_next_exit().interrupt_at_next_exit(0x32).l1();
            say.cpuid().cpuid().iret(frame).cpuid().iret(frame).l0().eoi().l1().cpuid();
            add("AnNmiComesBeforeAnInterruptInL1", say);
        }
        struct Way {
            const char* name;
            std::uint64_t pin;
        };
        for (const auto& [name, pin] :
             {Way{"ThroughL2sIdt", pin_default1}, Way{"WhereNmisExit", nmis_exit},
              Way{"WhereInterruptsExit", interrupts_exit}, Way{"WhereBothExit", both_exit},
              Way{"WithVirtualNmis", both_exit | vmx::pin::virtual_nmis}}) {
            Scenario say = world(pin, pin == both_exit, interrupts_on);
            say.l0().nmi_at_next_exit().interrupt_at_next_exit(0x31).l1().vmlaunch().l2().load(page_a);
            read_exit(say).cpuid();
            take_in_l1(say).iret(frame).cpuid().cpuid();
            say.vmwrite(field::guest_rflags, interrupts_on).vmresume().l2().iret(page_a).sti().nop();
            // Where L2 blocks NMIs the interrupt passes.
            say.l1().vmwrite(field::guest_interruptibility_state, 8).vmresume();
            say.l0().nmi_at_next_exit().interrupt_at_next_exit(0x32).l2().load(page_a + 0x60'0000).nop();
            say.iret(page_a).nop().vmcall();
            read_exit(say).iret(frame).cpuid();
            take_in_l1(say).iret(frame).cpuid();
            // Both wait for the instruction behind STI.
            say.vmwrite(field::guest_rflags, interrupts_on).vmwrite(field::guest_interruptibility_state, 1);
            say.l0().nmi_at_next_exit().interrupt_at_next_exit(0x33).l1().vmresume();
            say.l2().load(page_a + 0x80'0000).nop().iret(page_a).vmcall();
            read_exit(say).iret(frame).cpuid();
            take_in_l1(say).iret(frame).cpuid();
            add(std::string("AnNmiComesBeforeAnInterrupt") + name, say);
        }
        // Behind what L1 injects, of which no window of L0's tells where L1 has NMI exiting.
        for (const std::uint64_t injected : {0x8000'0077U, 0x8000'0202U}) {
            Scenario say = world(both_exit | vmx::pin::virtual_nmis, true, interrupts_on);
            say.vmwrite(field::vm_entry_interruption_information, injected);
            say.l0().interrupt(0x31).nmi_at_next_exit().l1().vmlaunch().l2().load(page_a);
            read_exit(say).iret(frame).cpuid();
            take_in_l1(say).vmresume().l2().nop().vmcall();
            add(std::string("AnNmiComesBeforeAnInterruptBehindAnInjected") +
                    (injected == 0x8000'0202U ? "Nmi" : "Interrupt"),
                say);
        }
    }

    void moved() {
        // What waits goes along, and finds its window on the other processor.
        for (const Exits exits : {Exits::no, Exits::unacknowledged}) {
            Scenario say = world(exits, interrupts_off);
            say.l0().interrupt(0x41).move_vcpu(1).l1().cpuid().sti().nop().cpuid().l0().eoi().l1();
            say.vmlaunch().l0().interrupt(0x31).move_vcpu(0).l2().load(page_a).l0().move_vcpu(1);
            say.l2().sti().load(page_a + 0x60'0000).nop().vmcall();
            read_exit(say).l0().move_vcpu(0);
            take_in_l1(say).vmresume().l2().nop();
            add(std::string("AnInterruptThatWaitsMovesAlong") + (exits == Exits::no ? "" : "WhereItExits"),
                say);
        }
    }
};

}  // namespace

std::vector<LedgerCase> interrupt_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
