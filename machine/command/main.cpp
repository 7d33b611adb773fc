#include <iostream>
#include <string>
#include <vector>

#include "machine/command/command_line.hpp"

int main(int count, char** values) {
    const std::vector<std::string> arguments(values + 1, values + count);
    return flatback::machine::command_line(arguments, std::cout, std::cerr);
}
