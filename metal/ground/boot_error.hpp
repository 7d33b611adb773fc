// Why an input of the boot is refused. The texts are whole clauses: "FLATBACK error L0: <what> (<value>)".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace flatback::metal {

struct BootError {
    std::string_view what;                 // static storage
    std::optional<std::uint64_t> value{};  // printed in hexadecimal where it helps
    friend bool operator==(const BootError&, const BootError&) = default;
};

}  // namespace flatback::metal
