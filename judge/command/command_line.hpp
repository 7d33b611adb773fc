#pragma once

#include <iosfwd>
#include <span>
#include <string>

namespace flatback::machine {

/// Exit statuses of the commands below.
enum class CommandStatus : int {
    success = 0,
    failure = 1,  // what was asked for was done, and the answer is bad (a difference, a mutant that lives)
    usage = 2,    // a bad argument or an unreadable or bad program: one line on the error stream
    limit = 3,    // a bound that the user set was reached: one line on the error stream
};

/// `flatback machine ARGUMENTS...`: the arguments without the program's name.
int command_line(std::span<const std::string> arguments, std::ostream& out, std::ostream& error);

}  // namespace flatback::machine
