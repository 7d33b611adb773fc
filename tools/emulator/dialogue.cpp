#include "tools/emulator/dialogue.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace flatback::tools {
namespace {

constexpr int poll_milliseconds = 50;
constexpr int pipe_bytes = 1 << 20;  // so that Bochs and its listener wait for each other seldom

}  // namespace

Result<std::unique_ptr<Dialogue>> Dialogue::create(const std::filesystem::path& output, int commands,
                                                   Listener listener) {
    const auto cannot = [&output] {
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make {}: {}", output.string(), std::strerror(errno)));
    };
    if (::mkfifo(output.c_str(), 0600) != 0) return cannot();
    const int heard = ::open(output.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (heard < 0) return cannot();
    ::fcntl(heard, F_SETPIPE_SZ, pipe_bytes);  // less does too
    const int said = ::fcntl(commands, F_DUPFD_CLOEXEC, 0);
    if (said < 0) {
        ::close(heard);
        return cannot();
    }
    return std::unique_ptr<Dialogue>{new Dialogue{heard, said, std::move(listener)}};
}

Dialogue::Dialogue(int output, int commands, Listener listener)
    : output_{output}, commands_{commands}, listener_{std::move(listener)}, thread_{[this] { listen(); }} {}

void Dialogue::finish() {
    if (!thread_.joinable()) return;
    ended_ = true;
    thread_.join();
    ::close(output_);
    ::close(commands_);
}

void Dialogue::listen() {
    std::array<char, 256 * 1024> buffer;
    for (;;) {
        // Before it is read: what is there then is all.
        const bool last = ended_;
        const ssize_t count = ::read(output_, buffer.data(), buffer.size());
        if (count > 0) {
            const std::string answer = listener_({buffer.data(), static_cast<std::size_t>(count)});
            // Far less than a pipe holds: one write is whole or fails, and then the run ends by its time.
            if (!answer.empty()) {
                [[maybe_unused]] const ssize_t written = ::write(commands_, answer.data(), answer.size());
            }
            continue;
        }
        if (last) return;
        pollfd wait{output_, POLLIN, 0};
        // Without a writer it returns at once, for as long as Bochs has not begun.
        ::poll(&wait, 1, poll_milliseconds);
        if ((wait.revents & POLLIN) == 0) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

}  // namespace flatback::tools
