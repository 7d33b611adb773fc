// The numbers by which translations are told apart, each a type of its own: none can be given for another by
// mistake.
#pragma once

#include <cstdint>

namespace flatback::tag {

// A VPID as the processor knows it (SDM 3C 29.1). `none` is VPID 0000H: run with "enable VPID" = 0.
enum class TagNumber : std::uint16_t { none = 0 };

// For VMWRITE and for the descriptor of INVVPID.
[[nodiscard]] constexpr std::uint16_t raw(TagNumber tag) {
    return static_cast<std::uint16_t>(tag);
}

// The value L1 wrote in its VMCS's VPID field for its guest. `none` where L1 gives that guest no VPID: with
// "enable VPID" the engine fails an entry that has it.
enum class Vpid12 : std::uint16_t { none = 0 };

[[nodiscard]] constexpr std::uint16_t raw(Vpid12 vpid12) {
    return static_cast<std::uint16_t>(vpid12);
}

}  // namespace flatback::tag
