#include <iostream>
#include <string>
#include <vector>

#include "judge/command/command_line.hpp"

int main(int count, char** values) {
    const std::vector<std::string> arguments(values + 1, values + count);
    const int status = flatback::machine::command_line(arguments, std::cout, std::cerr);
    if (std::cout.flush()) return status;
    std::cerr << "flatback machine: standard output cannot be written\n";
    return static_cast<int>(flatback::machine::CommandStatus::failure);
}
