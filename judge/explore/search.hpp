#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/seeded_defect.hpp"
#include "judge/explore/stepper.hpp"

namespace flatback::machine::explore {

struct Options {
    Alphabet alphabet{};
    SeededDefect defect = SeededDefect::none;
    /// Programs of up to so many steps.
    unsigned depth = 5;
    /// What the tag manager's marks disown is taken for the worst that it can be (judge/explore/worst.hpp):
    /// fewer states, and no program that breaks something is missed; one that is found may break nothing.
    bool worst = false;
    std::size_t memory_bytes = std::size_t{1} << 30;
    /// Told of each depth when it is done: the depth, the states so far, those that are new at it.
    std::function<void(unsigned, std::size_t, std::size_t)> progress{};
};

struct Result {
    std::size_t states = 0;
    /// Every program of so many steps was judged.
    unsigned depth = 0;
    /// No further step leads to a new state: programs of any length were judged.
    bool closed = false;
    std::size_t memory_bytes = 0;
    /// A shortest program that shows something that must not be, and what that is; none: it holds.
    std::vector<Action> program{};
    std::optional<Broken> broken{};
};

/// Visits every state that programs over the alphabet can reach, level by level. Throws `LimitReached` where
/// memory ends.
[[nodiscard]] Result explore(const Options& options);

}  // namespace flatback::machine::explore
