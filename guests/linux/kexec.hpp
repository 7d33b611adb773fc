#pragma once

#include "guests/linux/arguments.hpp"
#include "guests/linux/failure.hpp"

namespace flatback::guests {

/// Starts the Linux in the place of this machine's own. Comes back only where that is not possible.
[[nodiscard]] Failure kexec(const LinuxArguments& next);

}  // namespace flatback::guests
