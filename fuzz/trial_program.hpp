#pragma once

#include <cstdint>
#include <span>

namespace flatback::fuzz {

/// Runs bytes as a program of an L1 bare and under the engine (judge/trial/trial.hpp). Where something
/// differs, says so with the shortest program found, and stops the process.
///
/// The first byte says what L0 has: how many tags, how it gives them out, whether VMCSs are shadowed; and
/// which of two readings the rest has: judge/trial/random_program.hpp, in which most programs run L2s, or
/// machine/program/bytes.hpp, which can say anything.
void run_trial_program(std::span<const std::uint8_t> bytes);

}  // namespace flatback::fuzz
