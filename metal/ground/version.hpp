#pragma once

#include <cstdint>

namespace flatback::metal {

// major << 16 | minor << 8 | patch
inline constexpr std::uint32_t version_number = 0x000100;

}  // namespace flatback::metal
