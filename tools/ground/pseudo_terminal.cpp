#include "tools/ground/pseudo_terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace flatback::tools {

Result<PseudoTerminal> PseudoTerminal::create(Mode mode) {
    int master = -1;
    int slave = -1;
    termios raw{};
    ::cfmakeraw(&raw);
    const auto cannot = [] {
        return fail(ExitStatus::missing_program,
                    fmt::format("cannot make a pseudo terminal: {}", std::strerror(errno)));
    };
    if (::openpty(&master, &slave, nullptr, mode == Mode::raw ? &raw : nullptr, nullptr) != 0)
        return cannot();
    std::array<char, 128> name{};
    const bool named = ::ttyname_r(slave, name.data(), name.size()) == 0;
    PseudoTerminal terminal{master, slave, name.data()};
    for (const int number : {master, slave}) {
        if (!named || ::fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return cannot();
    }
    if (::fcntl(master, F_SETFL, O_NONBLOCK) != 0) return cannot();
    return terminal;
}

PseudoTerminal::~PseudoTerminal() {
    for (const int number : {master_, slave_}) {
        if (number >= 0) ::close(number);
    }
}

std::string PseudoTerminal::read() {
    flush();
    std::string text;
    std::array<char, 4096> buffer;
    // Bounded, so that keys are looked at though the other program never ends to write.
    constexpr std::size_t most = 1 << 20;
    while (text.size() < most) {
        const ssize_t count = ::read(master_, buffer.data(), buffer.size());
        if (count <= 0) break;
        text.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return text;
}

void PseudoTerminal::write(std::string_view bytes) {
    pending_ += bytes;
    flush();
}

void PseudoTerminal::flush() {
    while (!pending_.empty()) {
        const ssize_t count = ::write(master_, pending_.data(), pending_.size());
        if (count <= 0) return;
        pending_.erase(0, static_cast<std::size_t>(count));
    }
}

}  // namespace flatback::tools
