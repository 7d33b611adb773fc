#include "tools/ground/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>

#include "tools/ground/files.hpp"
#include "tools/ground/interruption.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{20};

// What the child could not do before it became the program, sent back through a pipe that exec closes.
struct StartFailure {
    enum class Step : int { directory, output, terminal, exec } step = Step::exec;
    int error = 0;
};

[[noreturn]] void report_and_exit(int pipe, StartFailure::Step step) {
    const StartFailure failure{step, errno};
    [[maybe_unused]] const ssize_t written = ::write(pipe, &failure, sizeof failure);
    ::_exit(127);
}

[[noreturn]] void become(const CommandLine& command, char* const* arguments, pid_t parent, int pipe) {
    ::setsid();
    // Bochs must not outlive this command, even one that is ended with SIGKILL.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_DFL);

    const int input = ::open("/dev/null", O_RDONLY);
    if (input >= 0) ::dup2(input, STDIN_FILENO);
    if (!command.terminal.empty()) {
        const int terminal = ::open(command.terminal.c_str(), O_RDWR);
        if (terminal < 0 || ::ioctl(terminal, TIOCSCTTY, 0) != 0)
            report_and_exit(pipe, StartFailure::Step::terminal);
        for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(terminal, number);
    }
    if (!command.output.empty()) {
        const int output = ::open(command.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (output < 0) report_and_exit(pipe, StartFailure::Step::output);
        ::dup2(output, STDOUT_FILENO);
        ::dup2(output, STDERR_FILENO);
    }
    if (!command.directory.empty() && ::chdir(command.directory.c_str()) != 0) {
        report_and_exit(pipe, StartFailure::Step::directory);
    }
    for (const std::string& variable : command.environment) {
        const std::size_t equals = variable.find('=');
        ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
    }
    ::execvp(arguments[0], arguments);
    report_and_exit(pipe, StartFailure::Step::exec);
}

std::unexpected<Error> start_error(const CommandLine& command, const StartFailure& failure) {
    const char* why = std::strerror(failure.error);
    switch (failure.step) {
        case StartFailure::Step::directory:
            return fail(ExitStatus::output_file,
                        fmt::format("cannot enter {}: {}", command.directory.string(), why));
        case StartFailure::Step::output:
            return fail(ExitStatus::output_file,
                        fmt::format("cannot write {}: {}", command.output.string(), why));
        case StartFailure::Step::terminal:
            return fail(ExitStatus::output_file,
                        fmt::format("cannot open the terminal {}: {}", command.terminal.string(), why));
        case StartFailure::Step::exec:
            break;
    }
    return fail(ExitStatus::missing_program,
                fmt::format("cannot run {}: {}", command.arguments.front(), why));
}

}  // namespace

Result<ChildProcess> ChildProcess::start(const CommandLine& command) {
    std::vector<char*> arguments;
    for (const std::string& argument : command.arguments)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);

    int pipe[2] = {-1, -1};
    if (::pipe2(pipe, O_CLOEXEC) != 0) {
        return fail(ExitStatus::missing_program, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
    }
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) become(command, arguments.data(), parent, pipe[1]);
    const int fork_error = errno;
    ::close(pipe[1]);
    StartFailure failure{StartFailure::Step::exec, fork_error};
    ssize_t count = sizeof failure;
    if (pid > 0) {
        do {
            count = ::read(pipe[0], &failure, sizeof failure);
        } while (count < 0 && errno == EINTR);
    }
    ::close(pipe[0]);
    if (count == sizeof failure) {
        if (pid > 0) ::waitpid(pid, nullptr, 0);
        return start_error(command, failure);
    }
    return ChildProcess{pid};
}

std::optional<int> ChildProcess::poll() {
    if (status_ || pid_ <= 0) return status_;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    // What it started may still run in its process group.
    ::kill(-pid_, SIGKILL);
    return status_;
}

void ChildProcess::stop(std::chrono::milliseconds grace) {
    if (pid_ <= 0 || poll()) return;
    ::kill(-pid_, SIGTERM);
    const auto deadline = std::chrono::steady_clock::now() + grace;
    while (!poll()) {
        if (std::chrono::steady_clock::now() >= deadline) ::kill(-pid_, SIGKILL);
        std::this_thread::sleep_for(poll_interval);
    }
}

std::chrono::nanoseconds ChildProcess::processor_time() const {
    clockid_t clock{};
    timespec used{};
    if (pid_ <= 0 || status_ || ::clock_getcpuclockid(pid_, &clock) != 0 ||
        ::clock_gettime(clock, &used) != 0)
        return {};
    return std::chrono::seconds{used.tv_sec} + std::chrono::nanoseconds{used.tv_nsec};
}

void ChildProcess::signal_interrupt() {
    if (pid_ > 0 && !poll()) ::kill(-pid_, SIGINT);
}

void ChildProcess::interrupt(std::chrono::milliseconds grace) {
    if (pid_ <= 0 || poll()) return;
    signal_interrupt();
    const auto deadline = std::chrono::steady_clock::now() + grace;
    while (!poll() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(poll_interval);
}

Result<Finished> run_to_end(CommandLine command, std::chrono::seconds limit) {
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    command.output = directory.path() / "output";
    ChildProcess child = TRY(ChildProcess::start(command));
    const auto deadline = std::chrono::steady_clock::now() + limit;
    std::optional<int> status;
    while (!(status = child.poll())) {
        if (interrupted()) return fail(ExitStatus::interrupted, "interrupted");
        if (std::chrono::steady_clock::now() >= deadline) {
            return fail(ExitStatus::time_up,
                        fmt::format("{} took more than {} s", command.arguments.front(), limit.count()));
        }
        std::this_thread::sleep_for(poll_interval);
    }
    Finished finished{*status, {}};
    if (const auto output = read_file(command.output)) {
        finished.output = text_of(*output);
    }
    return finished;
}

bool program_exists(const std::string& name) {
    const char* path = ::getenv("PATH");
    std::string_view rest =
        path == nullptr ? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" : path;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(':'), rest.size());
        const std::filesystem::path candidate = std::filesystem::path{rest.substr(0, end)} / name;
        if (::access(candidate.c_str(), X_OK) == 0) return true;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return false;
}

}  // namespace flatback::tools
