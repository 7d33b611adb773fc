#include "judge/explore/state.hpp"

#include <algorithm>
#include <utility>

namespace flatback::machine::explore {

namespace {

constexpr std::uint32_t swap_halves(std::uint32_t bits, unsigned half) {
    const std::uint32_t mask = (1U << half) - 1;
    return (bits & mask) << half | (bits >> half & mask);
}
constexpr Keys swap_eptps(Keys keys) {
    return swap_halves(keys, keys_of_eptp);
}
constexpr std::uint32_t swap_contexts(std::uint32_t bits) {
    return swap_halves(bits, 2);
}

template <typename Number>
constexpr Number other_name(Number guest) {
    constexpr Number one{static_cast<std::uint8_t>(Guest::vpid_1)};
    constexpr Number two{static_cast<std::uint8_t>(Guest::vpid_2)};
    return guest == one ? two : guest == two ? one : guest;
}

/// An owner is a guest, or that of L1's other virtual CPU.
constexpr std::uint32_t of_other_cpu = static_cast<std::uint32_t>(Guest::of_other_cpu);
constexpr std::uint32_t guest_of(std::uint32_t owner) {
    return owner & ~of_other_cpu;
}

}  // namespace

KeptState keep(const State& state) {
    KeptState kept{state, {}};
    for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
        std::ranges::copy_n(state.entries[cpu].begin(), most_tags_of_one_cpu, kept.entries[cpu].begin());
    return kept;
}

State restored(const KeptState& kept) {
    State state{kept.cpu, {}};
    for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
        std::ranges::copy(kept.entries[cpu], state.entries[cpu].begin());
    return state;
}

void exchange_vpids(VirtualCpu& cpu) {
    std::swap(cpu.bare[0], cpu.bare[1]);
    cpu.guest = other_name(std::uint32_t{cpu.guest}) & 0xF;
    cpu.memory = other_name(std::uint32_t{cpu.memory}) & 7;
    Manager& manager = cpu.manager;
    manager.occupant = other_name(manager.occupant);
    for (std::uint8_t& guest : manager.slot_guests) guest = other_name(guest);
    const std::uint8_t hint = manager.hint_1;
    manager.hint_1 = manager.hint_2;
    manager.hint_2 = hint & 1;
}

void exchange_vpids(EntriesOfTags& entries) {
    for (auto& of_cpu : entries) {
        for (Entries& of_tag : of_cpu) {
            const std::uint32_t owner = of_tag.owner;
            of_tag.owner = (other_name(guest_of(owner)) | (owner & of_other_cpu)) & 0xFF;
        }
    }
}

void exchange_eptps(VirtualCpu& cpu) {
    for (GuestPhysical& mappings : cpu.guest_physical) {
        mappings.fresh = swap_contexts(mappings.fresh) & 0xF;
        mappings.old_ept = swap_contexts(mappings.old_ept) & 0xF;
        mappings.dead = swap_contexts(mappings.dead) & 0xF;
    }
    for (std::uint8_t& keys : cpu.bare) keys = static_cast<std::uint8_t>(swap_eptps(keys));
    cpu.bare_guest_physical = swap_contexts(cpu.bare_guest_physical) & 0xF;
    cpu.ept02_fresh = swap_contexts(cpu.ept02_fresh) & 0xF;
    cpu.ept02_old = swap_contexts(cpu.ept02_old) & 0xF;
    if (is_l2(cpu.running())) cpu.eptp = (cpu.eptp ^ 1) & 1;
}

void exchange_eptps(EntriesOfTags& entries) {
    for (auto& of_cpu : entries) {
        for (Entries& of_tag : of_cpu) {
            if (!is_l2(static_cast<Guest>(guest_of(of_tag.owner)))) continue;
            of_tag.fresh = swap_eptps(of_tag.fresh) & all_keys;
            of_tag.old_ept = swap_eptps(of_tag.old_ept) & all_keys;
            of_tag.old = swap_eptps(of_tag.old) & all_keys;
            of_tag.dead = swap_eptps(of_tag.dead) & all_keys;
        }
    }
}

State canonical(const State& state, const Alphabet& alphabet) {
    State least = state;
    State named = state;
    const auto consider = [&] {
        if (compare_bytes(named, least) < 0) least = named;
    };
    const auto vpids = [&] {
        exchange_vpids(named);
        exchange_vpids(named.entries);
        consider();
    };
    if (alphabet.vpids > 1) vpids();
    if (alphabet.eptps > 1) {
        exchange_eptps(named);
        exchange_eptps(named.entries);
        consider();
        if (alphabet.vpids > 1) vpids();
    }
    return least;
}

}  // namespace flatback::machine::explore
