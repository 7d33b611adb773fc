// `flatback watch`: windows of a real run on the machine's tagged TLBs (docs/watch.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tools/ground/error.hpp"
#include "tools/watch/watched_runs.hpp"

namespace flatback::tools {

struct WatchOptions {
    std::optional<std::filesystem::path> file;  // a kept text of the emulator's trace; none: runs are made
    WatchRequest request;
    std::string tlb = "skylake-x";        // whose TLB counts misses
    std::optional<std::uint64_t> vmcs01;  // of a kept text
    std::optional<std::filesystem::path> json_file;
};

// success where no access could have met a stale translation; incomplete where one could, or a run went
// wrong.
[[nodiscard]] Result<ExitStatus> watch_command(const WatchOptions& options);

}  // namespace flatback::tools
