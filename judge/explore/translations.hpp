// What the architecture's rules do to a State: to the caches of the processors that L0 uses, and to those of
// the bare processor on which the same program would run (SDM 3C 29.4.3; machine/translation/invalidation.hpp
// has the rows).
#pragma once

#include "judge/explore/state.hpp"

namespace flatback::machine::explore {

// --- Memory changes ---

/// The paging structures of every L2 map `page` elsewhere.
void edit_page(State& state, unsigned page);
/// EPT12 maps `page` elsewhere.
void edit_ept(State& state, unsigned eptp, unsigned page);
/// L0 puts `page` of L1's memory elsewhere, and takes it out of EPT01 and all of EPT02. Bare it stays.
void take_page(State& state, unsigned page);

// --- The bare processor drops ---

/// Linear and combined mappings of one L2.
void bare_drop(State& state, Guest guest, Keys keys);
/// Guest-physical and combined mappings of one EPTP. L0 empties its EPT02, which has the same content.
void bare_invept(State& state, unsigned eptp);

// --- A processor of L0's drops ---

void drop(State& state, unsigned cpu, unsigned tag, Keys keys);
/// INVEPT of one EPT02.
void invept(State& state, unsigned cpu, unsigned eptp);
/// INVEPT of every EPT02 that the virtual CPU has; INVEPT of its EPT01.
void invept_of_l2s(State& state, unsigned cpu);
void invept_of_l1(State& state, unsigned cpu);

// --- Caches are filled ---

/// L2 runs under `tag` and accesses `page`, bare and nested.
void fill(State& state, unsigned tag, unsigned page);
/// What serves that access, or a part of it, and must be gone: an entry under the tag, a guest-physical
/// mapping.
struct Served {
    bool by_dead_entry = false;
    bool by_dead_guest_physical = false;
};
[[nodiscard]] Served served(const State& state, unsigned tag, unsigned page);
/// L1 (or another VM's L1, `owner`) has run under the tag, and touched all of its pages.
void fill_l1(State& state, unsigned cpu, unsigned tag, Guest owner, unsigned pages);

/// Forgets what can decide nothing any more, so that more states are equal.
void forget_the_irrelevant(State& state);

}  // namespace flatback::machine::explore
