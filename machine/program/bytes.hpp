#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "machine/program/program.hpp"
#include "machine/program/result.hpp"

namespace flatback::machine {

/// The byte form: four bytes a step, made for a mutating fuzzer. Byte 0 says what is done, byte 1 by whom and
/// on which virtual CPU, bytes 2 and 3 choose operands from small sets (a few pages, VPIDs, types,
/// hierarchies, values on both sides of each limit), so that steps meet one another. Every sequence of bytes
/// is a program; what is missing of the last step is zero. The only rule: at most `limit` steps.
[[nodiscard]] Result<Program, std::string> program_from_bytes(std::span<const std::uint8_t> bytes,
                                                              std::size_t limit = 4096);

}  // namespace flatback::machine
