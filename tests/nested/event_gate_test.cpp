// When a guest takes what its host has, in every state that decides it: the rules of the SDM one by one, each
// as it is written there.
#include "nested/event_gate.hpp"

#include <gtest/gtest.h>

#include <array>

#include "nested/events.hpp"
#include "nested/pending_events.hpp"

namespace flatback::nested_test::event_gate_test {
namespace {

using nested::Event;
using nested::EventGate;
using nested::EventKind;
using nested::EventWay;
using nested::Window;
using vmx::ActivityState;
using vmx::InterruptionInformation;
namespace bit = vmx::interruptibility;
namespace debug = vmx::pending_debug;
namespace pin = vmx::pin;

// What is told of a gate in words of its own.
struct Situation {
    EventGate gate;
    bool injects;  // the entry has an event
    bool by_sti;
    bool by_mov_ss;
    bool by_nmi;  // blocking by NMI, or by virtual NMIs
    bool debug_due;
    bool nmi_exiting;
    bool virtual_nmis;
    bool interrupt_exiting;
};

template <typename Check>
void for_each_situation(Check&& check) {
    constexpr std::array<std::uint32_t, 4> events{0, 0x8000'0030, 0x8000'0202, 0x8000'0b0d};
    constexpr std::array<std::uint32_t, 5> blockings{0, bit::blocking_by_sti, bit::blocking_by_mov_ss,
                                                     bit::blocking_by_nmi,
                                                     bit::blocking_by_nmi | bit::blocking_by_sti};
    constexpr std::array<std::uint64_t, 4> debugs{0, debug::single_step, debug::enabled_breakpoint, 1};
    constexpr std::array<std::uint32_t, 6> pins{
        0,
        pin::nmi_exiting,
        pin::nmi_exiting | pin::virtual_nmis,
        pin::external_interrupt_exiting,
        pin::external_interrupt_exiting | pin::nmi_exiting,
        pin::external_interrupt_exiting | pin::nmi_exiting | pin::virtual_nmis};
    for (const std::uint32_t event : events)
        for (const std::uint32_t blocking : blockings)
            for (const std::uint64_t pending : debugs)
                for (unsigned activity = 0; activity < 4; ++activity)
                    for (const std::uint32_t controls : pins)
                        for (unsigned bits = 0; bits < 32; ++bits) {
                            const bool in_l2 = (bits & 1) != 0;
                            if (!in_l2 && controls != 0) continue;
                            const EventGate gate{.waiting = {event},
                                                 .interruptibility = blocking,
                                                 .activity = static_cast<ActivityState>(activity),
                                                 .pending_debug = pending,
                                                 .interrupts_enabled = (bits & 2) != 0,
                                                 .machine_checks_enabled = (bits & 4) != 0,
                                                 .in_l2 = in_l2,
                                                 .in_vmx_operation = in_l2 || (bits & 8) != 0,
                                                 .pin_based = controls,
                                                 .exception_bitmap = in_l2 && (bits & 8) != 0 ? 1U << 18 : 0,
                                                 .has_nmi_window = (bits & 16) != 0};
                            check(Situation{
                                .gate = gate,
                                .injects = event != 0,
                                .by_sti = (blocking & bit::blocking_by_sti) != 0,
                                .by_mov_ss = (blocking & bit::blocking_by_mov_ss) != 0,
                                .by_nmi = (blocking & bit::blocking_by_nmi) != 0,
                                .debug_due = pending > 1,
                                .nmi_exiting = (controls & pin::nmi_exiting) != 0,
                                .virtual_nmis = (controls & pin::virtual_nmis) != 0,
                                .interrupt_exiting = (controls & pin::external_interrupt_exiting) != 0});
                        }
}

// SDM 3C 26.2: an NMI exits where NMI exiting is 1, and is otherwise delivered; in table 25-3 what blocks it.
TEST(EventGate, AnNmiWaitsForWhatBlocksItAndForNothingElse) {
    for_each_situation([](const Situation& it) {
        const bool blocked = (it.by_nmi && !it.virtual_nmis) || it.by_mov_ss || it.by_sti ||
                             it.gate.activity == ActivityState::wait_for_sipi;
        const auto decision = it.gate.decide(EventKind::nmi);
        ASSERT_EQ(decision.way == EventWay::waits, blocked || it.injects || it.debug_due);
        if (decision.way != EventWay::waits) {
            ASSERT_EQ(decision.way, it.nmi_exiting ? EventWay::exit : EventWay::injected);
        }
    });
}

// SDM 3C 25.6.1, 26.2: with external-interrupt exiting RFLAGS.IF does not block.
TEST(EventGate, AnInterruptWaitsForWhatBlocksItAndForNothingElse) {
    for_each_situation([](const Situation& it) {
        const bool blocked = it.by_mov_ss || it.by_sti || it.gate.activity == ActivityState::wait_for_sipi ||
                             it.gate.activity == ActivityState::shutdown ||
                             (!it.interrupt_exiting && !it.gate.interrupts_enabled);
        const auto decision = it.gate.decide(EventKind::external_interrupt);
        ASSERT_EQ(decision.way == EventWay::waits, blocked || it.injects || it.debug_due);
        if (decision.way != EventWay::waits) {
            ASSERT_EQ(decision.way, it.interrupt_exiting ? EventWay::exit : EventWay::injected);
        }
    });
}

// SDM 3C 26.2: the exit for a window comes before an external interrupt, and L1 waits for one itself.
TEST(EventGate, AnInterruptWaitsForL1sWindowThatIsOpen) {
    for_each_situation([](const Situation& it) {
        if (!it.gate.in_l2) return;
        const bool blocked = it.injects || it.by_sti || it.by_mov_ss || it.debug_due ||
                             it.gate.activity == ActivityState::wait_for_sipi ||
                             it.gate.activity == ActivityState::shutdown;
        const auto without = it.gate.decide(EventKind::external_interrupt);
        EventGate gate = it.gate;
        gate.primary_processor_based = vmx::primary::interrupt_window_exiting;
        const bool open = it.gate.interrupts_enabled && !blocked;
        ASSERT_EQ(gate.decide(EventKind::external_interrupt), open ? nested::EventDecision{} : without);
        gate.primary_processor_based = vmx::primary::nmi_window_exiting;
        const bool nmis_open = !it.by_nmi && !blocked;
        ASSERT_EQ(gate.decide(EventKind::external_interrupt), nmis_open ? nested::EventDecision{} : without);
    });
}

TEST(EventGate, AnNmiWaitsForL1sNmiWindowThatIsOpen) {
    for_each_situation([](const Situation& it) {
        if (!it.gate.in_l2 || !it.virtual_nmis) return;
        const auto without = it.gate.decide(EventKind::nmi);
        EventGate gate = it.gate;
        gate.primary_processor_based = vmx::primary::interrupt_window_exiting;
        ASSERT_EQ(gate.decide(EventKind::nmi), without) << "which comes behind an NMI";
        gate.primary_processor_based = vmx::primary::nmi_window_exiting;
        const bool open = !it.by_nmi && without.way != EventWay::waits;
        ASSERT_EQ(gate.decide(EventKind::nmi), open ? nested::EventDecision{} : without);
    });
}

// An interrupt gate clears RFLAGS.IF, so that no interrupt window would tell of an exit that needs no IF.
// SDM 3C 27.7.4: before an NMI and an interrupt, and behind INIT and a machine check.
TEST(EventGate, AnNmiAndAnInterruptWaitForTheEndOfL1sTimer) {
    for_each_situation([](Situation it) {
        if (!it.gate.in_l2) return;
        const auto before = it.gate;
        it.gate.l1s_timer_has_ended = true;
        for (const EventKind kind : {EventKind::nmi, EventKind::external_interrupt})
            EXPECT_EQ(it.gate.decide(kind), nested::EventDecision{}) << "no window: the exit comes by itself";
        for (const EventKind kind : {EventKind::init, EventKind::machine_check})
            EXPECT_EQ(it.gate.decide(kind), before.decide(kind));
    });
}

TEST(EventGate, AnExitBehindAnEventDoesNotWaitForIf) {
    for_each_situation([](const Situation& it) {
        const bool clears_if = it.injects && it.gate.waiting != InterruptionInformation::nmi();
        if (!it.interrupt_exiting || !clears_if) return;
        const auto decision = it.gate.decide(EventKind::external_interrupt);
        if (decision.way != EventWay::waits || decision == nested::EventDecision{}) return;
        const bool has_the_other = it.gate.has_nmi_window && !it.nmi_exiting && !it.by_nmi;
        ASSERT_EQ(decision.window, has_the_other ? Window::nmis : Window::interrupts);
    });
}

// An NMI goes in with RFLAGS.IF as it is, and the other window would open behind its handler.
TEST(EventGate, AnExitBehindAnNmiWaitsForNoIret) {
    unsigned seen = 0;
    for_each_situation([&seen](const Situation& it) {
        if (!it.interrupt_exiting || !it.gate.interrupts_enabled ||
            it.gate.waiting != InterruptionInformation::nmi())
            return;
        const auto decision = it.gate.decide(EventKind::external_interrupt);
        if (decision == nested::EventDecision{}) return;
        ASSERT_EQ(decision, (nested::EventDecision{EventWay::waits, Window::interrupts}));
        ++seen;
    });
    EXPECT_GT(seen, 100U);
}

// SDM 3C 27.7.4: at once, and so not where an instruction has to be executed first.
TEST(EventGate, TheTimerTellsOfTheEndOfADeliveryWhereNoWindowOfL0sDoes) {
    for_each_situation([](Situation it) {
        if (!it.gate.in_l2) return;
        const EventGate without = it.gate;
        it.gate.has_timer = true;
        const bool in_shadow = !it.injects && (it.by_sti || it.by_mov_ss);
        for (unsigned number = 0; number < nested::event_kinds; ++number) {
            const auto kind = static_cast<EventKind>(number);
            const auto decision = it.gate.decide(kind);
            ASSERT_EQ(decision.way, without.decide(kind).way);
            if (decision.window != Window::behind_delivery) {
                ASSERT_EQ(decision, without.decide(kind));
                // What an interrupt waits for is RFLAGS.IF, or its window tells it in time; an NMI has its
                // own.
                const bool is_kept = it.gate.waiting.is_valid() || (it.debug_due && !in_shadow);
                if (decision.way != EventWay::waits || decision.window == Window::none || !is_kept) continue;
                if (kind == EventKind::external_interrupt) {
                    ASSERT_FALSE(it.interrupt_exiting);
                } else {
                    ASSERT_EQ(kind, EventKind::nmi);
                    ASSERT_EQ(decision.window, Window::nmis);
                }
                continue;
            }
            ASSERT_TRUE(it.injects || it.debug_due);
            ASSERT_FALSE(in_shadow) << "it would exit without end";
        }
    });
}

// SDM 3C 24.8, 26.2.
TEST(EventGate, AnInitSignalIsL2sExitAndL1sReset) {
    for_each_situation([](const Situation& it) {
        const auto decision = it.gate.decide(EventKind::init);
        if (!it.gate.in_vmx_operation) {
            ASSERT_EQ(decision.way, EventWay::reset);
        } else if (!it.gate.in_l2 || it.gate.activity == ActivityState::wait_for_sipi) {
            ASSERT_EQ(decision, nested::EventDecision{}) << "blocked, and no exit tells when no longer";
        } else {
            ASSERT_EQ(decision.way, it.injects ? EventWay::waits : EventWay::exit);
        }
    });
}

// SDM 3C 26.2: discarded but in wait-for-SIPI.
TEST(EventGate, AStartUpIpiReachesAProcessorThatWaitsForIt) {
    for_each_situation([](const Situation& it) {
        const bool waits = it.gate.activity == ActivityState::wait_for_sipi;
        const EventWay expected = !it.gate.in_vmx_operation ? EventWay::reset
                                  : it.gate.in_l2 && waits  ? EventWay::exit
                                                            : EventWay::discarded;
        ASSERT_EQ(it.gate.decide(EventKind::start_up).way, expected);
    });
}

// SDM 3B 16.1, 3C 26.2: nothing masks it.
TEST(EventGate, AMachineCheckIsBlockedByNothing) {
    for_each_situation([](const Situation& it) {
        const auto decision = it.gate.decide(EventKind::machine_check);
        const bool exits = it.gate.exception_bitmap != 0;
        if (it.injects || it.gate.activity == ActivityState::wait_for_sipi) {
            ASSERT_EQ(decision.way, EventWay::waits);
        } else if (!it.gate.machine_checks_enabled) {
            ASSERT_EQ(decision.way, EventWay::shutdown);
        } else if (exits) {
            ASSERT_EQ(decision.way, EventWay::exit) << "which saves a debug exception that is due";
        } else {
            ASSERT_EQ(decision.way, it.debug_due ? EventWay::waits : EventWay::injected);
        }
    });
}

// SDM 3C 26.2 and 27.3.1.5: a window that the guest's hypervisor would notice, that would be open at once, or
// in which the entry would be refused, is not opened.
TEST(EventGate, OpensNoWindowThatDoesHarm) {
    for_each_situation([](const Situation& it) {
        for (unsigned kind = 0; kind < nested::event_kinds; ++kind) {
            const auto decision = it.gate.decide(static_cast<EventKind>(kind));
            if (decision.way != EventWay::waits) {
                ASSERT_EQ(decision.window, Window::none);
            }
            if (decision.window != Window::nmis) continue;
            ASSERT_TRUE(it.gate.has_nmi_window);
            ASSERT_FALSE(it.nmi_exiting) << "L1's choice of virtual NMIs is not the host's";
            ASSERT_FALSE(it.by_nmi && it.gate.waiting == InterruptionInformation::nmi())
                << "with virtual NMIs such an entry is refused";
            ASSERT_FALSE(it.by_sti && !it.injects && !it.by_nmi);
        }
    });
}

// Where the guest takes interrupts in the end, each wait ends by an exit.
TEST(EventGate, TellsWhenWhatWaitsCanBeGiven) {
    for_each_situation([](const Situation& it) {
        if (it.gate.activity != ActivityState::active && it.gate.activity != ActivityState::hlt) return;
        const auto interrupt = it.gate.decide(EventKind::external_interrupt);
        if (interrupt.way == EventWay::waits) {
            ASSERT_NE(interrupt.window, Window::none);
        }
        const auto nmi = it.gate.decide(EventKind::nmi);
        if (nmi.way == EventWay::waits && !it.by_nmi) {
            ASSERT_NE(nmi.window, Window::none);
        }
        const auto check = it.gate.decide(EventKind::machine_check);
        if (check.way == EventWay::waits) {
            ASSERT_NE(check.window, Window::none);
        }
    });
}

// --- the saved RFLAGS

TEST(ResumeFlag, IsSetByFaultsAlone) {
    // Table 6-1: #DE, #BR to #NM, #TS to #PF, #MF, #AC, #XM, #VE, #CP are faults.
    for (const unsigned fault : {0U, 5U, 6U, 7U, 10U, 11U, 12U, 13U, 14U, 16U, 17U, 19U, 20U, 21U})
        EXPECT_TRUE(nested::sets_resume_flag(static_cast<std::uint8_t>(fault))) << fault;
    for (const unsigned other : {1U, 2U, 3U, 4U, 8U, 18U, 32U, 33U, 63U, 64U, 128U, 255U})
        EXPECT_FALSE(nested::sets_resume_flag(static_cast<std::uint8_t>(other))) << other;
}

// --- the queue

TEST(PendingEvents, KeepsTheKindAsLongAsAnyVectorWaits) {
    for (unsigned waits = 0; waits < 256; waits += 17) {  // in each of its words
        nested::PendingEvents events;
        events.add(Event::interrupt(static_cast<std::uint8_t>(waits)));
        events.add(Event::interrupt(0x99));
        events.remove(Event::interrupt(0x99));
        EXPECT_EQ(events.first(EventKind::external_interrupt) != std::nullopt, waits != 0x99) << waits;
    }
}

TEST(PendingEvents, KeepsOneOfEachKindAndOneInterruptAVector) {
    nested::PendingEvents events;
    EXPECT_TRUE(events.empty());
    for (int n = 0; n < 2; ++n) {
        events.add(Event::nmi());
        events.add(Event::init());
        events.add(Event::machine_check());
        events.add(Event::interrupt(0x20));
    }
    for (const Event& event : {Event::nmi(), Event::init(), Event::machine_check(), Event::interrupt(0x20)}) {
        EXPECT_EQ(events.first(event.kind), event);
        events.remove(event);
        EXPECT_FALSE(events.has(event.kind));
    }
    EXPECT_TRUE(events.empty());
}

TEST(PendingEvents, GivesTheHighestVectorFirstAndThenWhatIsToBeAcknowledged) {
    nested::PendingEvents events;
    for (const unsigned vector : {0x20U, 0xffU, 0x41U, 0U})
        events.add(Event::interrupt(static_cast<std::uint8_t>(vector)));
    events.add(Event::interrupt_to_acknowledge());
    for (const unsigned vector : {0xffU, 0x41U, 0x20U, 0U}) {
        const auto first = events.first(EventKind::external_interrupt);
        ASSERT_EQ(first, Event::interrupt(static_cast<std::uint8_t>(vector)));
        events.remove(*first);
    }
    EXPECT_EQ(events.first(EventKind::external_interrupt), Event::interrupt_to_acknowledge());
    events.remove(Event::interrupt(0x20));
    EXPECT_FALSE(events.empty()) << "another of the kind";
    events.remove(Event::interrupt_to_acknowledge());
    EXPECT_TRUE(events.empty());
}

TEST(PendingEvents, KeepsTheLastStartUpAddress) {
    nested::PendingEvents events;
    events.add(Event::start_up(0x10));
    events.add(Event::start_up(0x9f));
    EXPECT_EQ(events.first(EventKind::start_up), Event::start_up(0x9f));
    events.clear();
    EXPECT_TRUE(events.empty());
}

}  // namespace
}  // namespace flatback::nested_test::event_gate_test
