// `flatback run --cpus N` and `flatback bench --peer kvm --cpus N`: what several processors cost, as a table.
#pragma once

#include "tools/command/command_line.hpp"

namespace flatback::tools {

// success only where every stage was reached and every value of the report was measured in this run.
[[nodiscard]] Result<ExitStatus> processors_command(const StackOptions& options);
// The same, and beside it the peer's.
[[nodiscard]] Result<ExitStatus> processors_bench_command(const BenchOptions& options);

}  // namespace flatback::tools
