#include "tools/ground/user_terminal.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>

namespace flatback::tools {
namespace {

constexpr char control_a = 1;

}  // namespace

UserTerminal::UserTerminal() {
    termios attributes{};
    if (::tcgetattr(STDIN_FILENO, &attributes) != 0) return;
    before_ = attributes;
    ::cfmakeraw(&attributes);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &attributes);
}

UserTerminal::~UserTerminal() {
    if (before_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &*before_);
}

std::string UserTerminal::read() {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (ended_ || ::poll(&input, 1, 0) <= 0) return {};
    std::array<char, 4096> buffer;
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count > 0) return {buffer.data(), static_cast<std::size_t>(count)};
    ended_ = true;
    return {};
}

EscapeKey::Keys EscapeKey::filter(std::string_view typed) {
    Keys keys;
    for (const char key : typed) {
        if (!escaped_) {
            escaped_ = key == control_a;
            if (!escaped_) keys.bytes += key;
            continue;
        }
        escaped_ = false;
        switch (key) {
            case 'x':
            case 'X':
                keys.action = Action::leave;
                return keys;
            case 'h':
            case '?':
                keys.action = Action::help;
                break;
            case 'a':
            case control_a:
                keys.bytes += control_a;
                break;
            default:
                keys.bytes += control_a;
                keys.bytes += key;
        }
    }
    return keys;
}

}  // namespace flatback::tools
