#pragma once

#include <span>
#include <string>
#include <vector>

#include "judge/explore/search.hpp"

namespace flatback::machine::explore {

/// The program, one line a step, and then which entry it is that must not be used: made at which step by
/// whom, on which processor and under which tag, and at which step it should have gone.
[[nodiscard]] std::vector<std::string> tell(const Options& options, std::span<const Action> program);

}  // namespace flatback::machine::explore
