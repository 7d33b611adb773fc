// `flatback trace`: what L0 recorded while L1 and L2 ran, from a run of the stack or from a kept file.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct TraceOptions {
    std::optional<std::filesystem::path> file;  // none: the stack is booted
    std::vector<std::string> modes{"mapped"};
    std::string payloads{"l2_cpuid,l2_alternating_vpid12"};
    std::optional<std::pair<std::uint64_t, std::uint64_t>> window;  // of the TSC, the end not included
    std::optional<std::uint64_t> last;                              // events
    std::optional<std::uint64_t> tsc_khz;                           // for a file that does not say
    std::optional<std::filesystem::path> json_file;
    std::optional<std::filesystem::path> perfetto_file;
    std::optional<std::filesystem::path> raw_file;
    std::chrono::seconds limit{600};
};

// "START:END" in ticks; nothing where it is not that.
[[nodiscard]] std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_window(std::string_view text);

[[nodiscard]] Result<ExitStatus> trace_command(const TraceOptions& options);

}  // namespace flatback::tools
