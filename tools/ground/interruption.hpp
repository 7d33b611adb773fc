// Ctrl-C and its like: a flag that the loops of the command look at, so that every child process is ended and
// every temporary directory removed on the way out.
#pragma once

namespace flatback::tools {

// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of ending the process.
void catch_interruptions();

[[nodiscard]] bool interrupted();

}  // namespace flatback::tools
