// The VMX-preemption timer and the time-stamp counter: where the timer ends an L2, what exits save of it,
// what it comes before; beside L0's own work, other virtual CPUs, and hosts that end turns by the same timer.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t apart = 0x20'0000;  // each access to another 2 MB is an exit to L0
constexpr unsigned pages = 5;
constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t pin_default1 = 0x16;     // SDM 3D A.3.1
constexpr std::uint64_t exit_usual = 0x33'6FFB;  // IA32_EFER is saved and loaded
constexpr std::uint64_t usual = 0x8400'61F2;     // of the primary controls: HLT exiting
constexpr std::uint64_t timed = pin_default1 | vmx::pin::activate_vmx_preemption_timer;
constexpr std::uint64_t saving = exit_usual | vmx::exit_control::save_vmx_preemption_timer_value;
constexpr std::uint64_t interrupts_on = x86::rflags::fixed_one | x86::rflags::interrupt_enable;

constexpr std::uint64_t page(unsigned number) {
    return page_a + number * apart;
}

Scenario& guest(Scenario& say, std::uint64_t region, std::uint16_t vpid, std::uint32_t value, bool saves) {
    say.l1().prepare(region, {.vpid = vpid, .ept = 0, .tables = 1});
    say.vmwrite(field::pin_based_vm_execution_controls, timed);
    say.vmwrite(field::vm_exit_controls, saves ? saving : exit_usual);
    return say.vmwrite(field::vmx_preemption_timer_value, value);
}
Scenario structures() {
    Scenario say;
    say.edit();
    for (unsigned number = 0; number < pages; ++number) {
        say.map(1, page(number), layout::data_page(0) + number * apart);
        say.ept_map(0, layout::data_page(0) + number * apart, layout::data_page(0) + number * apart);
    }
    return say;
}
Scenario world(std::uint32_t value, bool saves) {
    Scenario say = structures();
    say.l1().vmxon();
    return guest(say, vmcs, 1, value, saves);
}

Scenario& read_exit(Scenario& say) {
    say.l1().vmread(field::exit_reason).vmread(field::vmx_preemption_timer_value);
    say.vmread(field::guest_interruptibility_state).vmread(field::guest_activity_state);
    return say.vmread(field::guest_rip).rdtsc();
}
Scenario& run(Scenario& say, unsigned steps) {
    say.l2();
    for (unsigned number = 0; number < steps; ++number) say.nop();
    return say;
}

class Cases {
public:
    Cases() {
        ends();
        beside_l0();
        beside_other_events();
        entries();
        others();
        counters();
    }
    std::vector<LedgerCase> all;

private:
    void add(const std::string& name, const Scenario& say, unsigned vcpus = 1) {
        NestedWorld::Options options{.vcpus = vcpus};
        all.push_back({0, name, options, say.program(), std::nullopt});
        options.shadow_vmcs = false;
        all.push_back({0, name + "WithoutShadowVmcs", options, say.program(), std::nullopt});
        for (std::uint64_t seed = 1; seed <= 6; ++seed) {
            options = {.vcpus = vcpus, .random_host = seed, .saves_states = seed > 4};
            all.push_back({0, name + "UnderHost" + std::to_string(seed), options, say.program(), {}});
        }
    }

    void ends() {
        for (const bool saves : {false, true}) {
            const std::string suffix = saves ? "ThatIsSaved" : "";
            {
                Scenario say = world(0, saves);
                say.vmlaunch();
                for (const unsigned value : {0U, 1U, 2U, 3U, 5U, 8U, 13U}) {
                    run(say, 60);
                    read_exit(say).vmwrite(field::vmx_preemption_timer_value, value).vmresume();
                }
                add("TheTimerEndsAnL2" + suffix, say);
            }
            {
                // Each exit of another kind, until it has come to its end.
                Scenario say = world(12, saves);
                say.vmlaunch();
                for (unsigned number = 0; number < 12; ++number) {
                    say.l2().nop().rdtsc().cpuid();
                    read_exit(say).vmresume();
                }
                add("TheTimerOfSeveralEntries" + suffix, say);
            }
            {
                // Its value goes to memory and comes back.
                Scenario say = world(9, saves);
                say.vmlaunch().l2().nop().vmcall();
                read_exit(say).vmclear(vmcs).nop().vmptrld(vmcs).vmread(field::vmx_preemption_timer_value);
                say.vmlaunch().l2().nop().vmcall();
                read_exit(say).vmresume();
                run(say, 50);
                read_exit(say);
                add("TheTimerOfAVmcsThatIsPutAway" + suffix, say);
            }
        }
    }

    void beside_l0() {
        for (const bool saves : {false, true}) {
            for (const unsigned value : {1U, 2U, 3U, 4U, 6U, 9U}) {
                Scenario say = world(value, saves);
                say.vmlaunch().l2();
                for (unsigned number = 0; number < pages; ++number) say.load(page(number)).nop();
                read_exit(say);
                for (unsigned number = 0; number < 4; ++number) {
                    // L0 fills EPT02 anew, for the same accesses.
                    say.invept_single(layout::eptp(0)).vmresume().l2();
                    for (unsigned at = 0; at < pages; ++at) say.load(page(at));
                    say.vmcall();
                    read_exit(say);
                }
                add("TheTimerOf" + std::to_string(value) + (saves ? "ThatIsSaved" : "") +
                        "GoesOnWhileL0Works",
                    say);
            }
        }
        Scenario say = world(30, true);
        say.vmlaunch();
        for (unsigned number = 0; number < 6; ++number) {
            say.l2().load(page(number % pages)).l0().take_page(layout::data_page(0) + number % 2 * apart);
            say.l0().move_vcpu(number % 2);
        }
        run(say, 40);
        read_exit(say);
        add("TheTimerGoesOnWhereL2Moves", say);
    }

    void beside_other_events() {
        {
            // It wakes an L2 that is halted, and nothing blocks it.
            for (const unsigned value : {0U, 2U, 7U}) {
                Scenario say = world(value, true);
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual & ~std::uint64_t{vmx::primary::hlt_exiting});
                say.vmlaunch().l2().hlt();
                run(say, 40);
                read_exit(say).vmwrite(field::vmx_preemption_timer_value, 1);
                say.vmwrite(field::guest_activity_state, 0).vmresume().l2();
                for (unsigned number = 0; number < 12; ++number) say.mov_to_ss().sti().cli();
                read_exit(say);
                add("TheTimerOf" + std::to_string(value) + "WakesAHaltedL2", say);
            }
        }
        for (const unsigned value : {0U, 1U, 3U}) {
            const std::string suffix = "BesideATimerOf" + std::to_string(value);
            for (const bool nmis : {false, true}) {
                // Windows, which it comes before.
                Scenario say = world(value, true);
                say.vmwrite(field::pin_based_vm_execution_controls,
                            timed | (nmis ? vmx::pin::nmi_exiting | vmx::pin::virtual_nmis : 0U));
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual | (nmis ? vmx::primary::nmi_window_exiting
                                          : vmx::primary::interrupt_window_exiting));
                say.vmwrite(field::guest_rflags, x86::rflags::fixed_one);
                say.vmwrite(field::guest_interruptibility_state, nmis ? 8 : 0).vmlaunch().l2();
                say.nop().nop().sti().nop().iret(page_a).nop().nop().nop();
                read_exit(say).vmwrite(field::guest_interruptibility_state, 0).vmresume();
                run(say, 8);
                read_exit(say);
                add((nmis ? "AnNmiWindow" : "AnInterruptWindow") + suffix, say);
            }
            for (const bool exits : {false, true}) {
                Scenario say = world(value, true);
                say.vmwrite(
                    field::pin_based_vm_execution_controls,
                    timed | (exits ? vmx::pin::nmi_exiting | vmx::pin::external_interrupt_exiting : 0U));
                say.vmwrite(field::guest_rflags, interrupts_on);
                say.l0().nmi_at_next_exit().interrupt_at_next_exit(0x41).l1().vmlaunch().l2();
                say.nop().nop().iret(page_a).nop().sti().nop().nop().nop();
                read_exit(say).iret(layout::scratch(7)).vmresume().l2().nop().nop().l0().interrupt(0x52);
                say.l0().nmi().l2().nop().nop().nop();
                read_exit(say);
                say.l1().vmwrite(field::vmx_preemption_timer_value, 4).vmresume().l2().nop().sti();
                run(say, 30);
                read_exit(say).sti().nop().l0().eoi();
                add(std::string(exits ? "EventsThatExit" : "Events") + suffix, say);
            }
            // What L1 injects is delivered first.
            Scenario say = world(value, true);
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0306).vmlaunch();
            run(say, 30);
            read_exit(say);
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0077);
            say.vmwrite(field::guest_rflags, interrupts_on).vmresume();
            run(say, 10);
            read_exit(say);
            add("AnInjectedEvent" + suffix, say);
        }
    }

    void entries() {
        {
            // An entry that fails leaves the value; to save it without the timer is refused.
            Scenario say = world(7, true);
            say.vmwrite(field::guest_rflags, 0).vmlaunch().vmread(field::exit_reason);
            say.vmread(field::vmx_preemption_timer_value);
            say.vmwrite(field::guest_rflags, x86::rflags::fixed_one).vmlaunch().l2().nop().vmcall();
            read_exit(say).vmwrite(field::guest_rflags, 0).vmresume();
            say.vmread(field::vmx_preemption_timer_value).vmwrite(field::guest_rflags, 2);
            say.vmwrite(field::pin_based_vm_execution_controls, pin_default1).vmresume();
            say.vmread(field::vm_instruction_error).vmwrite(field::vm_exit_controls, exit_usual).vmresume();
            run(say, 60);
            say.vmcall();
            read_exit(say).vmwrite(field::pin_based_vm_execution_controls, timed).vmresume();
            run(say, 60);
            read_exit(say).vmwrite(field::vm_exit_controls, saving).vmresume().l2().nop().vmcall();
            read_exit(say).vmwrite(field::vm_exit_controls, exit_usual).vmresume().l2().nop().vmcall();
            read_exit(say);
            add("TheTimersValueWhereEntriesFailAndControlsChange", say);
        }
        {
            // The field has 32 bits.
            Scenario say = world(0xFFFF'FFFF, true);
            say.vmlaunch();
            run(say, 9).vmcall();
            read_exit(say).vmresume();
            run(say, 20).vmcall();
            read_exit(say);
            add("ALongTimer", say);
        }
    }

    void others() {
        // Two VMCSs of one L1 with a timer each, and another virtual CPU on the same processor.
        Scenario say = structures();
        say.l1().vmxon();
        guest(say, vmcs, 1, 25, true).vmlaunch().l2().nop().vmcall();
        guest(say, layout::vmcs_region(1), 2, 11, true).vmlaunch().l2().load(page(1)).vmcall();
        read_exit(say).vmptrld(vmcs).vmread(field::vmx_preemption_timer_value).vmresume().l2().nop();
        say.on(0, 1).l0().move_vcpu(0).l1().vmxon();
        guest(say, layout::vmcs_region(2), 1, 6, false).vmlaunch().l2().load(page(2)).nop().rdtsc();
        say.on(0, 0).l2().nop().load(page(3)).rdtsc();
        for (unsigned number = 0; number < 10; ++number) {
            say.on(0, 1).l2().nop().rdtsc().on(0, 0).l2().nop().rdtsc();
        }
        read_exit(say).on(0, 1);
        read_exit(say).vmresume().on(0, 0).vmptrld(layout::vmcs_region(1)).vmresume();
        run(say, 40);
        read_exit(say).on(0, 1);
        run(say, 5);
        read_exit(say);
        add("TimersOfSeveralL2s", say, 2);
    }

    void counters() {
        // RDTSC in L1, in L2 with and without an offset, and where it exits.
        constexpr std::array<std::uint64_t, 4> offsets = {0, 0x1'0000'0000, ~std::uint64_t{0} << 20, 12345};
        Scenario say = structures();
        say.l1().rdtsc().vmxon().rdtsc().cpuid().rdtsc();
        guest(say, vmcs, 1, 1000, true).vmlaunch();
        for (const std::uint32_t control : {0U, vmx::primary::use_tsc_offsetting, vmx::primary::rdtsc_exiting,
                                            vmx::primary::use_tsc_offsetting | vmx::primary::rdtsc_exiting}) {
            for (const std::uint64_t offset : offsets) {
                say.l2().rdtsc().load(page(1)).rdtsc().vmcall().l1().rdtsc();
                say.vmwrite(field::primary_processor_based_vm_execution_controls, usual | control);
                say.vmwrite(field::tsc_offset, offset).vmresume().l2().rdtsc();
                read_exit(say).vmresume().l2().rdtsc().l1().vmresume();
            }
        }
        add("TheTimeStampCounterGoesOn", say);
    }
};

}  // namespace

std::vector<LedgerCase> time_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
