// External interrupts on the machine, by the SDM: the local APIC's priorities, what blocks an interrupt,
// exits with the vector and without, windows, HLT.
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "machine/cpu/local_apic.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine::interrupt_test {
namespace {

namespace field = vmx::field;

using Vector = std::optional<std::uint8_t>;
using Vectors = std::vector<std::uint8_t>;

constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t pin_default1 = 0x16;
constexpr std::uint64_t interrupts_exit = pin_default1 | vmx::pin::external_interrupt_exiting;
constexpr std::uint64_t interrupts_on = 0x202;

TEST(LocalApic, GivesTheHighestRequestFirst) {
    LocalApic apic;
    EXPECT_EQ(apic.pending(), Vector{});
    for (const std::uint8_t vector : Vectors{0x31, 0xFF, 0x10, 0x80, 0x7F}) apic.request(vector);
    for (const std::uint8_t vector : Vectors{0xFF, 0x80, 0x7F, 0x31, 0x10}) {
        EXPECT_EQ(apic.pending(), Vector{vector});
        EXPECT_EQ(apic.acknowledge(), vector);
        EXPECT_TRUE(apic.is_in_service(vector));
        EXPECT_FALSE(apic.is_requested(vector));
        apic.end_of_interrupt();
        EXPECT_FALSE(apic.is_in_service(vector));
    }
    EXPECT_EQ(apic.pending(), Vector{});
}

TEST(LocalApic, KeepsOutTheClassThatIsInServiceAndThoseBelow) {
    LocalApic apic;
    apic.request(0x45);
    apic.acknowledge();
    for (const std::uint8_t vector : Vectors{0x4F, 0x45, 0x30}) apic.request(vector);
    EXPECT_EQ(apic.pending(), Vector{});
    apic.request(0x50);
    EXPECT_EQ(apic.acknowledge(), 0x50);
    apic.end_of_interrupt();
    EXPECT_EQ(apic.pending(), Vector{}) << "0x45 is in service still";
    apic.end_of_interrupt();
    EXPECT_EQ(apic.pending(), Vector{0x4F});
}

TEST(LocalApic, KeepsOutTheClassOfTheTaskPriorityAndThoseBelow) {
    LocalApic apic;
    apic.request(0x45);
    for (const unsigned priority : {0x40U, 0x4FU, 0x50U, 0xFFU}) {
        apic.set_task_priority(static_cast<std::uint8_t>(priority));
        EXPECT_EQ(apic.pending(), Vector{}) << priority;
    }
    apic.set_task_priority(0x3F);
    EXPECT_EQ(apic.pending(), Vector{0x45});
}

TEST(LocalApic, TakesNoIllegalVectorAndOneOfEachOther) {
    LocalApic apic;
    for (unsigned vector = 0; vector < 16; ++vector) apic.request(static_cast<std::uint8_t>(vector));
    EXPECT_EQ(apic, LocalApic{});
    apic.request(0x20);
    apic.request(0x20);
    apic.acknowledge();
    apic.end_of_interrupt();
    EXPECT_EQ(apic, LocalApic{});
}

class Interrupt : public testing::Test {
protected:
    Interrupt() : runner_(world_) {}

    Observation run(const Scenario& say) { return runner_.run(say.program()).back(); }
    Observation nop(Actor actor = Actor::l1) {
        Scenario say;
        return run((actor == Actor::l1 ? say.l1() : say.l2()).nop());
    }
    void come(std::uint8_t vector) {
        Scenario say;
        run(say.l0().interrupt(vector));
    }
    [[nodiscard]] bool in_service(std::uint8_t vector) const {
        return world_.local_apic(0, 0).is_in_service(vector);
    }
    [[nodiscard]] bool interrupts_are_on() {
        return (world_.registers(0, 0).rflags & x86::rflags::interrupt_enable) != 0;
    }
    /// L2 runs.
    void launch(std::uint64_t pin, std::uint64_t rflags, std::uint64_t primary = 0, bool acknowledges = false,
                std::uint64_t event = 0, std::uint64_t activity = 0) {
        Scenario say;
        say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon().prepare(vmcs, {.vpid = 1, .tables = 1});
        say.vmwrite(field::pin_based_vm_execution_controls, pin).vmwrite(field::guest_rflags, rflags);
        say.vmwrite(field::primary_processor_based_vm_execution_controls, 0x8400'6172 | primary);
        say.vmwrite(field::vm_exit_controls,
                    0x33'6FFB | (acknowledges ? vmx::exit_control::acknowledge_interrupt_on_exit : 0));
        say.vmwrite(field::vm_entry_interruption_information, event);
        say.vmwrite(field::guest_activity_state, activity).vmlaunch();
        ASSERT_EQ(run(say).status, Observation::Status::entry);
    }
    std::uint64_t read(auto what) {
        Scenario say;
        return run(say.l1().vmread(what)).value;
    }

    BareWorld world_;
    Runner runner_;
};

TEST_F(Interrupt, WaitsForIfAndTheInstructionBehindSti) {
    come(0x31);
    EXPECT_EQ(nop().interrupt, Vector{});
    Scenario say;
    EXPECT_EQ(run(say.l1().sti()).interrupt, Vector{});
    EXPECT_FALSE(in_service(0x31));
    EXPECT_EQ(nop().interrupt, Vector{0x31});
    EXPECT_TRUE(in_service(0x31));
    EXPECT_FALSE(interrupts_are_on()) << "through an interrupt gate";
    EXPECT_EQ(nop().interrupt, Vector{}) << "and no other";
}

TEST_F(Interrupt, CliBehindStiAndMovSsKeepItOut) {
    come(0x31);
    Scenario cli;
    EXPECT_EQ(run(cli.l1().sti().cli()).interrupt, Vector{});
    EXPECT_EQ(nop().interrupt, Vector{});
    Scenario mov_ss;
    EXPECT_EQ(run(mov_ss.l1().sti().mov_to_ss()).interrupt, Vector{0x31})
        << "of blocking in a row only the first counts";
    Scenario on;
    run(on.l0().eoi().l1().sti().nop().mov_to_ss());
    come(0x32);
    EXPECT_FALSE(in_service(0x32));
    EXPECT_EQ(nop().interrupt, Vector{0x32});
}

TEST_F(Interrupt, ComesBehindAnNmi) {
    Scenario say;
    run(say.l0().nmi().nmi().interrupt(0x31).l1().sti());
    Scenario iret;
    const Observation seen = run(iret.l1().iret(layout::scratch(7)));
    EXPECT_TRUE(seen.nmi);
    EXPECT_EQ(seen.interrupt, Vector{0x31}) << "NMIs leave IF as it is";
}

TEST_F(Interrupt, InNonRootOperationIsDeliveredWhereNobodyWantsTheExit) {
    launch(pin_default1, interrupts_on);
    come(0x31);
    EXPECT_EQ(world_.running(0, 0), Actor::l2);
    EXPECT_TRUE(in_service(0x31));
    EXPECT_FALSE(interrupts_are_on());
}

TEST_F(Interrupt, ExitsWhateverIfIs) {
    for (const std::uint64_t rflags : {std::uint64_t{2}, interrupts_on}) {
        launch(interrupts_exit, rflags);
        come(0x31);
        ASSERT_EQ(world_.running(0, 0), Actor::l1);
        EXPECT_EQ(read(field::exit_reason), 1U);
        EXPECT_EQ(read(field::vm_exit_interruption_information), 0U);
        EXPECT_FALSE(in_service(0x31)) << "nobody has acknowledged it";
        Scenario say;
        run(say.l1().vmxoff().sti());
        EXPECT_EQ(nop().interrupt, Vector{0x31});
        Scenario done;
        run(done.l0().eoi());
    }
}

TEST_F(Interrupt, ExitsWithItsVectorWhereTheExitAcknowledges) {
    launch(interrupts_exit, 2, 0, true);
    come(0x31);
    EXPECT_EQ(read(field::exit_reason), 1U);
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'0031U);
    EXPECT_TRUE(in_service(0x31));
}

TEST_F(Interrupt, StiAndMovSsKeepOutItsExitToo) {
    launch(interrupts_exit, 2);
    for (const bool sti : {true, false}) {
        Scenario say;
        say.l2();
        if (sti) {
            say.sti();
        } else {
            say.mov_to_ss();
        }
        run(say);
        come(0x31);
        ASSERT_EQ(world_.running(0, 0), Actor::l2);
        EXPECT_EQ(nop(Actor::l2).status, Observation::Status::exit);
        EXPECT_EQ(read(field::guest_interruptibility_state), 0U);
        Scenario again;
        run(again.l1().sti().nop().l0().eoi().l1().vmresume());
    }
}

TEST_F(Interrupt, WakesWhoIsHaltedAndTheExitSaysThatItWas) {
    Scenario say;
    run(say.l1().sti().nop().hlt());
    EXPECT_EQ(nop().status, Observation::Status::idle);
    come(0x31);
    EXPECT_EQ(nop().status, Observation::Status::done);
    launch(interrupts_exit, interrupts_on);
    Scenario halt;
    run(halt.l0().eoi().l2().hlt());
    come(0x32);
    EXPECT_EQ(read(field::guest_activity_state), 1U);
}

TEST_F(Interrupt, DoesNotWakeWhoHasIfOff) {
    Scenario say;
    run(say.l1().hlt());
    come(0x31);
    EXPECT_EQ(nop().status, Observation::Status::idle);
}

TEST_F(Interrupt, AWindowOfItsOwnComesBeforeIt) {
    launch(interrupts_exit, interrupts_on, vmx::primary::interrupt_window_exiting);
    come(0x31);
    ASSERT_EQ(world_.running(0, 0), Actor::l2);
    EXPECT_EQ(nop(Actor::l2).exit.reason, 7U);
}

TEST_F(Interrupt, AWindowWakesWhoIsHalted) {
    launch(pin_default1, interrupts_on, vmx::primary::interrupt_window_exiting, false, 0, 1);
    EXPECT_EQ(nop(Actor::l2).exit.reason, 7U);
    EXPECT_EQ(read(field::guest_activity_state), 1U);
}

TEST_F(Interrupt, AnInjectedOneIsDeliveredWithoutTheApic) {
    launch(interrupts_exit, interrupts_on, 0, false, 0x8000'0077, 1);
    EXPECT_FALSE(in_service(0x77));
    EXPECT_FALSE(interrupts_are_on());
    EXPECT_EQ(nop(Actor::l2).status, Observation::Status::done) << "and it wakes";
}

}  // namespace
}  // namespace flatback::machine::interrupt_test
