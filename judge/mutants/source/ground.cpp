#include "judge/mutants/source/ground.hpp"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace flatback::machine {

std::string file_text(const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
}

void write_text(const std::filesystem::path& file, const std::string& text) {
    if (!(std::ofstream(file, std::ios::binary) << text))
        throw std::runtime_error(file.string() + ": cannot be written");
}

std::string quoted(const std::filesystem::path& path) {
    std::string text = "'";
    for (const char c : path.string()) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
}

int run_shell(const std::string& command) {
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace flatback::machine
