#include "judge/explore/state.hpp"

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

void exchange_vpids(State& state) {
    for (auto& of_cpu : state.entries) {
        for (Entries& entries : of_cpu) entries.owner = other_name(std::uint32_t{entries.owner}) & 0xFF;
    }
    std::swap(state.bare[0], state.bare[1]);
    state.guest = other_name(std::uint32_t{state.guest}) & 0xF;
    state.memory = other_name(std::uint32_t{state.memory}) & 7;
    Manager& manager = state.manager;
    manager.occupant = other_name(manager.occupant);
    for (std::uint8_t& guest : manager.slot_guests) guest = other_name(guest);
    const std::uint8_t hint = manager.hint_1;
    manager.hint_1 = manager.hint_2;
    manager.hint_2 = hint & 1;
}

void exchange_eptps(State& state) {
    for (auto& of_cpu : state.entries) {
        for (Entries& entries : of_cpu) {
            if (!is_l2(entries.guest())) continue;
            entries.fresh = swap_eptps(entries.fresh) & all_keys;
            entries.old_ept = swap_eptps(entries.old_ept) & all_keys;
            entries.old = swap_eptps(entries.old) & all_keys;
            entries.dead = swap_eptps(entries.dead) & all_keys;
        }
    }
    for (GuestPhysical& mappings : state.guest_physical) {
        mappings.fresh = swap_contexts(mappings.fresh) & 0xF;
        mappings.old_ept = swap_contexts(mappings.old_ept) & 0xF;
        mappings.dead = swap_contexts(mappings.dead) & 0xF;
    }
    for (std::uint8_t& keys : state.bare) keys = static_cast<std::uint8_t>(swap_eptps(keys));
    state.bare_guest_physical = swap_contexts(state.bare_guest_physical) & 0xF;
    state.ept02_fresh = swap_contexts(state.ept02_fresh) & 0xF;
    state.ept02_old = swap_contexts(state.ept02_old) & 0xF;
    if (is_l2(state.running())) state.eptp = (state.eptp ^ 1) & 1;
}

}  // namespace

std::uint64_t hash(const State& state) {
    std::array<std::uint64_t, (sizeof(State) + 7) / 8> words{};
    std::memcpy(words.data(), &state, sizeof state);
    std::uint64_t mixed = 0;
    for (const std::uint64_t word : words) {
        mixed = (mixed ^ word) * 0x9E37'79B9'7F4A'7C15ULL;
        mixed ^= mixed >> 29;
    }
    mixed *= 0xBF58'476D'1CE4'E5B9ULL;
    return mixed ^ mixed >> 32;
}

State canonical(const State& state, const Alphabet& alphabet) {
    State least = state;
    State named = state;
    const auto consider = [&] {
        if (std::memcmp(&named, &least, sizeof named) < 0) least = named;
    };
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
    return least;
}

}  // namespace flatback::machine::explore
