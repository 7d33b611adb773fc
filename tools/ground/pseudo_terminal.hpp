// A terminal for another program, whose keyboard and screen this process is.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "tools/ground/error.hpp"

namespace flatback::tools {

class PseudoTerminal final {
public:
    enum class Mode : unsigned char {
        raw,    // bytes go through as they are
        usual,  // as a terminal window's: for a program that a person talks to
    };
    // Error: missing_program, where the system gives none.
    [[nodiscard]] static Result<PseudoTerminal> create(Mode mode);

    PseudoTerminal(PseudoTerminal&& other) noexcept
        : master_{std::exchange(other.master_, -1)},
          slave_{std::exchange(other.slave_, -1)},
          path_{std::move(other.path_)} {}
    PseudoTerminal& operator=(PseudoTerminal&&) = delete;
    PseudoTerminal(const PseudoTerminal&) = delete;
    PseudoTerminal& operator=(const PseudoTerminal&) = delete;
    ~PseudoTerminal();

    // What the other program opens.
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

    // What it has written since the last call; does not wait.
    [[nodiscard]] std::string read();

    // Keys for it. What it does not take at once is kept, and given with the next call of write or read.
    void write(std::string_view bytes);

private:
    PseudoTerminal(int master, int slave, std::filesystem::path path)
        : master_{master}, slave_{slave}, path_{std::move(path)} {}
    void flush();

    int master_ = -1;
    int slave_ =
        -1;  // open, so that the terminal lives before the other program opens it and after it closes it
    std::filesystem::path path_;
    std::string pending_;
};

}  // namespace flatback::tools
