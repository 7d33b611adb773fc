// The text of the emulator's debugger, which `flatback watch` reads: a guest's debugger symbols and a full
// disk can make anything of it.
#pragma once

#include <cstdint>
#include <span>

namespace flatback::fuzz {

/// The first byte says into which pieces the rest is cut. Stops the program where the pieces tell something
/// else than the whole, or what was counted is impossible.
void watch_trace(std::span<const std::uint8_t> bytes);

}  // namespace flatback::fuzz
