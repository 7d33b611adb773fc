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

/// Of one of two VMs alone: each has names of its own.
template <typename Exchange>
void exchange_of_vm(PairState& pair, unsigned vm, Exchange&& exchange) {
    const EntriesOfTags before = pair.entries;
    exchange(pair.cpus[vm]);
    exchange(pair.entries);
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        for (unsigned tag = 0; tag < most_tags; ++tag) {
            const std::uint32_t owner = before[processor][tag].owner;
            if (owner == 0 || ((owner & of_other_cpu) != 0) != (vm == 1))
                pair.entries[processor][tag] = before[processor][tag];
        }
    }
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
            pair.entries[processor][tag] = before[processor][from];
    }
    if (!share_a_processor(pair)) exchange_processor_names(pair);
    exchange_owners(pair.entries);
    std::swap(pair.cpus[0], pair.cpus[1]);
    pair.places = exchange_places(pair.places);
    pair.memory = exchange_places(pair.memory);
}

}  // namespace

void exchange_processor_names(PairState& pair) {
    std::swap(pair.entries[0], pair.entries[1]);
    pair.ept01_fresh = exchange_bits(pair.ept01_fresh) & 0xF;
    pair.ept01_dead = exchange_bits(pair.ept01_dead) & 0xF;
}

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
        const unsigned processor = row ^ processor_of(pair, cpu);
        if (pair.of_two_vms == 0) {
            view.guest_physical[row].l1_fresh = pair.ept01_fresh >> processor & 1;
            view.guest_physical[row].l1_dead = pair.ept01_dead >> processor & 1;
        }
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
    pair.tags_used = view.manager.tags_used & 0x7F;
    unsigned fresh = 0;
    unsigned dead = 0;
    for (unsigned row = 0; row < cpu_count; ++row) {
        const unsigned processor = row ^ processor_of(pair, cpu);
        if (pair.of_two_vms == 0) {
            fresh |= std::uint32_t{view.guest_physical[row].l1_fresh} << processor;
            dead |= std::uint32_t{view.guest_physical[row].l1_dead} << processor;
            own.guest_physical[row].l1_fresh = 0;
            own.guest_physical[row].l1_dead = 0;
        }
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

namespace {

/// Visits `pair` under every combination of names; each exchange undoes itself.
template <typename Visitor, typename Exchange, typename... Exchanges>
void under_all_names(PairState& pair, const Visitor& visit, const Exchange& exchange,
                     const Exchanges&... exchanges) {
    for (unsigned turn = 0; turn < 2; ++turn) {
        if constexpr (sizeof...(exchanges) == 0) {
            visit();
        } else {
            under_all_names(pair, visit, exchanges...);
        }
        if (!exchange(pair)) return;
    }
}

}  // namespace

PairState canonical(const PairState& pair, const Alphabet& alphabet) {
    PairState least = pair;
    PairState named = pair;
    const auto consider = [&] {
        if (compare_bytes(named, least) < 0) least = named;
    };
    const auto cpus = [](PairState& state) {
        exchange_cpus(state);
        return true;
    };
    // False: there is but one name.
    const auto vpids = [&](unsigned vm) {
        return [&alphabet, vm](PairState& state) {
            if (alphabet.vpids == 1 || (vm == 1 && alphabet.vms == 1)) return false;
            if (alphabet.vms == 1) {
                exchange_vpids(state);
            } else {
                exchange_of_vm(state, vm, [](auto& of) { explore::exchange_vpids(of); });
            }
            return true;
        };
    };
    const auto eptps = [&](unsigned vm) {
        return [&alphabet, vm](PairState& state) {
            if (alphabet.eptps == 1 || (vm == 1 && alphabet.vms == 1)) return false;
            if (alphabet.vms == 1) {
                exchange_eptps(state);
            } else {
                exchange_of_vm(state, vm, [](auto& of) { explore::exchange_eptps(of); });
            }
            return true;
        };
    };
    under_all_names(named, consider, cpus, vpids(0), vpids(1), eptps(0), eptps(1));
    return least;
}

}  // namespace flatback::machine::explore
