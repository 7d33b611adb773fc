#include "tools/boot_command.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "tools/boot_report.hpp"
#include "tools/emulation.hpp"
#include "tools/files.hpp"
#include "tools/paths.hpp"

namespace flatback::tools {
namespace {

// "FILE TEXT" where no file has that whole name.
Result<BootModule> module_from(const std::string& argument) {
    BootModule module{argument, {}};
    const std::size_t space = argument.find(' ');
    if (space != std::string::npos && !std::filesystem::exists(argument)) {
        module = {argument.substr(0, space), argument.substr(space + 1)};
    }
    if (const auto contents = read_file(module.file); !contents) return std::unexpected{contents.error()};
    return module;
}

Result<BootPlan> plan_from(const BootOptions& options) {
    BootPlan plan;
    plan.guest = options.guest;
    plan.guest_kind = TRY(identify_kernel(options.guest));
    plan.guest_command_line = options.guest_command_line;
    for (const std::string& argument : options.modules) plan.modules.push_back(TRY(module_from(argument)));
    if (!options.direct) {
        plan.l0 = l0_image();
        plan.l0_command_line = options.l0_command_line;
        if (!std::filesystem::exists(*plan.l0)) {
            return fail(ExitStatus::missing_program,
                        fmt::format("L0 is not built: {} is missing", plan.l0->string()));
        }
    } else if (plan.guest_kind == KernelKind::linux_elf64) {
        return fail(ExitStatus::input_file,
                    "an uncompressed Linux kernel needs L0 to boot it; give the bzImage");
    }
    if (plan.guest_kind != KernelKind::multiboot1 && plan.modules.size() > 1) {
        return fail(ExitStatus::usage, "a Linux kernel takes one --module: its initramfs");
    }
    return plan;
}

}  // namespace

Result<ExitStatus> boot_command(const BootOptions& options) {
    EmulationRequest request;
    request.plan = TRY(plan_from(options));
    request.memory = options.memory;
    request.limit = options.limit;
    // Before the minutes of the run, not after them.
    if (options.serial_file) TRY(check_writable(*options.serial_file));
    if (options.json_file) TRY(check_writable(*options.json_file));
    if (!options.serial_file) {
        request.listener = [](std::string_view line, const SerialRecord* /*record*/) {
            fmt::print("{}\n", line);
            std::fflush(stdout);
        };
    }
    Emulation emulation = TRY(Emulation::start(std::move(request)));
    const Outcome& outcome = emulation.wait();
    const Transcript& transcript = emulation.transcript();
    fmt::print(stderr, "flatback: {} ({} ticks, {:.1f} s)\n", describe(outcome, transcript), outcome.ticks,
               outcome.seconds);
    if (options.serial_file) TRY(write_file(*options.serial_file, transcript.text()));
    if (options.json_file) TRY(write_file(*options.json_file, boot_report(outcome, transcript)));
    return exit_status(outcome, transcript);
}

}  // namespace flatback::tools
