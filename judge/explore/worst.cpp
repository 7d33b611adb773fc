#include "judge/explore/worst.hpp"

#include <cstdint>

#include "tag/content_mark.hpp"

namespace flatback::machine::explore {

namespace {

constexpr std::uint32_t all_contexts = 0xF;

bool is_stale(Mark mark, unsigned processor) {
    return mark.cpu != processor || mark.owes != 0;
}

void all_are_nobodys(Entries& entries) {
    entries = {};
    entries.dead = all_keys;
}

/// What a flush that is owed there takes.
Keys keys_of(Mark mark) {
    switch (static_cast<tag::Extent>(mark.extent)) {
        case tag::Extent::address:
            return keys_of_page(mark.page);
        case tag::Extent::single_context_retaining_globals:
            return all_keys & ~global_keys;
        default:
            return all_keys;
    }
}

void assume_the_worst(Entries& entries, Mark mark, unsigned processor, std::uint32_t owner) {
    if (!is_stale(mark, processor)) return;
    const Keys keys = mark.cpu == processor ? keys_of(mark) : all_keys;
    if (keys == all_keys) return all_are_nobodys(entries);
    if (entries.present() == 0) entries.owner = owner & 0xFF;
    entries.dead |= keys & all_keys;
    entries.keep_worst();
}

/// But for mappings of EPT01, which another virtual CPU may have too.
void assume_the_worst_of_own(State& state) {
    const Manager& manager = state.manager;
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        auto& entries = state.entries[processor];
        unsigned tag = 0;
        assume_the_worst(entries[tag++], manager.vpid01, processor, manager.occupant);
        for (unsigned slot = 0; slot < manager.used; ++slot)
            assume_the_worst(entries[tag++], manager.slots[slot], processor, manager.slot_guests[slot]);
        tag += manager.other;
        tag += state.foreign;
        for (; tag < manager.tags_used; ++tag) all_are_nobodys(entries[tag]);
        if (is_stale(manager.ept02, processor)) {
            GuestPhysical& mappings = state.guest_physical[processor];
            mappings.fresh = 0;
            mappings.old_ept = 0;
            mappings.dead = all_contexts;
        }
    }
}

}  // namespace

void assume_the_worst(State& state) {
    assume_the_worst_of_own(state);
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        if (!is_stale(state.manager.ept01, processor)) continue;
        state.guest_physical[processor].l1_fresh = 0;
        state.guest_physical[processor].l1_dead = 1;
    }
}

void assume_the_worst(PairState& pair) {
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        State view = view_of(pair, cpu);
        if (pair.of_two_vms != 0) {
            assume_the_worst(view);
        } else {
            assume_the_worst_of_own(view);
        }
        put_back(pair, cpu, view);
    }
    if (pair.of_two_vms != 0) return;
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        // A mark's processor is told from where its virtual CPU is.
        if (!is_stale(pair.cpus[0].manager.ept01, processor) ||
            !is_stale(pair.cpus[1].manager.ept01, processor ^ 1))
            continue;
        pair.ept01_fresh &= ~(1U << processor) & 0xF;
        pair.ept01_dead |= 1U << processor & 0xF;
    }
}

}  // namespace flatback::machine::explore
