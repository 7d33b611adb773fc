#include "judge/explore/stepper.hpp"

#include <utility>

#include "judge/explore/translations.hpp"

namespace flatback::machine::explore {

namespace {

using Kind = Action::Kind;

constexpr tag::Vpid12 vpid12_of(Guest guest) {
    return tag::Vpid12{static_cast<std::uint16_t>(guest)};
}
constexpr std::uint8_t number_of(Guest guest) {
    return static_cast<std::uint8_t>(guest);
}
constexpr bool has_vpid(Guest guest) {
    return guest == Guest::vpid_1 || guest == Guest::vpid_2;
}
unsigned index_of(tag::TagNumber tag) {
    return tag::raw(tag) - 1U;
}

}  // namespace

Stepper::Stepper(const Alphabet& alphabet, SeededDefect defect)
    : alphabet_(alphabet), defect_(defect), manager_(alphabet) {
    static_cast<void>(run_l1(initial_));
    manager_.store(initial_);
}

bool Stepper::can_take(const State& state, const Action& action) const {
    switch (action.kind) {
        case Kind::other_vm_comes:
            return state.manager.other == 0 && 1U + state.manager.used < alphabet_.tags;
        case Kind::other_vm_goes:
            return state.manager.other != 0;
        default:
            return true;
    }
}

Stepper::Answer Stepper::take(State& state, const Action& action) {
    manager_.keep_names();
    switch (action.kind) {
        // What the tag manager does not see.
        case Kind::edit_page:
            edit_page(state, action.page);
            return std::nullopt;
        case Kind::edit_ept:
            edit_ept(state, action.eptp, action.page);
            return std::nullopt;
        case Kind::access:
            return access(state, action.page);
        case Kind::change_pcid:
            state.pcid = (state.pcid ^ 1) & 1;
            return std::nullopt;
        case Kind::mov_cr3:
            flush_by_l2(state, keys_of_pcid(state.pcid));
            return std::nullopt;
        case Kind::invlpg:
            flush_by_l2(state, action.page == 0 ? keys_of_page(0) & keys_of_pcid(state.pcid) : global_keys);
            return std::nullopt;
        default:
            break;
    }
    if (action.kind == Kind::move) {
        std::swap(state.entries[0], state.entries[1]);
        exchange_processors(state, !has(SeededDefect::on_processor_0));
        if (has(SeededDefect::invvpid_on_processor_0) || has(SeededDefect::invept_on_processor_0)) {
            state.moved = (state.moved ^ 1) & 1;
        }
    }
    manager_.load(state);
    Answer broken;
    switch (action.kind) {
        case Kind::enter:
            state.eptp = action.eptp & 1;
            broken = enter(state, action.guest);
            break;
        case Kind::enter_fails_flush_paid:
        case Kind::enter_fails_flush_kept:
            fail_entry(state, action);
            broken = run_l1(state);
            break;
        case Kind::invvpid_address:
        case Kind::invvpid_single:
        case Kind::invvpid_all:
        case Kind::invvpid_retaining_globals:
            invvpid(state, action);
            broken = run_l1(state);
            break;
        case Kind::invept_single:
            invept(state, action.eptp);
            broken = run_l1(state);
            break;
        case Kind::invept_all:
            for (unsigned eptp = 0; eptp < alphabet_.eptps; ++eptp) invept(state, eptp);
            broken = run_l1(state);
            break;
        case Kind::flush_of_l1:
            for (auto& of_cpu : state.entries) {
                for (Entries& entries : of_cpu) {
                    if (entries.guest() == Guest::l1) entries.kill(all_keys);
                }
            }
            manager_.vpid01().invalidate();
            broken = run_l1(state);
            break;
        case Kind::vmxoff_vmxon:
            manager_.map().reset();
            broken = run_l1(state);
            break;
        case Kind::exit:
            forget_vpid_zero(state);
            broken = run_l1(state);
            break;
        case Kind::move:
            broken = reenter(state);
            break;
        case Kind::take_page:
            take_page(state, action.page);
            if (!has(SeededDefect::taken_page_not_told)) manager_.map().ept_contexts_stale();
            broken = reenter(state);
            break;
        case Kind::other_vm_comes:
            broken = other_vm_comes(state);
            break;
        case Kind::other_vm_goes:
            manager_.other().reset();
            break;
        default:
            break;
    }
    if (!broken) manager_.store(state);
    return broken;
}

tag::Entry Stepper::choose(Guest guest) {
    return has_vpid(guest) ? manager_.map().enter(vpid12_of(guest), tag_cpu_here)
                           : manager_.map().enter_without_vpid(tag_cpu_here);
}

/// L0 enters an L2: NestedVcpu::select_tag.
Stepper::Answer Stepper::enter(State& state, Guest guest) {
    const tag::MapStatistics before = manager_.map().statistics();
    tag::Entry entry = choose(guest);
    const tag::MapStatistics after = manager_.map().statistics();
    const bool new_slot = after.misses != before.misses && !entry.shares_vpid01;
    const bool done =
        (has(SeededDefect::one_vpid12_over_vmxoff) && new_slot && state.memory == number_of(guest)) ||
        (has(SeededDefect::given_back_tag_not_flushed) && new_slot && after.evictions == before.evictions) ||
        (has(SeededDefect::evicted_tag_not_flushed) && after.evictions != before.evictions) ||
        (has(SeededDefect::occupant_not_flushed) && entry.shares_vpid01) ||
        leaves_out_ == LeavesOut::flush_of_entry;
    has_flushed_ = entry.flush && entry.flush->target().extent != tag::Extent::nothing && !done;
    if (has(SeededDefect::one_vpid12_over_vmxoff) && !entry.shares_vpid01) {
        state.memory = number_of(guest) & 7;
    }
    if (entry.flush && done) {
        std::move(*entry.flush).paid();
    } else {
        pay(state, guest, std::move(entry.flush));
    }
    const unsigned tag = index_of(entry.tag);
    if (Answer broken = check_owner(state, guest, here, tag)) return broken;
    if (state.running() != guest) state.pcid = 0;
    state.guest = number_of(guest) & 0xF;
    return std::nullopt;
}

/// After L0 took the processor from whoever runs.
Stepper::Answer Stepper::reenter(State& state) {
    return is_l2(state.running()) ? enter(state, state.running()) : run_l1(state);
}

void Stepper::fail_entry(State& state, const Action& action) {
    tag::Entry entry = choose(action.guest);
    if (entry.flush) {
        if (action.kind == Kind::enter_fails_flush_kept) {
            std::move(*entry.flush).keep();
        } else if (has(SeededDefect::lost_with_failed_entry)) {
            std::move(*entry.flush).paid();
        } else {
            pay(state, action.guest, std::move(entry.flush));
        }
    }
}

Stepper::Answer Stepper::run_l1(State& state) {
    tag::Entry entry = manager_.vpid01().enter_l1(tag_cpu_here);
    if (entry.flush && has(SeededDefect::occupant_not_flushed)) {
        std::move(*entry.flush).paid();
    } else {
        pay(state, Guest::l1, std::move(entry.flush));
    }
    const unsigned tag = index_of(entry.tag);
    if (Answer broken = check_owner(state, Guest::l1, here, tag)) return broken;
    state.guest = number_of(Guest::l1) & 0xF;
    if (Answer broken = go_on(state)) return broken;
    fill_l1(state, here, tag, Guest::l1, alphabet_.pages);
    state.eptp = 0;
    state.pcid = 0;
    return std::nullopt;
}

/// Whoever runs stays in the guest: L1 touches all of its pages at any time, an L2 when it says so. (L1's tag
/// is the first of a State's.)
Stepper::Answer Stepper::go_on(const State& state) const {
    if (state.running() != Guest::l1) return std::nullopt;
    constexpr unsigned tag = 0;
    if (const Keys dead = state.entries[here][tag].dead; dead != 0) {
        return Broken{Broken::Kind::dead_entry, Guest::l1, here, tag, dead};
    }
    if (state.guest_physical[here].l1_dead != 0) {
        return Broken{Broken::Kind::dead_guest_physical, Guest::l1, here, tag, 0, true};
    }
    return std::nullopt;
}

Stepper::Answer Stepper::resume(State& state) {
    manager_.keep_names();
    manager_.load(state);
    Answer broken = reenter(state);
    if (!broken) manager_.store(state);
    return broken;
}

Stepper::Answer Stepper::take_page_of_waiting(State& state, unsigned page) {
    manager_.keep_names();
    manager_.load(state);
    take_page(state, page);
    if (!has(SeededDefect::taken_page_not_told)) manager_.map().ept_contexts_stale();
    manager_.store(state);
    return std::nullopt;
}

Stepper::Answer Stepper::called(State& state, Call call) {
    manager_.keep_names();
    if (call == Call::not_made) return go_on(state);
    manager_.load(state);
    Answer broken;
    if (call == Call::late) broken = reenter(state);
    manager_.map().ept_contexts_stale();
    if (call == Call::answered) broken = reenter(state);
    if (call == Call::lost) broken = go_on(state);
    if (!broken) manager_.store(state);
    return broken;
}

Stepper::Answer Stepper::other_vm_comes(State& state) {
    manager_.other().emplace(manager_.pool());
    for (unsigned cpu = 0; cpu < alphabet_.cpus; ++cpu) {
        tag::Entry entry = manager_.other()->enter_l1(tag::Cpu{cpu});
        const unsigned tag = index_of(entry.tag);
        // Another virtual CPU: the defects are of the one that is judged, but what reaches any INVVPID
        // reaches this one too.
        if (entry.flush) {
            if (entry.flush->target().extent != tag::Extent::nothing) drop(state, cpu, tag, all_keys);
            std::move(*entry.flush).paid();
        }
        if (Answer broken = check_owner(state, Guest::other, cpu, tag)) return broken;
        fill_l1(state, cpu, tag, Guest::other, 1);
    }
    return std::nullopt;
}

Stepper::Answer Stepper::check_owner(const State& state, Guest guest, unsigned cpu, unsigned tag) const {
    const Entries& entries = state.entries[cpu][tag];
    if (entries.present() == 0 || entries.guest() == guest) return std::nullopt;
    return Broken{Broken::Kind::other_owner, guest, cpu, tag, entries.present()};
}

Stepper::Answer Stepper::access(State& state, unsigned page) {
    const unsigned tag = tag_of(state, state.running());
    const Served now = served(state, tag, page);
    const Keys key = key_of(state.eptp, state.pcid, page);
    if (now.by_dead_entry) return Broken{Broken::Kind::dead_entry, state.running(), here, tag, key};
    if (now.by_dead_guest_physical) {
        return Broken{Broken::Kind::dead_guest_physical, state.running(), here, tag, key};
    }
    fill(state, tag, page);
    return std::nullopt;
}

void Stepper::invvpid(State& state, const Action& action) {
    LoadedManager::Map& map = manager_.map();
    const tag::Vpid12 vpid12 = vpid12_of(action.guest);
    const x86::LinearAddress linear_address{action.page * x86::page_size};
    switch (action.kind) {
        case Kind::invvpid_address:
            bare_drop(state, action.guest, keys_of_page(action.page));
            if (has(SeededDefect::ignores_type_0) || leaves_out_ == LeavesOut::flush_for_l1) return;
            return pay(state, action.guest, map.invvpid_address(vpid12, linear_address, tag_cpu_here));
        case Kind::invvpid_single:
            bare_drop(state, action.guest, all_keys);
            if (has(SeededDefect::ignores_type_1) || leaves_out_ == LeavesOut::flush_for_l1) return;
            return pay(state, action.guest, map.invvpid_single(vpid12, tag_cpu_here));
        case Kind::invvpid_retaining_globals:
            bare_drop(state, action.guest, all_keys & ~global_keys);
            if (has(SeededDefect::ignores_type_3) || leaves_out_ == LeavesOut::flush_for_l1) return;
            return pay(state, action.guest, map.invvpid_single_retaining_globals(vpid12, tag_cpu_here));
        default:
            bare_drop(state, Guest::vpid_1, all_keys);
            bare_drop(state, Guest::vpid_2, all_keys);
            if (has(SeededDefect::ignores_type_2)) return;
            return pay(state, Guest::none, map.invvpid_all(tag_cpu_here));
    }
}

/// L1's INVEPT: NestedVcpu::invept.
void Stepper::invept(State& state, unsigned eptp) {
    bare_invept(state, eptp);
    if (leaves_out_ == LeavesOut::flush_for_l1) return;
    if (!has(SeededDefect::drops_invept)) explore::invept(state, here, eptp);
    if (manager_.map().ept02_cpu() != tag_cpu_here && !has(SeededDefect::invept_elsewhere_forgotten)) {
        manager_.map().ept02_contexts_stale();
    }
}

/// VM entry and VM exit with "enable VPID" = 0 flush VPID 0000H of the bare processor.
void Stepper::forget_vpid_zero(State& state) const {
    if (state.running() == Guest::without_vpid) bare_drop(state, Guest::without_vpid, all_keys);
}

/// L2 flushes its own: the same on both processors, each under the VPID that is current there.
void Stepper::flush_by_l2(State& state, Keys keys) const {
    bare_drop(state, state.running(), keys);
    drop(state, here, tag_of(state, state.running()), keys);
}

void Stepper::pay(State& state, Guest guest, std::optional<tag::OwedFlush> flush) {
    if (!flush) return;
    run(state, guest, flush->target());
    std::move(*flush).paid();
}

/// NestedVcpu::run.
void Stepper::run(State& state, Guest guest, const tag::FlushTarget& target) const {
    const unsigned processor_0 = state.moved;
    if (target.extent != tag::Extent::nothing && !has(SeededDefect::drops_invvpid)) {
        const unsigned cpu = has(SeededDefect::invvpid_on_processor_0) ? processor_0 : here;
        const unsigned tag = has(SeededDefect::flushes_vpid01) ? 0 : index_of(target.tag);
        unsigned page = target.linear_address.page_number() & 1;
        if (has(SeededDefect::neighbour_of_address)) page ^= 1;
        tag::Extent extent = target.extent;
        if (extent == tag::Extent::single_context) {
            if (has(SeededDefect::address_for_context)) extent = tag::Extent::address;
            if (has(SeededDefect::retains_globals_always)) {
                extent = tag::Extent::single_context_retaining_globals;
            }
        }
        switch (extent) {
            case tag::Extent::address:
                if (!has(SeededDefect::drops_address)) drop(state, cpu, tag, keys_of_page(page));
                break;
            case tag::Extent::single_context:
                drop(state, cpu, tag, all_keys);
                break;
            case tag::Extent::single_context_retaining_globals:
                if (!has(SeededDefect::drops_retaining_globals)) {
                    drop(state, cpu, tag, all_keys & ~global_keys);
                }
                break;
            case tag::Extent::nothing:
                break;
        }
    }
    if (target.ept_contexts && !has(SeededDefect::drops_invept)) {
        // No more than the mark stands for: EPT01, or all EPT02s. (The engine flushes both.)
        const unsigned cpu = has(SeededDefect::invept_on_processor_0) ? processor_0 : here;
        if (guest == Guest::l1) {
            invept_of_l1(state, cpu);
        } else {
            invept_of_l2s(state, cpu);
        }
    }
}

}  // namespace flatback::machine::explore
