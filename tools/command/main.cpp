// The `flatback` command; README.md beside this file lists its parts.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "tools/command/bench_command.hpp"
#include "tools/command/command_line.hpp"
#include "tools/command/image_command.hpp"
#include "tools/command/processors_command.hpp"
#include "tools/command/stack_command.hpp"
#include "tools/command/test_command.hpp"
#include "tools/command/trace_command.hpp"
#include "tools/command/two_vms_command.hpp"
#include "tools/ground/interruption.hpp"
#include "tools/ground/paths.hpp"

namespace {

using namespace flatback::tools;

// Becomes the other program.
Result<ExitStatus> machine_command(const MachineOptions& options) {
    const std::string program = machine_program();
    std::vector<char*> arguments{const_cast<char*>(program.c_str())};
    for (const std::string& argument : options.arguments)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    ::execv(program.c_str(), arguments.data());
    return fail(ExitStatus::missing_program, fmt::format("cannot run {}: {}", program, std::strerror(errno)));
}

struct Execute {
    Result<ExitStatus> operator()(const BootOptions& options) const { return boot_command(options); }
    Result<ExitStatus> operator()(const StackOptions& options) const {
        return options.processors > 1 ? processors_command(options) : stack_command(options);
    }
    Result<ExitStatus> operator()(const TwoVmsOptions& options) const { return two_vms_command(options); }
    Result<ExitStatus> operator()(const BenchOptions& options) const {
        return options.processors > 1 ? processors_bench_command(options) : bench_command(options);
    }
    Result<ExitStatus> operator()(const TestOptions& options) const { return test_command(options); }
    Result<ExitStatus> operator()(const ConformOptions& options) const { return conform_command(options); }
    Result<ExitStatus> operator()(const ImageOptions& options) const { return image_command(options); }
    Result<ExitStatus> operator()(const ReportOptions& options) const { return report_command(options); }
    Result<ExitStatus> operator()(const TraceOptions& options) const { return trace_command(options); }
    Result<ExitStatus> operator()(const WatchOptions& options) const { return watch_command(options); }
    Result<ExitStatus> operator()(const MachineOptions& options) const { return machine_command(options); }
    Result<ExitStatus> operator()(const Information& information) const {
        fmt::print("{}", information.text);
        return ExitStatus::success;
    }
};

int run(std::span<char* const> arguments) {
    const auto status = [&]() -> Result<ExitStatus> {
        const Command command = TRY(parse_command_line(arguments));
        catch_interruptions();
        return std::visit(Execute{}, command);
    }();
    if (status) return static_cast<int>(*status);
    fmt::print(stderr, "flatback: {}\n", status.error().message);
    return static_cast<int>(status.error().status);
}

}  // namespace

int main(int count, char** arguments) {
    try {
        return run({arguments, static_cast<std::size_t>(count)});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "flatback: %s\n", error.what());
        return static_cast<int>(ExitStatus::incomplete);
    }
}
