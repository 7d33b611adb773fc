#pragma once

#include <array>
#include <cstddef>
#include <set>
#include <string>

#include "judge/trial/nested_world.hpp"
#include "machine/program/program.hpp"

namespace flatback::machine {

/// How far programs get: a search that is passed over where it matters finds nothing.
struct Reach {
    std::size_t programs = 0;
    std::size_t steps = 0;
    std::size_t passed_over = 0;  // the other one of L1 and L2 ran, or the world refused
    std::size_t entries = 0;      // VM entries by L1 that came to stand
    std::size_t failed_entries = 0;
    std::size_t exits = 0;
    std::size_t accesses = 0;  // loads, stores and fetches of an L2 that were translated
    std::size_t faults = 0;    // ... that ended in an exception or an exit
    /// INVVPIDs that succeeded, by type; of these, those of a vpid12 that an L2 had run under (type 2: any).
    std::array<std::size_t, 4> invvpids{};
    std::array<std::size_t, 4> invvpid_hits{};
    std::size_t invepts = 0;
    std::size_t moves = 0;      // to another processor
    std::size_t l1s_moves = 0;  // VMCSs that L1 made current on another of its processors than before
    std::size_t taken_pages = 0;
    std::size_t under_two_vpids = 0;  // programs in which one virtual CPU ran L2s under two vpid12 or more
    std::size_t with_ept_and_without = 0;
    std::size_t flushes = 0;         // that L0 executed
    std::size_t nmis = 0;            // that L1 or L2 was given
    std::size_t interrupts = 0;      // the same of external ones
    std::size_t through_idts = 0;    // exceptions and INTs of L1's and L2's that had a handler
    std::size_t vectored_exits = 0;  // L2's exits in the midst of a delivery
    std::size_t pae_accesses = 0;    // of `accesses`, those of an L2 with PAE paging
    std::size_t accesses_of_32_bits = 0;

    Reach& operator+=(const Reach& other);
};

/// Runs a program under the engine and counts.
[[nodiscard]] Reach reach_of(const Program& program, const NestedWorld::Options& options);

/// For a person, a few lines.
[[nodiscard]] std::string describe(const Reach& reach);

}  // namespace flatback::machine
