#pragma once

#include <cstdint>
#include <span>

namespace flatback::fuzz {

/// Runs bytes as a program (machine/program/bytes.hpp) behind a fixed prologue, on a bare machine whose
/// geometric TLB is judged by a retentive one: every outcome must be one that is permitted. Stops the process
/// where one is not.
void run_judged_program(std::span<const std::uint8_t> bytes);

/// Reads bytes as a program's text; what is read must be written and read back the same.
void read_and_write_program(std::span<const std::uint8_t> bytes);

}  // namespace flatback::fuzz
