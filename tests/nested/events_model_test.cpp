// Events of every kind, L1's own injections, interrupted deliveries and entries that fail, in any order,
// beside a model of a processor that has the same and no L0: each event reaches the guest that it reaches
// there, when it does there, once.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::events_model_test {
namespace {

using nested::Event;
namespace bit = vmx::interruptibility;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint32_t nmi_event = 0x8000'0202;
constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t general_protection_event = 0x8000'0b0d;
constexpr std::uint64_t interrupts_on = x86::rflags::interrupt_enable;
constexpr std::uint8_t controllers_vector = 0x77;

// A processor, in so far as it takes events.
struct Model {
    // What has come and was not taken.
    bool machine_check = false;
    bool init = false;
    bool nmi = false;
    std::set<std::uint8_t> interrupts;  // acknowledged
    bool line = false;                  // of the interrupt controller, which has an interrupt
    // L1's controls for L2.
    bool nmi_exits = false;
    bool virtual_nmis = false;
    bool interrupt_exits = false;
    bool acknowledges = false;
    bool machine_check_exits = false;
    // What the guests took through their IDTs.
    std::vector<std::uint8_t> by_l1;
    std::vector<std::uint8_t> by_l2;

    struct Guest {
        bool is_l2 = false;
        bool delivers = false;      // the entry injects an event
        bool shadow = false;        // STI or MOV SS
        bool nmis_blocked = false;  // by the bit, whatever it means
        bool interrupts = false;    // RFLAGS.IF
        bool debug_due = false;
    };

    [[nodiscard]] bool has_interrupt() const { return line || !interrupts.empty(); }
    std::uint8_t take_interrupt() {
        if (interrupts.empty()) {
            line = false;
            return controllers_vector;
        }
        const std::uint8_t vector = *interrupts.rbegin();
        interrupts.erase(vector);
        return vector;
    }

    // At an entry into the guest: the exit that comes in its place, and what was injected besides.
    std::optional<ExitReason> enter(Guest& guest) {
        std::vector<std::uint8_t>& taken = guest.is_l2 ? by_l2 : by_l1;
        const auto inject = [&](std::uint8_t vector) {
            taken.push_back(vector);
            guest.delivers = true;
        };
        // What a trap of the instruction before comes ahead of, and what blocks.
        const bool open = !guest.delivers && !guest.shadow && !guest.debug_due;
        if (machine_check && !guest.delivers) {
            if (guest.is_l2 && machine_check_exits) {
                machine_check = false;
                return ExitReason::exception_or_nmi;
            }
            if (!guest.debug_due) {
                machine_check = false;
                inject(18);
            }
        }
        if (init && guest.is_l2 && !guest.delivers) {
            init = false;
            return ExitReason::init_signal;
        }
        const bool masked = guest.nmis_blocked && !(guest.is_l2 && virtual_nmis);
        if (nmi && open && !guest.delivers && !masked) {
            nmi = false;
            if (guest.is_l2 && nmi_exits) return ExitReason::exception_or_nmi;
            inject(2);
        }
        if (has_interrupt() && open && !guest.delivers) {
            if (guest.is_l2 && interrupt_exits) {
                if (acknowledges) (void)take_interrupt();
                return ExitReason::external_interrupt;
            }
            if (guest.interrupts) inject(take_interrupt());
        }
        return std::nullopt;
    }
};

class EventsModel {
public:
    explicit EventsModel(bool shadow) : l1_{{.shadow_vmcs = shadow}} {
        l1_.has_one_queue = true;
        l1_.prepare();
        l1_.vmcs01().set(field::guest_cr4,
                         l1_.vmcs01().get(field::guest_cr4) | x86::cr4::machine_check_enable);
        for (const auto& cr4 : {field::host_cr4.encoding, field::guest_cr4.encoding})
            l1_.write_raw(cr4, l1_.read_raw(cr4) | x86::cr4::machine_check_enable);
        l1_.port.acknowledged_vector = controllers_vector;
    }

    void step() {
        switch (*rc::gen::inRange(0, 9)) {
            case 0:
            case 1:
            case 2:
                something_comes();
                break;
            case 3:
                if (!l1_.in_l2()) l1_sets_up_l2();
                break;
            case 4:
                if (!l1_.in_l2()) l1_executes();
                break;
            default:
                l1_.in_l2() ? l2_exits() : l1_enters_l2();
        }
        check();
    }

private:
    // While the test looks at L1's VMCS, or fills it, as L1: nothing comes in between.
    class Quiet {
    public:
        explicit Quiet(VirtualCpu& l1) : l1_(l1), events_(std::exchange(l1.events, {})) {}
        Quiet(const Quiet&) = delete;
        Quiet& operator=(const Quiet&) = delete;
        ~Quiet() { l1_.events = events_; }

    private:
        VirtualCpu& l1_;
        nested::PendingEvents events_;
    };
    [[nodiscard]] std::uint32_t read(const auto& which) {
        const Quiet quiet{l1_};
        return static_cast<std::uint32_t>(l1_.read(which));
    }

    static bool flip() { return *rc::gen::arbitrary<bool>(); }

    void something_comes() {
        switch (*rc::gen::inRange(0, 6)) {
            case 0:
                model_.machine_check = true;
                l1_.events.add(Event::machine_check());
                break;
            case 1:
                model_.init = true;
                l1_.events.add(Event::init());
                break;
            case 2:
                model_.nmi = true;
                l1_.events.add(Event::nmi());
                break;
            case 3:
                model_.line = true;
                l1_.events.add(Event::interrupt_to_acknowledge());
                break;
            case 4:
                l1_.events.add(Event::start_up(7));  // which nobody waits for
                break;
            default: {
                const auto vector = *rc::gen::element<std::uint8_t>(0x20, 0x21, 0x80, 0xff);
                model_.interrupts.insert(vector);
                l1_.events.add(Event::interrupt(vector));
            }
        }
    }

    void l1_sets_up_l2() {
        const Quiet quiet{l1_};
        model_.nmi_exits = flip();
        model_.virtual_nmis = model_.nmi_exits && flip();
        model_.interrupt_exits = flip();
        model_.acknowledges = flip();
        model_.machine_check_exits = flip();
        constexpr std::uint32_t pins =
            vmx::pin::nmi_exiting | vmx::pin::virtual_nmis | vmx::pin::external_interrupt_exiting;
        l1_.lower(field::pin_based_vm_execution_controls, pins);
        l1_.raise(field::pin_based_vm_execution_controls,
                  (model_.nmi_exits ? vmx::pin::nmi_exiting : 0) |
                      (model_.virtual_nmis ? vmx::pin::virtual_nmis : 0) |
                      (model_.interrupt_exits ? vmx::pin::external_interrupt_exiting : 0));
        l1_.lower(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
        if (model_.acknowledges)
            l1_.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
        l1_.write(field::exception_bitmap, model_.machine_check_exits ? 1U << 18 : 0);
    }

    // An instruction that L0 does for L1.
    void l1_executes() {
        if (flip()) l1_.vmcs01().set(field::guest_interruptibility_state, 0);  // an IRET before it
        l1_.extra_rflags = flip() ? interrupts_on : 0;
        Model::Guest guest = l1_as_it_runs();
        model_.enter(guest);
        RC_ASSERT(l1_.vmptrst() == vm_succeed);
    }
    [[nodiscard]] Model::Guest l1_as_it_runs() {
        return {.nmis_blocked =
                    (l1_.vmcs01().get(field::guest_interruptibility_state) & bit::blocking_by_nmi) != 0,
                .interrupts = l1_.extra_rflags != 0};
    }

    void l1_enters_l2() {
        const auto event = *rc::gen::element(0U, 0U, external_30, nmi_event, general_protection_event);
        auto state =
            *rc::gen::element(0U, 0U, bit::blocking_by_sti, bit::blocking_by_mov_ss, bit::blocking_by_nmi);
        bool interrupts = flip();
        // What VM entry would refuse (SDM 3C 27.3.1.5).
        if (event == nmi_event && state != 0) state = 0;
        if (event == external_30) interrupts = true;
        if (event == external_30 && state != bit::blocking_by_nmi) state = 0;
        if (state == bit::blocking_by_sti) interrupts = true;
        const bool debug = state == 0 && flip();
        {
            const Quiet quiet{l1_};
            l1_.write(field::vm_entry_interruption_information, event);
            l1_.write(field::guest_interruptibility_state, state);
            l1_.write(field::guest_rflags, x86::rflags::fixed_one | (interrupts ? interrupts_on : 0));
            l1_.write(field::guest_pending_debug_exceptions, debug ? vmx::pending_debug::single_step : 0);
        }
        l1_.extra_rflags = flip() ? interrupts_on : 0;
        l1_.refusal = any_refusal();
        Model::Guest l1s = l1_as_it_runs();
        Model::Guest guest = l2(event != 0, state, interrupts, debug);
        const auto refused = l1_.refusal;
        const Outcome outcome = launched_ ? l1_.vmresume() : l1_.vmlaunch();
        const bool entry_tried = refused && !l1_.refusal;
        l1_.refusal.reset();
        if (entry_tried) {
            // L1 finds itself behind its VMRESUME, or at its host RIP with interrupts off.
            if (*refused != VirtualCpu::Refusal::vmfail) l1s.interrupts = false;
            RC_ASSERT(outcome.kind == (*refused == VirtualCpu::Refusal::vmfail
                                           ? Outcome::Kind::failed_valid
                                           : Outcome::Kind::l1_sees_exit));
            if (*refused != VirtualCpu::Refusal::vmfail)
                RC_ASSERT(outcome != l1_sees(ExitReason::external_interrupt));
            entry_failed(guest);
            model_.enter(l1s);
            RC_ASSERT(read(field::vm_entry_interruption_information) == event);
            return;
        }
        entered(outcome, guest, state, event);
        launched_ = true;
    }

    // L2 has done something that L0 or L1 handles.
    void l2_exits() {
        FakeVmcs& v = l1_.vmcs02();
        auto state =
            *rc::gen::element(0U, 0U, bit::blocking_by_sti, bit::blocking_by_mov_ss, bit::blocking_by_nmi);
        bool interrupts = flip() || state == bit::blocking_by_sti;
        std::uint32_t vectoring = 0;
        if (state == 0) vectoring = *rc::gen::element(0U, external_30, nmi_event, general_protection_event);
        if (vectoring == external_30) interrupts = true;
        ExitReason reason = ExitReason::ept_violation;
        const auto primary = v.get(field::primary_processor_based_vm_execution_controls);
        const bool for_nmis = (primary & vmx::primary::nmi_window_exiting) != 0;
        const bool for_interrupts = (primary & vmx::primary::interrupt_window_exiting) != 0;
        if (for_nmis && flip()) {
            reason = ExitReason::nmi_window;
            state = vectoring = 0;
        } else if (for_interrupts && flip()) {
            reason = ExitReason::interrupt_window;
            interrupts = true;
            state &= bit::blocking_by_nmi;
            vectoring = 0;
        } else if (exits_behind_delivery() && flip()) {
            reason = ExitReason::vmx_preemption_timer_expired;
            state &= bit::blocking_by_nmi;
            vectoring = 0;
        }
        const bool debug =
            reason == ExitReason::ept_violation && vectoring == 0 && state == bit::blocking_by_sti && flip();
        if (vectoring == nmi_event) state = bit::blocking_by_nmi;
        v.set(field::guest_interruptibility_state, state);
        v.set(field::guest_rflags,
              x86::rflags::fixed_one | (interrupts ? interrupts_on : 0) | (debug ? x86::rflags::trap : 0));
        v.set(field::guest_pending_debug_exceptions, debug ? vmx::pending_debug::single_step : 0);
        v.set(field::guest_activity_state, 0);
        if (reason == ExitReason::ept_violation && flip()) {
            const Outcome outcome = l1_.l2_exits({.reason = ExitReason::cpuid, .vectoring = vectoring});
            RC_ASSERT(outcome == l1_sees(ExitReason::cpuid));
            RC_ASSERT(read(field::idt_vectoring_information) == vectoring);
            l1_goes_on(state, false);
            return;
        }
        l1_.refusal = any_refusal();
        const auto refused = l1_.refusal;
        const Outcome outcome = l1_.l2_exits({.reason = reason, .vectoring = vectoring});
        const bool entry_tried = refused && !l1_.refusal;
        l1_.refusal.reset();
        // The delivery of an NMI that begins again finds NMIs unblocked.
        const std::uint32_t now = vectoring == nmi_event ? 0 : state;
        Model::Guest guest = l2(vectoring != 0, now, interrupts, debug);
        if (entry_tried) {
            RC_ASSERT(outcome == l1_sees(ExitReason::triple_fault));
            entry_failed(guest);
            l1_goes_on(now, false);
            return;
        }
        entered(outcome, guest, now, vectoring);
    }

    // Nothing of it was delivered. What L0 had acknowledged for it stays so.
    void entry_failed(Model::Guest guest) {
        Model tried = model_;
        RC_ASSERT(!tried.enter(guest));
        if (model_.line && !tried.line) {
            model_.line = false;
            model_.interrupts.insert(controllers_vector);
        }
    }

    [[nodiscard]] static Model::Guest l2(bool delivers, std::uint32_t state, bool interrupts, bool debug) {
        return {.is_l2 = true,
                .delivers = delivers,
                .shadow = (state & (bit::blocking_by_sti | bit::blocking_by_mov_ss)) != 0,
                .nmis_blocked = (state & bit::blocking_by_nmi) != 0,
                .interrupts = interrupts,
                .debug_due = debug && !delivers};
    }

    // L1, at its host RIP: interrupts are off.
    void l1_goes_on(std::uint32_t l2_state, bool by_nmi) {
        Model::Guest guest{.nmis_blocked =
                               by_nmi || (!model_.virtual_nmis && (l2_state & bit::blocking_by_nmi) != 0)};
        model_.enter(guest);
    }

    // own: what the entry itself had to deliver.
    void entered(const Outcome& outcome, Model::Guest guest, std::uint32_t state, std::uint32_t own) {
        const bool had_machine_check = model_.machine_check;
        const bool had_line = model_.line && model_.interrupts.empty();
        const std::uint8_t highest =
            model_.interrupts.empty() ? controllers_vector : *model_.interrupts.rbegin();
        const std::size_t before = model_.by_l2.size();
        const auto exit = model_.enter(guest);
        if (!exit) {
            RC_ASSERT(outcome == l2_runs);
            if ((own & valid) != 0) {
                RC_ASSERT(l1_.injected() == own);
                model_.by_l2.insert(model_.by_l2.begin() + static_cast<std::ptrdiff_t>(before),
                                    static_cast<std::uint8_t>(own));
            }
            expect_windows(guest, state);
            return;
        }
        RC_ASSERT(outcome == l1_sees(*exit));
        const auto told = read(field::vm_exit_interruption_information);
        RC_ASSERT(read(field::idt_vectoring_information) == 0U);
        RC_ASSERT((read(field::vm_entry_interruption_information) & valid) == 0U);
        bool by_nmi = false;
        if (*exit == ExitReason::exception_or_nmi) {
            by_nmi = !(had_machine_check && !model_.machine_check);
            RC_ASSERT(told == (by_nmi ? nmi_event : 0x8000'0312U));
        } else if (*exit == ExitReason::external_interrupt) {
            RC_ASSERT(told == (model_.acknowledges ? valid | highest : 0U));
            RC_ASSERT(!had_line || model_.acknowledges || model_.line);
        } else {
            RC_ASSERT((told & valid) == 0U);
        }
        l1_goes_on(state, by_nmi);
    }

    [[nodiscard]] bool exits_behind_delivery() {
        return (l1_.vmcs02().get(field::pin_based_vm_execution_controls) &
                vmx::pin::activate_vmx_preemption_timer) != 0;
    }

    // L2 runs, and something waits: an exit tells when it can be given, but where L1's own choice of NMIs
    // leaves none (SDM 3C 26.2, 26.3).
    void expect_windows(const Model::Guest& guest, std::uint32_t state) {
        const auto v = [&](auto what) { return l1_.vmcs02().get(what); };
        const bool interrupts = (v(field::primary_processor_based_vm_execution_controls) &
                                 vmx::primary::interrupt_window_exiting) != 0;
        const bool nmis =
            (v(field::primary_processor_based_vm_execution_controls) & vmx::primary::nmi_window_exiting) != 0;
        const bool waits = model_.machine_check || model_.init || model_.nmi || model_.has_interrupt();
        const bool nmi_alone = model_.nmi && !model_.machine_check && !model_.init && !model_.has_interrupt();
        const bool by_nmi = (state & bit::blocking_by_nmi) != 0;
        const bool behind = exits_behind_delivery();
        if (!waits) RC_ASSERT(!interrupts && !nmis && !behind);
        if (nmis) RC_ASSERT(!model_.nmi_exits);
        if (waits && !(nmi_alone && by_nmi)) RC_ASSERT(interrupts || nmis || behind);
        if (guest.delivers && (model_.machine_check || model_.init)) RC_ASSERT(behind);
        if (model_.has_interrupt() && !guest.interrupts && !model_.interrupt_exits) RC_ASSERT(interrupts);
        constexpr std::uint32_t both = vmx::pin::nmi_exiting | vmx::pin::virtual_nmis;
        const std::uint32_t l1s = (model_.nmi_exits ? vmx::pin::nmi_exiting : 0) |
                                  (model_.virtual_nmis ? vmx::pin::virtual_nmis : 0);
        RC_ASSERT((v(field::pin_based_vm_execution_controls) & both) == (nmis ? both : l1s));
    }

    void check() {
        RC_ASSERT(l1_.taken_by_l2 == model_.by_l2);
        RC_ASSERT(l1_.taken_by_l1 == model_.by_l1);
        RC_ASSERT(l1_.left_to_host.empty());
        nested::PendingEvents left;
        if (model_.machine_check) left.add(Event::machine_check());
        if (model_.init) left.add(Event::init());
        if (model_.nmi) left.add(Event::nmi());
        if (model_.line) left.add(Event::interrupt_to_acknowledge());
        for (const std::uint8_t vector : model_.interrupts) left.add(Event::interrupt(vector));
        for (const auto kind : {nested::EventKind::machine_check, nested::EventKind::init,
                                nested::EventKind::nmi, nested::EventKind::external_interrupt}) {
            RC_ASSERT(l1_.events.first(kind) == left.first(kind));
        }
    }

    static std::optional<VirtualCpu::Refusal> any_refusal() {
        using Refusal = VirtualCpu::Refusal;
        return *rc::gen::weightedElement<std::optional<Refusal>>(
            {{9, std::nullopt}, {1, Refusal::vmfail}, {1, Refusal::guest_state}, {1, Refusal::msr_list}});
    }

    VirtualCpu l1_;
    Model model_;
    bool launched_ = false;
};

RC_GTEST_PROP(EventsModel, EachReachesTheGuestThatAProcessorGivesItTo, (bool shadow)) {
    EventsModel model{shadow};
    const int steps = *rc::gen::inRange(1, 60);
    for (int n = 0; n < steps; ++n) model.step();
}

}  // namespace
}  // namespace flatback::nested_test::events_model_test
