// `flatback run`: boots the whole stack in each nested-VPID mode, and ends with the table.
#pragma once

#include "tools/command/command_line.hpp"

namespace flatback::tools {

// success only where every stage was reached and every value of the report was measured in this run.
[[nodiscard]] Result<ExitStatus> stack_command(const StackOptions& options);

}  // namespace flatback::tools
