#pragma once

#include <cstdint>
#include <string>

#include "guests/linux/arguments.hpp"
#include "guests/linux/counter_source.hpp"
#include "guests/linux/failure.hpp"

namespace flatback::guests {

/// Boots a Linux as L2 and runs it until it resets its machine. Its console goes to standard output, in whole
/// lines; `counters` answers its requests on COM2, or none where it is null. `boot_key` as for ConsoleFilter,
/// counted from `start`.
[[nodiscard]] Expected<void> run_linux(const LinuxArguments& arguments, CounterSource* counters,
                                       std::uint64_t start, const std::string& boot_key);

}  // namespace flatback::guests
