#include "judge/explore/translations.hpp"

namespace flatback::machine::explore {

namespace {

template <typename Visitor>
void each_l2_entries(State& state, Visitor&& visit) {
    for (auto& of_cpu : state.entries) {
        for (Entries& entries : of_cpu) {
            if (is_l2(entries.guest())) visit(entries);
        }
    }
}

constexpr unsigned context_bit(unsigned eptp, unsigned page) {
    return 1U << (2 * eptp + page);
}
constexpr unsigned contexts_of(unsigned eptp) {
    return 3U << (2 * eptp);
}
constexpr unsigned contexts_of_page(unsigned page) {
    return 5U << page;
}

void keep_worst(GuestPhysical& mappings) {
    const unsigned dead = mappings.dead;
    const unsigned old_ept = mappings.old_ept & ~dead;
    mappings.old_ept = old_ept & 0xF;
    mappings.fresh = mappings.fresh & ~(dead | old_ept) & 0xF;
}

}  // namespace

void edit_page(State& state, unsigned page) {
    const Keys keys = keys_of_page(page);
    each_l2_entries(state, [&](Entries& entries) {
        const Keys bare = state.bare[bare_index(entries.guest())];
        const Keys edited = (entries.fresh | entries.old_ept) & keys;
        entries.fresh &= ~keys & all_keys;
        entries.old_ept &= ~keys & all_keys;
        entries.old |= edited & bare & all_keys;
        entries.dead |= edited & ~bare & all_keys;
        entries.keep_worst();
    });
    for (std::uint8_t& bare : state.bare) bare &= static_cast<std::uint8_t>(~keys);
}

void edit_ept(State& state, unsigned eptp, unsigned page) {
    const Keys keys = keys_of(eptp) & keys_of_page(page);
    const unsigned context = context_bit(eptp, page);
    const bool bare_has_it = (state.bare_guest_physical & context) != 0;
    each_l2_entries(state, [&](Entries& entries) {
        const Keys edited = entries.fresh & keys;
        entries.fresh &= ~keys & all_keys;
        if (bare_has_it) {
            entries.old_ept |= edited & all_keys;
        } else {
            entries.dead |= edited & all_keys;
        }
        entries.keep_worst();
    });
    for (GuestPhysical& mappings : state.guest_physical) {
        const unsigned edited = mappings.fresh & context;
        mappings.fresh &= ~context & 0xF;
        if (bare_has_it) {
            mappings.old_ept |= edited & 0xF;
        } else {
            mappings.dead |= edited & 0xF;
        }
        keep_worst(mappings);
    }
    state.ept02_old |= state.ept02_fresh & context & 0xF;
    state.ept02_fresh &= ~context & 0xF;
    state.bare_guest_physical &= ~context & 0xF;
}

void take_page(State& state, unsigned page) {
    for (unsigned cpu = 0; cpu < cpu_count; ++cpu) {
        for (Entries& entries : state.entries[cpu]) {
            // What is of another virtual CPU is seen from there; of another VM, not at all.
            const Guest owner = entries.guest();
            if (owner != Guest::other && owner == alike(owner)) entries.kill(keys_of_page(page));
        }
        GuestPhysical& mappings = state.guest_physical[cpu];
        const unsigned taken = (mappings.fresh | mappings.old_ept) & contexts_of_page(page);
        mappings.dead |= taken & 0xF;
        keep_worst(mappings);
        mappings.l1_dead |= mappings.l1_fresh;
        mappings.l1_fresh = 0;
    }
    state.ept02_fresh = 0;
    state.ept02_old = 0;
}

void bare_drop(State& state, Guest guest, Keys keys) {
    state.bare[bare_index(guest)] &= static_cast<std::uint8_t>(~keys);
    each_l2_entries(state, [&](Entries& entries) {
        if (entries.guest() == guest) entries.kill(entries.old & keys);
    });
}

void bare_invept(State& state, unsigned eptp) {
    const Keys keys = keys_of(eptp);
    for (std::uint8_t& bare : state.bare) bare &= static_cast<std::uint8_t>(~keys);
    each_l2_entries(state, [&](Entries& entries) { entries.kill((entries.old_ept | entries.old) & keys); });
    const unsigned contexts = contexts_of(eptp);
    for (GuestPhysical& mappings : state.guest_physical) {
        mappings.dead |= mappings.old_ept & contexts & 0xF;
        keep_worst(mappings);
    }
    state.bare_guest_physical &= ~contexts & 0xF;
    state.ept02_fresh &= ~contexts & 0xF;
    state.ept02_old &= ~contexts & 0xF;
}

void drop(State& state, unsigned cpu, unsigned tag, Keys keys) {
    state.entries[cpu][tag].drop(keys);
}

void invept(State& state, unsigned cpu, unsigned eptp) {
    for (Entries& entries : state.entries[cpu]) {
        if (is_l2(entries.guest())) entries.drop(keys_of(eptp));
    }
    GuestPhysical& mappings = state.guest_physical[cpu];
    const unsigned contexts = contexts_of(eptp);
    mappings.fresh &= ~contexts & 0xF;
    mappings.old_ept &= ~contexts & 0xF;
    mappings.dead &= ~contexts & 0xF;
}

void invept_of_l2s(State& state, unsigned cpu) {
    for (unsigned eptp = 0; eptp < 2; ++eptp) invept(state, cpu, eptp);
}

void invept_of_l1(State& state, unsigned cpu) {
    for (Entries& entries : state.entries[cpu]) {
        if (entries.guest() == Guest::l1) entries.drop(all_keys);
    }
    state.guest_physical[cpu].l1_fresh = 0;
    state.guest_physical[cpu].l1_dead = 0;
}

Served served(const State& state, unsigned tag, unsigned page) {
    const Keys key = key_of(state.eptp, state.pcid, page);
    const unsigned context = context_bit(state.eptp, page);
    return {(state.entries[here][tag].dead & key) != 0, (state.guest_physical[here].dead & context) != 0};
}

void fill(State& state, unsigned tag, unsigned page) {
    const Keys key = key_of(state.eptp, state.pcid, page);
    const unsigned context = context_bit(state.eptp, page);
    // Nested: a walk may use what is cached of EPT02, or EPT02, which is filled from EPT12 where it is empty.
    if (((state.ept02_fresh | state.ept02_old) & context) == 0) state.ept02_fresh |= context & 0xF;
    GuestPhysical& mappings = state.guest_physical[here];
    mappings.old_ept |= state.ept02_old & context & 0xF;
    mappings.fresh |= state.ept02_fresh & context & 0xF;
    keep_worst(mappings);
    Entries& entries = state.entries[here][tag];
    if ((mappings.old_ept & context) != 0) {
        entries.old_ept |= key & all_keys;
    } else {
        entries.fresh |= key & all_keys;
    }
    entries.keep_worst();
    entries.owner = state.guest;
    // Bare: the walk finds what memory says, and all else that is cached.
    state.bare[bare_index(state.running())] |= static_cast<std::uint8_t>(key);
    state.bare_guest_physical |= context & 0xF;
}

void fill_l1(State& state, unsigned cpu, unsigned tag, Guest owner, unsigned pages) {
    Entries& entries = state.entries[cpu][tag];
    entries.owner = static_cast<std::uint8_t>(owner);
    for (unsigned page = 0; page < pages; ++page) {
        const Keys key = key_of(0, 0, page);
        entries.fresh |= key & all_keys;
    }
    if (owner == Guest::l1) state.guest_physical[cpu].l1_fresh = 1;
}

void forget_the_irrelevant(State& state) {
    std::array<Keys, 4> decides{};
    Keys fresh = 0;
    each_l2_entries(state, [&](const Entries& entries) {
        decides[bare_index(entries.guest())] |= entries.fresh | entries.old_ept;
        fresh |= entries.fresh;
    });
    for (std::size_t index = 0; index < decides.size(); ++index) {
        state.bare[index] &= static_cast<std::uint8_t>(decides[index]);
    }
    unsigned contexts = state.guest_physical[0].fresh | state.guest_physical[1].fresh;
    for (unsigned eptp = 0; eptp < 2; ++eptp) {
        for (unsigned page = 0; page < 2; ++page) {
            if ((fresh & keys_of(eptp) & keys_of_page(page)) != 0) contexts |= context_bit(eptp, page);
        }
    }
    state.bare_guest_physical &= contexts & 0xF;
}

}  // namespace flatback::machine::explore
