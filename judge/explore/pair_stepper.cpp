#include "judge/explore/pair_stepper.hpp"

#include <utility>

#include "judge/explore/manager.hpp"
#include "judge/explore/translations.hpp"

namespace flatback::machine::explore {

namespace {

using Kind = Action::Kind;

constexpr unsigned nowhere = 0;
constexpr unsigned place(unsigned cpu) {
    return cpu + 1;
}

/// For the other VM to give it the processor that both are on.
constexpr bool waits(const PairState& pair, unsigned vm) {
    const unsigned has_it = place_of(pair.places, shared_processor);
    return has_it != nowhere && has_it != place(vm);
}

constexpr std::uint32_t l1_of_cpu_1 =
    std::uint32_t{std::to_underlying(Guest::l1)} | std::to_underlying(Guest::of_other_cpu);

constexpr bool enters(Kind kind) {
    return kind == Kind::enter || kind == Kind::enter_fails_flush_paid ||
           kind == Kind::enter_fails_flush_kept;
}
constexpr bool is_of_l2(Kind kind) {
    return kind == Kind::access || kind == Kind::change_pcid || kind == Kind::mov_cr3 ||
           kind == Kind::invlpg || kind == Kind::exit;
}

}  // namespace

PairStepper::PairStepper(const Alphabet& alphabet, SeededDefect defect)
    : alphabet_(alphabet), defect_(defect), stepper_(alphabet, defect) {
    // Each has begun as one does alone, with a tag of its own.
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        const State alone = stepper_.initial();
        initial_.cpus[cpu] = alone;
        if (alphabet_.vms == 1) initial_.cpus[cpu].guest_physical[here].l1_fresh = 0;
        initial_.cpus[cpu].manager.tags_used = 0;
        const unsigned processor = alphabet_.vms > 1 && alphabet_.cpus == 1 ? 0 : cpu;
        Entries& entries = initial_.entries[processor][cpu];
        entries = alone.entries[here][0];
        if (cpu != 0) entries.owner = l1_of_cpu_1;
        // (The processor's number, for defects that send what they do to processor 0.)
        if (tells_processors_apart()) initial_.cpus[cpu].moved = processor & 1;
    }
    initial_.tags_used = l1_cpu_count;
    if (alphabet_.vms == 1) {
        initial_.ept01_fresh = 3;
    } else {
        initial_.of_two_vms = 1;
        if (alphabet_.cpus == 1) set_place(initial_.places, shared_processor, place(0));
    }
}

bool PairStepper::can_take(const PairState& pair, const Action& action) const {
    if (action.kind == Kind::turn) return share_a_processor(pair);
    if (alphabet_.vms > 1) {
        const unsigned vm = *action.l1_cpu;
        // Memory changes, L0 takes a page, and moves a VM, whether or not that has a processor.
        if (action.kind == Kind::edit_page || action.kind == Kind::take_page || action.kind == Kind::move)
            return true;
        return !waits(pair, vm) && is_l2(pair.cpus[vm].running()) == is_of_l2(action.kind);
    }
    if (!action.l1_cpu || action.kind == Kind::take_page) return true;
    const unsigned cpu = *action.l1_cpu;
    if (is_l2(pair.cpus[cpu].running()) != is_of_l2(action.kind)) return false;
    // Memory is the same whoever changes it.
    if (action.kind == Kind::edit_ept) return cpu == 0 || is_l2(pair.cpus[0].running());
    if (alphabet_.vmcss > 1) return true;
    const bool of_a_vmcs = enters(action.kind) || action.kind == Kind::vmclear;
    if (!of_a_vmcs) return true;
    const unsigned active = place_of(pair.places, bare_index(action.guest));
    return active == place(cpu) || (active == nowhere && action.kind != Kind::vmclear);
}

PairStepper::Answer PairStepper::take(PairState& pair, const Action& action) {
    renamed_ = {0, 1, 2, 3, 4, 5};
    if (alphabet_.vms > 1) {
        if (action.kind == Kind::turn) return turn(pair);
        const unsigned vm = *action.l1_cpu;
        if (action.kind == Kind::move) return move_vm(pair, vm);
        return on(pair, vm, [&](State& view) {
            return action.kind == Kind::take_page && waits(pair, vm)
                       ? stepper_.take_page_of_waiting(view, action.page)
                       : stepper_.take(view, action);
        });
    }
    switch (action.kind) {
        case Kind::edit_page:
        case Kind::edit_ept:
            for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
                static_cast<void>(on(pair, cpu, [&](State& view) { return stepper_.take(view, action); }));
            }
            return std::nullopt;
        case Kind::take_page:
            return take_page(pair, *action.l1_cpu, action.page);
        case Kind::exchange:
            return exchange(pair);
        case Kind::vmclear:
            set_place(pair.places, bare_index(action.guest), nowhere);
            return on(pair, *action.l1_cpu, [&](State& view) { return stepper_.resume(view); });
        default:
            return take_of(pair, *action.l1_cpu, action);
    }
}

PairStepper::Answer PairStepper::take_of(PairState& pair, unsigned cpu, const Action& action) {
    leave_out(pair, cpu, action);
    Answer broken = on(pair, cpu, [&](State& view) { return stepper_.take(view, action); });
    stepper_.leave_out(Stepper::LeavesOut::nothing);
    if (enters(action.kind) && alphabet_.vmcss == 1)
        set_place(pair.places, bare_index(action.guest), place(cpu));
    if (action.kind == Kind::enter) entered(pair, cpu, action.guest);
    // A careful L1 has no VMCS active at VMXOFF (SDM 3C 24.11.1).
    if (action.kind == Kind::vmxoff_vmxon) {
        for (unsigned l2 = 0; l2 < any_l2; ++l2) {
            if (place_of(pair.places, l2) == place(cpu)) set_place(pair.places, l2, nowhere);
        }
    }
    return broken;
}

/// L0 takes it on the processor of `by`, and calls the other one.
PairStepper::Answer PairStepper::take_page(PairState& pair, unsigned by, unsigned page) {
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        static_cast<void>(on(pair, cpu, [&](State& view) {
            stepper_.manager().keep_names();
            explore::take_page(view, page);
            return Answer{};
        }));
    }
    using Call = Stepper::Call;
    const bool tells = !has(SeededDefect::taken_page_not_told);
    const Call own = tells ? Call::answered : Call::not_made;
    if (Answer broken = on(pair, by, [&](State& view) { return stepper_.called(view, own); })) return broken;
    const Call others = has(SeededDefect::call_lost)            ? Call::lost
                        : has(SeededDefect::call_answered_late) ? Call::late
                        : has(SeededDefect::call_not_made)      ? Call::not_made
                                                                : own;
    return on(pair, by ^ 1, [&](State& view) { return stepper_.called(view, others); });
}

PairStepper::Answer PairStepper::exchange(PairState& pair) {
    exchange_processor_names(pair);
    for (VirtualCpu& cpu : pair.cpus) {
        exchange_processors(cpu, !has(SeededDefect::on_processor_0));
        if (tells_processors_apart()) cpu.moved = (cpu.moved ^ 1) & 1;
    }
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        if (Answer broken = on(pair, cpu, [&](State& view) { return stepper_.resume(view); })) return broken;
    }
    return std::nullopt;
}

/// To the other processor, which it has then: it is resumed there. Who waited where it has gone from has the
/// processor to itself.
PairStepper::Answer PairStepper::move_vm(PairState& pair, unsigned vm) {
    const unsigned had_it = place_of(pair.places, shared_processor);
    // Two that are apart are on the processors of their numbers, and two together on processor 0.
    if (vm == 0) exchange_processor_names(pair);
    set_place(pair.places, shared_processor, had_it == nowhere ? place(vm) : nowhere);
    exchange_processors(pair.cpus[vm], !has(SeededDefect::on_processor_0));
    if (tells_processors_apart()) pair.cpus[vm].moved = (pair.cpus[vm].moved ^ 1) & 1;
    const auto resume = [this](State& view) { return stepper_.resume(view); };
    if (Answer broken = on(pair, vm, resume)) return broken;
    const bool other_waited = had_it == place(vm);
    return other_waited ? on(pair, vm ^ 1, resume) : std::nullopt;
}

PairStepper::Answer PairStepper::turn(PairState& pair) {
    const unsigned next = place_of(pair.places, shared_processor) == place(0) ? 1 : 0;
    set_place(pair.places, shared_processor, place(next));
    return on(pair, next, [this](State& view) {
        return has(SeededDefect::turn_without_flushes) ? stepper_.called(view, Stepper::Call::not_made)
                                                       : stepper_.resume(view);
    });
}

/// A step of one virtual CPU's, in its view; the tags are named anew.
template <typename Step>
PairStepper::Answer PairStepper::on(PairState& pair, unsigned cpu, Step&& step) {
    const PairState before = pair;
    State view = view_of(pair, cpu);
    Answer broken = step(view);
    put_back(pair, cpu, view);
    if (broken) {
        broken->l1_cpu = cpu;
        return broken;
    }
    const auto earlier = renamed_;
    for (unsigned tag = 0; tag < most_tags; ++tag) {
        const unsigned then = stepper_.manager().renamed()[tag_of_view(pair, cpu, tag)];
        renamed_[tag] = earlier[tag_of_pair(before, cpu, then)];
    }
    return std::nullopt;
}

// --- Defects ---

bool PairStepper::tells_processors_apart() const {
    return has(SeededDefect::invvpid_on_processor_0) || has(SeededDefect::invept_on_processor_0);
}

bool PairStepper::remembers() const {
    return has(SeededDefect::invvpid_after_a_move_forgotten) || has(SeededDefect::arrival_not_flushed) ||
           has(SeededDefect::one_mark_of_ept_contexts_for_both_cpus);
}

void PairStepper::leave_out(const PairState& pair, unsigned cpu, const Action& action) {
    using Leaves = Stepper::LeavesOut;
    const auto ran_last_on_the_other = [&](unsigned l2) {
        return place_of(pair.memory, l2) == place(cpu ^ 1);
    };
    switch (action.kind) {
        case Kind::enter:
            if (has(SeededDefect::arrival_not_flushed) && ran_last_on_the_other(bare_index(action.guest)))
                stepper_.leave_out(Leaves::flush_of_entry);
            return;
        case Kind::invvpid_address:
        case Kind::invvpid_single:
        case Kind::invvpid_retaining_globals:
            if (has(SeededDefect::invvpid_after_a_move_forgotten) &&
                ran_last_on_the_other(bare_index(action.guest)))
                stepper_.leave_out(Leaves::flush_for_l1);
            return;
        case Kind::invept_single:
        case Kind::invept_all:
            if (has(SeededDefect::one_mark_of_ept_contexts_for_both_cpus) && ran_last_on_the_other(any_l2))
                stepper_.leave_out(Leaves::flush_for_l1);
            return;
        default:
            return;
    }
}

void PairStepper::entered(PairState& pair, unsigned cpu, Guest guest) const {
    if (remembers()) {
        set_place(pair.memory, bare_index(guest), place(cpu));
        set_place(pair.memory, any_l2, place(cpu));
    }
    // What this one has flushed is noted for the other.
    if (!has(SeededDefect::one_mark_for_both_cpus) || !stepper_.has_flushed()) return;
    Manager& other = pair.cpus[cpu ^ 1].manager;
    for (unsigned slot = 0; slot < other.used; ++slot) {
        if (other.slot_guests[slot] != std::to_underlying(guest)) continue;
        other.slots[slot] = {};
        other.slots[slot].cpu = here;
        other.slots[slot].extent = no_flush;
    }
}

}  // namespace flatback::machine::explore
