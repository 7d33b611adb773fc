// The line of a self-test (interface/self_test_line.hpp), as a person typed or scanned it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "interface/self_test_line.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

struct SelfTestLine {
    std::string version;          // Flatback's
    std::uint32_t signature = 0;  // CPUID leaf 1, EAX
    std::string processor;
    std::string under;  // the hypervisor's signature, or NOTHING
    std::uint64_t passed = 0;
    std::uint64_t failed = 0;
    // Ticks or cycles, in the order of interface::self_test_values; nullopt: not measured.
    std::array<std::optional<std::uint64_t>, interface::self_test_values.size()> values;
};

// Every such line in a text, of which the rest is ignored: letters of either case, broken anywhere by spaces
// and ends of lines. Error: input_file, one line that says what is wrong with which of them, or that there is
// none; `name` is what it calls the text.
[[nodiscard]] Result<std::vector<SelfTestLine>> read_self_test_lines(std::string_view text,
                                                                     std::string_view name);

}  // namespace flatback::tools
