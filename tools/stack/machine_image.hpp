// The entries of the image for real machines (tools/image/hybrid_image.hpp).
#pragma once

#include <string>
#include <string_view>

#include "tools/image/hybrid_image.hpp"
#include "tools/image/linux_guest.hpp"

namespace flatback::tools {

inline constexpr std::string_view own_entry_id = "own";
inline constexpr std::string_view self_test_entry_id = "self-test";
inline constexpr std::string_view linux_entry_id = "linux";

// The bare L1 with all its checks and timings.
[[nodiscard]] MenuEntry self_test_entry();
// Linux with KVM as L1, and the benchmark in it and in its guest. Nothing of the emulated machine's clock is
// on its command line.
[[nodiscard]] MenuEntry linux_entry(const LinuxGuest& guest);
// A plan without an L0.
[[nodiscard]] MenuEntry own_entry(BootPlan plan, std::string title);

}  // namespace flatback::tools
