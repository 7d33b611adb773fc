// `flatback run --two-vms`: two L1s that share a processor.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct TwoVmsOptions {
    std::optional<std::filesystem::path> json_file;
    std::chrono::seconds limit{900};
};

// success where both passed all their checks. Error: what kept it from running.
[[nodiscard]] Result<ExitStatus> two_vms_command(const TwoVmsOptions& options);

}  // namespace flatback::tools
