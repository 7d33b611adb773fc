#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guests/linux/payload.hpp"

namespace flatback::guests {

struct Arguments {
    enum class Action { run, power_off, help };
    Action action = Action::run;
    /// In the order they run; all of them where none was named.
    std::vector<PayloadId> payloads;
};

/// `arguments` without the program's name. The error is one line for the user.
[[nodiscard]] std::expected<Arguments, std::string> parse_arguments(
    std::span<const std::string_view> arguments);

[[nodiscard]] std::string usage();

}  // namespace flatback::guests
