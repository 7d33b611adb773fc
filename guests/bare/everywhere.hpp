// The checks on all processors at once: each runs a copy of this hypervisor (l1/beside.hpp).
#pragma once

#include <cstdint>

#include "guests/bare/l1/options.hpp"

namespace flatback::guests {

// On the first processor, in VMX operation. Says why it cannot be done; empty where it was.
std::string_view run_everywhere(std::uint32_t boot_information, const Options& options);

}  // namespace flatback::guests
