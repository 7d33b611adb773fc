#pragma once

#include <cstdint>
#include <span>

namespace flatback::fuzz {

/// Restores a nested state made of the bytes: as they are, or as changes of one that L0 has saved. One that
/// is refused must have had no effect; one that is taken must be saved again the same, and its guest must
/// run. Anything else prints what it was and aborts.
void run_nested_state(std::span<const std::uint8_t> bytes);

}  // namespace flatback::fuzz
