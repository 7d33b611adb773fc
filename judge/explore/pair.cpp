#include "judge/explore/pair.hpp"

#include <utility>

#include "judge/explore/translations.hpp"

namespace flatback::machine::explore {

namespace {

constexpr std::uint32_t of_other_cpu = std::to_underlying(Guest::of_other_cpu);

/// vpid01, and those of the slots.
constexpr unsigned tags_of(const VirtualCpu& cpu) {
    return 1U + cpu.manager.used;
}

void exchange_owners(EntriesOfTags& entries) {
    for (auto& of_cpu : entries) {
        for (Entries& of_tag : of_cpu) {
            if (of_tag.owner != 0) of_tag.owner = (of_tag.owner ^ of_other_cpu) & 0xFF;
        }
    }
}

std::uint8_t exchange_places(std::uint8_t places) {
    std::uint8_t exchanged = places;
    for (unsigned index = 0; index <= any_l2; ++index) {
        const unsigned place = place_of(places, index);
        if (place != 0) set_place(exchanged, index, place ^ 3U);
    }
    return exchanged;
}
std::uint8_t exchange_l2s(std::uint8_t places) {
    std::uint8_t exchanged = places;
    set_place(exchanged, 0, place_of(places, 1));
    set_place(exchanged, 1, place_of(places, 0));
    return exchanged;
}

void exchange_vpids(PairState& pair) {
    for (VirtualCpu& cpu : pair.cpus) explore::exchange_vpids(cpu);
    explore::exchange_vpids(pair.entries);
    pair.places = exchange_l2s(pair.places);
    pair.memory = exchange_l2s(pair.memory);
}

void exchange_eptps(PairState& pair) {
    for (VirtualCpu& cpu : pair.cpus) explore::exchange_eptps(cpu);
    explore::exchange_eptps(pair.entries);
}

constexpr std::uint32_t exchange_bits(std::uint32_t bits) {
    return (bits & 1) << 1 | bits >> 1;
}

/// What virtual CPU 0 is called becomes 1's name, and the reverse; and so of the processors.
void exchange_cpus(PairState& pair) {
    const EntriesOfTags before = pair.entries;
    for (unsigned tag = 0; tag < most_tags; ++tag) {
        const unsigned from = tag_of_pair(pair, 1, tag);
        for (unsigned processor = 0; processor < cpu_count; ++processor)
            pair.entries[processor][tag] = before[processor ^ 1][from];
    }
    exchange_owners(pair.entries);
    std::swap(pair.cpus[0], pair.cpus[1]);
    pair.ept01_fresh = exchange_bits(pair.ept01_fresh) & 0xF;
    pair.ept01_dead = exchange_bits(pair.ept01_dead) & 0xF;
    pair.places = exchange_places(pair.places);
    pair.memory = exchange_places(pair.memory);
}

}  // namespace

unsigned tag_of_pair(const PairState& pair, unsigned cpu, unsigned tag) {
    const unsigned own = tags_of(pair.cpus[cpu]);
    const unsigned foreign = tags_of(pair.cpus[cpu ^ 1]);
    if (cpu == 0 || tag >= own + foreign) return tag;
    return tag < own ? foreign + tag : tag - own;
}

unsigned tag_of_view(const PairState& pair, unsigned cpu, unsigned tag) {
    // That of 1's, of which 0's are the foreign ones, is the view of a pair whose virtual CPUs are exchanged.
    const unsigned own = tags_of(pair.cpus[cpu]);
    const unsigned foreign = tags_of(pair.cpus[cpu ^ 1]);
    if (cpu == 0 || tag >= own + foreign) return tag;
    return tag < foreign ? own + tag : tag - foreign;
}

State view_of(const PairState& pair, unsigned cpu) {
    State view{pair.cpus[cpu], {}};
    view.foreign = tags_of(pair.cpus[cpu ^ 1]) & 3;
    view.manager.tags_used = pair.tags_used;
    for (unsigned row = 0; row < cpu_count; ++row) {
        const unsigned processor = row ^ cpu;
        view.guest_physical[row].l1_fresh = pair.ept01_fresh >> processor & 1;
        view.guest_physical[row].l1_dead = pair.ept01_dead >> processor & 1;
        for (unsigned tag = 0; tag < most_tags; ++tag)
            view.entries[row][tag] = pair.entries[processor][tag_of_pair(pair, cpu, tag)];
    }
    if (cpu == 1) exchange_owners(view.entries);
    return view;
}

void put_back(PairState& pair, unsigned cpu, const State& view) {
    VirtualCpu& own = pair.cpus[cpu];
    own = view;
    own.foreign = 0;
    own.manager.tags_used = 0;
    pair.tags_used = view.manager.tags_used;
    unsigned fresh = 0;
    unsigned dead = 0;
    for (unsigned row = 0; row < cpu_count; ++row) {
        const unsigned processor = row ^ cpu;
        fresh |= std::uint32_t{view.guest_physical[row].l1_fresh} << processor;
        dead |= std::uint32_t{view.guest_physical[row].l1_dead} << processor;
        own.guest_physical[row].l1_fresh = 0;
        own.guest_physical[row].l1_dead = 0;
        for (unsigned tag = 0; tag < most_tags; ++tag)
            pair.entries[processor][tag_of_pair(pair, cpu, tag)] = view.entries[row][tag];
    }
    pair.ept01_fresh = fresh & 0xF;
    pair.ept01_dead = dead & 0xF;
    if (cpu == 1) exchange_owners(pair.entries);
}

void forget_the_irrelevant(PairState& pair) {
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        State view = view_of(pair, cpu);
        explore::forget_the_irrelevant(view);
        put_back(pair, cpu, view);
    }
}

PairState canonical(const PairState& pair, const Alphabet& alphabet) {
    PairState least = pair;
    PairState named = pair;
    const auto consider = [&] {
        if (compare_bytes(named, least) < 0) least = named;
    };
    // Each name of one kind with each of the others.
    for (unsigned turn = 0; turn < l1_cpu_count; ++turn) {
        if (turn != 0) {
            exchange_cpus(named);
            consider();
        }
        if (alphabet.vpids > 1) {
            exchange_vpids(named);
            consider();
        }
        if (alphabet.eptps > 1) {
            exchange_eptps(named);
            consider();
            if (alphabet.vpids > 1) {
                exchange_vpids(named);
                consider();
            }
        }
    }
    return least;
}

}  // namespace flatback::machine::explore
