#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>

namespace flatback::guests {

/// What failed, ready to be printed.
using Failure = std::string;
template <typename T>
using Expected = std::expected<T, Failure>;

/// The failure of a system call that has just set errno.
[[nodiscard]] inline std::unexpected<Failure> system_failure(std::string_view what) {
    return std::unexpected(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace flatback::guests
