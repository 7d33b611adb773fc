#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "judge/trial/nested_world.hpp"
#include "machine/program/program.hpp"

namespace flatback::machine {

/// What software can tell a run under the engine from a run on the bare machine by.
struct Difference {
    enum class Kind : std::uint8_t {
        permitted,  // the nested run permits an outcome that the bare one does not: a flush is missing
        observed,   // flags, error numbers, values, exits or exceptions
        registers,
        memory,   // found at the end
        stopped,  // the engine gave up
    };

    Kind kind = Kind::observed;
    /// The number of the step, from 0; `memory`: one past the last.
    std::size_t step = 0;
    /// One line: what each saw.
    std::string text;
    /// `permitted`: where the outcome comes from.
    PermittedOutcome outcome{};
};

/// Runs a program on the bare machine and under the engine, step by step, and compares everything that L1 and
/// L2 observe. Every outcome that the nested run permits for an access must be one that the bare run permits,
/// where a bare processor may at any time cache what the EPT in use maps (SDM 3C 29.4.2). An access that may
/// have more than one outcome on the bare machine is not made, in neither run: the program left that open.
///
/// The bare machine is the processor that the engine promises its L1s. A bound that is reached ends the
/// comparison, and so does a step that takes a VMCS from another processor on which it is active: the SDM
/// leaves open what comes of it.
[[nodiscard]] std::optional<Difference> compare(const Program& program, const NestedWorld::Options& options);

/// The shortest program found by leaving steps out that still shows a difference of this kind.
[[nodiscard]] Program shorten(const Program& program, const NestedWorld::Options& options,
                              Difference::Kind kind);

/// For a person: the shortest program in the text form, and what is different; for an outcome that is not
/// permitted, which entry it comes from, made when under which tag, and at which step it should have gone.
[[nodiscard]] std::string account(const Program& program, const NestedWorld::Options& options);

}  // namespace flatback::machine
