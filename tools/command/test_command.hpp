// `flatback test`: every test of the repository, and the closing line `N passed, N failed`.
#pragma once

#include "tools/command/command_line.hpp"

namespace flatback::tools {

[[nodiscard]] Result<ExitStatus> test_command(const TestOptions& options);

}  // namespace flatback::tools
