// `flatback bench`: the seed's benchmark on the whole stack, on this hypervisor and, where asked for, on the
// peer.
#pragma once

#include "tools/command/command_line.hpp"

namespace flatback::tools {

// success only where every run went through its stages and every value was measured: else no table, no JSON.
[[nodiscard]] Result<ExitStatus> bench_command(const BenchOptions& options);

}  // namespace flatback::tools
