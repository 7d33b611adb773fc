// The terminal that the user sits at, as a line to another program's: keys go through as they are typed.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>

namespace flatback::tools {

// While it lives, standard input gives each key at once and echoes none, where it is a terminal. What a
// program writes meanwhile needs "\r\n" for a new line.
class UserTerminal final {
public:
    UserTerminal();
    ~UserTerminal();
    UserTerminal(const UserTerminal&) = delete;
    UserTerminal& operator=(const UserTerminal&) = delete;

    // What was typed since the last call; does not wait. At the end of the input: nothing, for ever.
    [[nodiscard]] std::string read();

private:
    std::optional<termios> before_;
    bool ended_ = false;
};

// What the keys mean: Ctrl-A is the command's, and all else the guest's.
class EscapeKey final {
public:
    enum class Action : unsigned char { none, leave, help };
    struct Keys {
        std::string bytes;  // for the guest
        Action action = Action::none;
    };
    // Ctrl-A x leaves, Ctrl-A Ctrl-A (or a) is one Ctrl-A for the guest, Ctrl-A h tells of them, and any
    // other key behind Ctrl-A goes to the guest with it. What stands behind a key that leaves is lost.
    [[nodiscard]] Keys filter(std::string_view typed);

private:
    bool escaped_ = false;  // the last key was Ctrl-A
};

}  // namespace flatback::tools
