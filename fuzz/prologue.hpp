#pragma once

#include "machine/program/program.hpp"

namespace flatback::fuzz {

/// What the bytes of a fuzzer (machine/program/bytes.hpp) go on from: page and EPT hierarchies that map their
/// addresses, an L2 that runs with EPT under vpid12 = 1, and another that could run without.
[[nodiscard]] const machine::Program& prologue();

}  // namespace flatback::fuzz
