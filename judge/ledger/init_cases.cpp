// INIT and start-up IPIs: where they come while L1, L2 or neither runs, and where they meet L0; in VMX
// operation and outside, to who waits and who does not, beside other events.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "tag/vpid_pool.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t apart = 0x20'0000;  // each access to another 2 MB is an exit to L0
constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t usual = 0x8400'61F2;  // of the primary controls: HLT exiting
constexpr std::uint64_t frame = layout::scratch(7);
constexpr std::uint64_t interrupts_on = x86::rflags::fixed_one | x86::rflags::interrupt_enable;

Scenario structures() {
    Scenario say;
    say.edit();
    for (unsigned number = 0; number < 5; ++number) {
        say.map(1, page_a + number * apart, layout::data_page(0) + number * apart);
        say.ept_map(0, layout::data_page(0) + number * apart, layout::data_page(0) + number * apart);
    }
    return say;
}
/// An L2 that is not launched yet.
Scenario world() {
    Scenario say = structures();
    say.l1().vmxon().prepare(vmcs, {.vpid = 1, .ept = 0, .tables = 1});
    return say;
}
Scenario& read_exit(Scenario& say) {
    say.l1().vmread(field::exit_reason).vmread(field::exit_qualification).vmread(field::guest_rip);
    say.vmread(field::guest_interruptibility_state).vmread(field::guest_activity_state);
    say.vmread(field::vm_exit_interruption_information).vmread(field::guest_pending_debug_exceptions);
    return say.vmread(field::vm_entry_interruption_information);
}
/// Who waits for its start begins anew, with an L2.
Scenario& start_again(Scenario& say, std::uint8_t at = 0x12) {
    say.l0().start_up(at).l1().mov_from_cr0().mov_from_cr4().nop().boot().mov_from_cr0().cpuid();
    say.vmxon().prepare(vmcs, {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch().l2().load(page_a).vmcall();
    return read_exit(say).vmresume().l2().load(page_a + apart).cpuid().l1();
}

class Cases {
public:
    Cases() {
        outside_vmx_operation();
        in_vmx_operation();
        in_l2();
        start_ups();
        beside_others();
    }
    std::vector<LedgerCase> all;

private:
    using Interrupts = NestedWorld::Options::Interrupts;

    void add(const std::string& name, const Scenario& say, unsigned vcpus = 1,
             std::uint16_t tags = tag::VpidPool::most_tags,
             const std::optional<LedgerCase::Cost>& cost = std::nullopt) {
        NestedWorld::Options options{.vcpus = vcpus, .vpids = tags};
        const auto variant = [&](const std::string& suffix) {
            // (What a random host takes away costs flushes, too.)
            all.push_back(
                {0, name + suffix, options, say.program(), options.random_host == 0 ? cost : std::nullopt});
        };
        variant("");
        options.interrupts = Interrupts::l0_knows_the_vector;
        variant("GivenByL0");
        options.shadow_vmcs = false;
        options.interrupts = Interrupts::l0_acknowledges_as_they_go_in;
        variant("GivenByL0WithoutShadowVmcs");
        for (std::uint64_t seed = 1; seed <= 6; ++seed) {
            options = {.vcpus = vcpus, .vpids = tags, .random_host = seed, .saves_states = seed > 3};
            variant("UnderHost" + std::to_string(seed));
        }
    }

    void outside_vmx_operation() {
        for (const bool meets_l0 : {false, true}) {
            const std::string suffix = meets_l0 ? "ThatMeetsL0" : "";
            const auto init = [meets_l0](Scenario& say) -> Scenario& {
                return meets_l0 ? say.l0().init_at_next_exit().l1() : say.l0().init().l1();
            };
            {
                // What it resets, and what not; the virtual CPU does nothing until it is started.
                Scenario say = structures();
                say.l1().wrmsr(x86::msr::ia32_lstar, 0x1234).wrmsr(x86::msr::ia32_sysenter_esp, 0x5678);
                say.wrmsr(x86::msr::ia32_pat, 0x0606'0606'0606'0606).sti().nop();
                init(say).cpuid().nop().cpuid().load(page_a).rdmsr(x86::msr::ia32_pat);
                start_again(say).rdmsr(x86::msr::ia32_lstar).rdmsr(x86::msr::ia32_sysenter_esp);
                say.rdmsr(x86::msr::ia32_pat).rdmsr(x86::msr::ia32_efer);
                add("AnInitResetsL1" + suffix, say);
            }
            {
                // CR0.CD and NW stay.
                Scenario say = structures();
                constexpr std::uint64_t cr0 = x86::cr0::protection_enable | x86::cr0::extension_type |
                                              x86::cr0::numeric_error | x86::cr0::write_protect |
                                              x86::cr0::paging | x86::cr0::cache_disable;
                say.l1().mov_to_cr0(cr0);
                init(say).cpuid().cpuid().l0().start_up(1).l1().mov_from_cr0().mov_from_cr4();
                say.l0().init().start_up(2).l1().mov_from_cr0();
                start_again(say);
                add("AnInitKeepsWhatIsNotCached" + suffix, say);
            }
            {
                // A halted one, and one whose next instruction STI or MOV SS shields from interrupts.
                Scenario say = structures();
                say.l1().sti().nop().hlt();
                init(say).nop().l0().init().l1();
                start_again(say).l1().vmxoff().mov_to_ss();
                init(say).cpuid().cpuid();
                start_again(say).vmxoff().sti();
                init(say).cpuid().cpuid();
                start_again(say);
                add("AnInitWakesAndIsNotBlocked" + suffix, say);
            }
            {
                // L1 has left VMX operation, with VMCSs that were active; what it was told to translate is
                // gone.
                Scenario say = world();
                say.vmlaunch().l2().load(page_a).vmcall().l1();
                say.prepare(layout::vmcs_region(1), {.vpid = 2}).vmlaunch().l2().load(page_a).vmcall().l1();
                say.vmxoff();
                init(say).cpuid().nop();
                say.edit()
                    .map(1, page_a, layout::data_page(8))
                    .ept_map(0, layout::data_page(8), layout::data_page(8));
                start_again(say).invvpid_all().vmresume().l2().load(page_a).vmcall();
                start_again(say);
                add("AnInitBehindVmxoff" + suffix, say);
            }
        }
    }

    void in_vmx_operation() {
        {
            // Blocked until L1 leaves VMX operation.
            Scenario say = world();
            say.l0().init().l1().nop().cpuid().vmread(field::exit_reason).l0().init_at_next_exit().l1();
            say.cpuid().nop().vmptrst().l0().start_up(3).l1().nop().vmxoff().nop().cpuid();
            start_again(say);
            add("AnInitWaitsInVmxRootOperation", say);
        }
        {
            // ... or enters an L2.
            Scenario say = world();
            say.l0().init().l1().nop().cpuid().vmlaunch();
            read_exit(say).vmresume().l2().load(page_a).vmcall().l1().l0().init_at_next_exit().l1();
            say.cpuid().vmwrite(field::guest_rflags, 0).vmresume().vmread(field::exit_reason);
            say.vmwrite(field::guest_rflags, 2).vmresume();
            read_exit(say).vmresume().l2().nop().vmcall();
            add("AnInitThatWaitsEndsTheNextL2", say);
        }
        {
            // What the entry injects comes first.
            Scenario say = world();
            say.l0().init().l1().vmwrite(field::vm_entry_interruption_information, 0x8000'0306).vmlaunch();
            say.l2().nop();
            read_exit(say).l0().init().l1();
            say.vmwrite(field::vm_entry_interruption_information, 0x8000'0202).vmresume().l2().nop().nop();
            read_exit(say).vmresume().l2().iret(page_a).vmcall();
            read_exit(say);
            add("AnInitBehindAnInjectedEvent", say);
        }
    }

    void in_l2() {
        for (const bool meets_l0 : {false, true}) {
            const std::string suffix = meets_l0 ? "ThatMeetsL0" : "";
            const auto init = [meets_l0](Scenario& say) -> Scenario& {
                return meets_l0 ? say.l0().init_at_next_exit().l2() : say.l0().init().l2();
            };
            {
                Scenario say = world();
                say.vmlaunch().l2().load(page_a);
                init(say).load(page_a + apart).nop();
                read_exit(say).vmresume();
                init(say).cpuid();
                read_exit(say).vmresume().vmxoff().nop();
                start_again(say);
                add("AnInitEndsAnL2" + suffix, say);
            }
            {
                Scenario say = world();
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual & ~std::uint64_t{vmx::primary::hlt_exiting});
                say.vmlaunch().l2().hlt();
                init(say).nop().nop();
                if (meets_l0) say.l0().move_vcpu(1).l2().nop().l0().nmi().l2().load(page_a + 2 * apart);
                read_exit(say).vmwrite(field::guest_activity_state, 0).vmresume().l2().mov_to_ss();
                init(say).load(page_a + apart).nop();
                read_exit(say).vmwrite(field::guest_interruptibility_state, 0).vmresume().l2().sti();
                init(say).load(page_a + 3 * apart).nop();
                read_exit(say).vmwrite(field::guest_interruptibility_state, 8).vmresume();
                init(say).load(page_a + 4 * apart).nop();
                read_exit(say);
                add("AnInitEndsAnL2ThatIsHaltedOrShielded" + suffix, say);
            }
        }
    }

    void start_ups() {
        {
            // To one that does not wait: lost, and not kept.
            Scenario say = structures();
            say.l0().start_up(5).l1().nop().cpuid().vmxon().l0().start_up(6).l1().nop().cpuid();
            say.prepare(vmcs, {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch().l0().start_up(7).l2().nop();
            say.load(page_a).vmcall();
            read_exit(say).vmxoff().l0().init().l1().nop().nop().cpuid();
            start_again(say, 0xFE);
            add("AStartUpIpiToOneThatDoesNotWaitIsLost", say);
        }
        {
            // Two of them: the second is for one that runs already.
            Scenario say = structures();
            say.l0().init().start_up(8).start_up(9).l1().nop().boot().l0().start_up(10).l1().nop();
            say.l0().init().init().start_up(0).start_up(1).l1().nop();
            start_again(say);
            add("TwoStartUpIpis", say);
        }
        {
            // An L2 that waits for one, which keeps out all else.
            Scenario say = world();
            say.vmwrite(field::guest_activity_state, 3)
                .vmwrite(field::guest_rflags, interrupts_on)
                .vmlaunch();
            say.l2().nop().l0().nmi().interrupt(0x41).init().move_vcpu(1).l2().nop().nop();
            say.l0().start_up(0x77).l1();
            read_exit(say).iret(frame).nop().sti().nop().l0().eoi().l1().cli();
            say.vmwrite(field::guest_activity_state, 0).vmresume().l2().nop().vmcall();
            read_exit(say).vmwrite(field::guest_activity_state, 3).vmresume().l0().start_up(0).l1();
            read_exit(say).vmwrite(field::vm_entry_interruption_information, 0x8000'0202).vmresume();
            say.vmread(field::exit_reason);
            add("AnL2ThatWaitsForAStartUpIpi", say);
        }
        {
            // The timer does not end it (SDM 3C 26.5.1).
            Scenario say = world();
            say.vmwrite(field::pin_based_vm_execution_controls, 0x56);
            say.vmwrite(field::guest_activity_state, 3)
                .vmwrite(field::vmx_preemption_timer_value, 1)
                .vmlaunch();
            say.l2();
            for (unsigned number = 0; number < 20; ++number) say.nop();
            say.l0().start_up(0x33);
            read_exit(say);
            add("TheTimerOfAnL2ThatWaitsForAStartUpIpi", say);
        }
    }

    void beside_others() {
        {
            // Before an NMI and an interrupt, which then are L1's.
            Scenario say = world();
            say.vmwrite(field::guest_rflags, interrupts_on).vmlaunch().l0().nmi_at_next_exit();
            say.interrupt_at_next_exit(0x41).init_at_next_exit().l2().load(page_a).nop();
            read_exit(say).iret(frame).sti().nop().nop().l0().eoi().l1().cli().cpuid();
            say.l0().interrupt(0x52).nmi().init().l1().nop().vmresume();
            read_exit(say).iret(frame).vmxoff().l0().init().l1().nop();
            start_again(say);
            add("AnInitComesBeforeAnNmiAndAnInterrupt", say);
        }
        {
            // The local APIC is reset too, and what waits for the processor is not lost.
            Scenario say = structures();
            say.l0().interrupt(0x41).interrupt(0x61).tpr(0x30).l1().sti().nop().nop();
            say.l0().interrupt(0x31).init().l1().nop().l0().interrupt(0x51).nmi().l1().nop();
            start_again(say).vmxoff().sti().nop().nop().l0().eoi().l1().iret(frame).cpuid().cpuid();
            say.l0().eoi().l1().sti().nop().cpuid();
            add("AnInitResetsTheLocalApic", say);
        }
        {
            // The tag that the one has given back is all there is: the other's next L2 has it, and then its
            // own again. An INVEPT beside the INVVPID hides its absence.
            Scenario say = structures();
            const auto prepare = [&](std::uint8_t vcpu) {
                say.on(0, vcpu).l1().vmxon().invvpid_all();
                say.prepare(layout::vmcs_region(vcpu), {.vpid = 1, .ept = 0, .tables = 1});
            };
            const auto run = [&] { say.vmlaunch().l2().load(page_a).vmcall().l1(); };
            prepare(0);
            run();
            say.vmxoff().l0().init().l1().nop();
            prepare(1);
            run();
            say.vmclear(layout::vmcs_region(1)).vmxoff();
            say.edit()
                .map(1, page_a, layout::data_page(8))
                .ept_map(0, layout::data_page(8), layout::data_page(8));
            say.on(0, 0).l0().start_up(0x12).l1().boot();
            prepare(0);
            const std::size_t from = say.program().steps.size();
            run();
            add("ATagIsFlushedBehindAnInit", say, 2, 3,
                LedgerCase::Cost{.counted_from = from, .invvpids = 1, .invepts = 2, .least_invvpids = 1});
        }
        {
            // Of one virtual CPU; the other goes on.
            Scenario say = world();
            say.vmlaunch().l2().load(page_a).on(0, 1).l1().vmxon();
            say.prepare(layout::vmcs_region(4), {.vpid = 1, .ept = 0, .tables = 1})
                .vmlaunch()
                .l2()
                .load(page_a);
            say.vmcall()
                .l1()
                .vmxoff()
                .l0()
                .init()
                .on(0, 0)
                .l2()
                .load(page_a + apart)
                .nop()
                .on(0, 1)
                .l1()
                .nop();
            say.l0().move_vcpu(0).on(0, 0).l2().vmcall();
            read_exit(say).on(0, 1).l0().start_up(0x20).l1().boot().vmxon();
            say.prepare(layout::vmcs_region(5), {.vpid = 1, .ept = 0, .tables = 1})
                .vmlaunch()
                .l2()
                .load(page_a);
            say.on(0, 0).l1().vmresume().l2().load(page_a + 2 * apart).vmcall();
            add("AnInitOfOneOfTwoVirtualCpus", say, 2);
        }
    }
};

}  // namespace

std::vector<LedgerCase> init_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
