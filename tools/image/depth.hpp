// L0 as L1 of itself.
#pragma once

#include <string_view>

#include "tools/image/boot_image.hpp"

namespace flatback::tools {

// More levels than anybody waits for: each makes an exit a dozen times as long.
inline constexpr unsigned most_levels = 4;

// The usual words of those that are L1: they leave the screen to the first.
inline constexpr std::string_view inner_l0_words = "log=quiet console=serial";

// The plan's L1 with `levels` times its L0 beneath it in all, each one L1 of the next. words: the command
// line of those that are L1. The plan has an L0, and levels is at least 1.
void stack_levels(BootPlan& plan, unsigned levels, std::string_view words);

}  // namespace flatback::tools
