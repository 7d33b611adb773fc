#pragma once

#include <cstdint>
#include <span>

#include "machine/program/program.hpp"

namespace flatback::machine {

/// A program from bytes, four of them a step: an L1 with two virtual CPUs that runs L2s under three vpid12,
/// two of them with EPT, edits their structures, flushes what it will, and is moved about by L0. Every byte
/// string is a program; a shorter one is a prefix of the same program. What is known to differ by design
/// (docs/trial.md) is not in it.
///
/// With `has_handlers_and_modes` some of the steps are others: L2s, and L1, get an IDT and use it, and L2s
/// leave 64-bit mode for PAE and 32-bit paging.
[[nodiscard]] Program random_program(std::span<const std::uint8_t> bytes,
                                     bool has_handlers_and_modes = false);

}  // namespace flatback::machine
