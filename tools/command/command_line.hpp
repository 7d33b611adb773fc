// The arguments of `flatback`.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tools/check/random_tests.hpp"
#include "tools/command/boot_command.hpp"
#include "tools/command/conform_command.hpp"
#include "tools/command/image_command.hpp"
#include "tools/command/report_command.hpp"
#include "tools/command/trace_command.hpp"
#include "tools/command/two_vms_command.hpp"
#include "tools/command/watch_command.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

struct StackOptions {
    std::optional<unsigned> depth;  // instead, Flatback on Flatback up to so many levels
    bool above_kvm = false;         // instead, Flatback on Debian's Linux with KVM
    std::optional<std::filesystem::path> json_file;
    std::chrono::seconds limit{900};  // for each run in the emulator
    unsigned processors = 1;          // more: what those cost, instead
};
inline constexpr const char* incomplete_run =
    "the run is not complete, so there is no table: what is above is missing or went wrong";

struct BenchOptions {
    bool with_kvm = false;    // the peer too
    unsigned processors = 1;  // more: what those cost on both, instead
    std::string only;         // the runs whose name holds this text, and what they print instead of tables
    std::optional<std::filesystem::path> json_file;
    std::chrono::seconds limit{1500};  // for each run in the emulator
};

struct TestOptions {
    std::string filter;  // a test runs where its name holds this text
    bool quick = false;  // without the Linux stack
    bool coverage = false;
    bool foreign = false;                            // only programs that are no part of this project
    std::optional<std::filesystem::path> json_file;  // of the coverage
    std::optional<RandomOptions> random;             // nothing but random L1s
};

// `flatback machine ARGUMENTS...`: for the program of that part.
struct MachineOptions {
    std::vector<std::string> arguments;
};

// Help or the version was asked for.
struct Information {
    std::string text;
};

using Command =
    std::variant<BootOptions, StackOptions, TwoVmsOptions, BenchOptions, TestOptions, ConformOptions,
                 ImageOptions, ReportOptions, TraceOptions, WatchOptions, MachineOptions, Information>;

// Error: usage, with one line that says what is wrong.
[[nodiscard]] Result<Command> parse_command_line(std::span<char* const> arguments);

}  // namespace flatback::tools
