// A physical (logical) processor, as the tag manager names it.
#pragma once

#include <cstdint>

namespace flatback::tag {

// Numbered by the host, from 0. `none` is no processor: where a tag has never been flushed.
enum class Cpu : std::uint32_t { none = 0xffff'ffff };

}  // namespace flatback::tag
