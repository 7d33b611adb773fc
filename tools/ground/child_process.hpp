// A program run in a session of its own, which is ended, with what it started, when the object's life ends.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct CommandLine {
    std::vector<std::string> arguments;    // the first is the program, searched in PATH
    std::filesystem::path directory;       // the working directory; empty: this process's
    std::filesystem::path output;          // standard output and error go to this file; empty: inherited
    std::filesystem::path terminal{};      // where given, input, output and the controlling terminal
    std::vector<std::string> environment;  // NAME=VALUE, in addition to this process's
};

class ChildProcess final {
public:
    // Standard input is empty, but with a terminal. The child dies with this process, whatever ends it.
    // Error: missing_program, with the program's name; output_file where `output` cannot be written.
    [[nodiscard]] static Result<ChildProcess> start(const CommandLine& command);

    ChildProcess(ChildProcess&& other) noexcept
        : pid_{std::exchange(other.pid_, -1)}, status_{std::exchange(other.status_, std::nullopt)} {}
    ChildProcess& operator=(ChildProcess&& other) noexcept {
        std::swap(pid_, other.pid_);
        std::swap(status_, other.status_);
        return *this;
    }
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess() { stop(); }

    // The exit status where it has ended by now: 0 to 255, or 128 + the signal that ended it.
    [[nodiscard]] std::optional<int> poll();

    // Ends it: SIGTERM to its session's process group, after `grace` SIGKILL. Returns when it is gone.
    void stop(std::chrono::milliseconds grace = std::chrono::milliseconds{2000});

    // SIGINT to the group, without waiting.
    void signal_interrupt();

    // SIGINT to the group, and up to `grace` for it to end by itself.
    void interrupt(std::chrono::milliseconds grace = std::chrono::milliseconds{5000});

    [[nodiscard]] pid_t pid() const { return pid_; }

    // The processor time that it has used so far; 0 where that cannot be asked, as after its end.
    [[nodiscard]] std::chrono::nanoseconds processor_time() const;

private:
    explicit ChildProcess(pid_t pid) : pid_{pid} {}

    pid_t pid_ = -1;
    std::optional<int> status_;
};

struct Finished {
    int status = 0;
    std::string output;  // standard output and error
};

// Runs a program to its end and keeps what it prints; `seconds` bounds it.
// Error: those of start; interrupted; time_up.
[[nodiscard]] Result<Finished> run_to_end(CommandLine command, std::chrono::seconds limit);

// Whether a program of this name is in PATH.
[[nodiscard]] bool program_exists(const std::string& name);

}  // namespace flatback::tools
