#include "tools/command/boot_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <system_error>
#include <thread>

#include "interface/l0_words.hpp"
#include "tools/command/boot_report.hpp"
#include "tools/emulator/emulation.hpp"
#include "tools/emulator/serial_file.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/printable.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/l1_kernel.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{50};

// Flatback's own guests report by records.
bool is_own_guest(const std::filesystem::path& file) {
    std::error_code ignored;
    const auto own = std::filesystem::canonical(build_directory() / "guests", ignored);
    const auto named = std::filesystem::canonical(file, ignored);
    return !own.empty() && std::ranges::mismatch(own, named).in1 == own.end();
}

// "FILE TEXT" where no file has that whole name.
Result<BootModule> module_from(const std::string& argument) {
    BootModule module{argument, {}};
    const std::size_t space = argument.find(' ');
    // A name that is too long for a file is none.
    std::error_code ignored;
    if (space != std::string::npos && !std::filesystem::exists(argument, ignored)) {
        module = {argument.substr(0, space), argument.substr(space + 1)};
    }
    if (const auto contents = read_file(module.file); !contents) return std::unexpected{contents.error()};
    return module;
}

// Bochs says of a bad image only that it panicked.
Result<> check_disk(const std::filesystem::path& disk) {
    constexpr std::uintmax_t sector = 512;
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(disk, error);
    if (error)
        return fail(ExitStatus::input_file,
                    fmt::format("cannot read {}: {}", disk.string(), error.message()));
    if (size == 0 || size % sector != 0)
        return fail(ExitStatus::input_file,
                    fmt::format("{} is no disk image: {} bytes are no number of 512-byte sectors",
                                disk.string(), size));
    return check_writable(disk);
}

// `directory`: for an unpacked kernel.
Result<BootPlan> plan_from(const BootOptions& options, const std::filesystem::path& directory) {
    TRY(check_l0_words(options.l0_command_line));
    BootPlan plan;
    const L1Kernel kernel = TRY(read_l1_kernel(options.guest));
    plan.guest = options.guest;
    plan.guest_kind = kernel.kind;
    if (kernel.unpacked) {
        plan.guest = directory / "kernel";
        TRY(write_file(plan.guest, *kernel.unpacked));
    }
    plan.guest_command_line = options.guest_command_line;
    for (const std::string& argument : options.modules) plan.modules.push_back(TRY(module_from(argument)));
    // GRUB has no loader for an uncompressed Linux: L0 loads it, and leaves the machine to it.
    const bool loaded_by_l0 = options.direct && kernel.kind == KernelKind::linux_elf64;
    if (!options.direct || loaded_by_l0) {
        plan.l0 = l0_image();
        // A later word wins: what is asked for does.
        plan.l0_command_line = "log=debug";
        if (!options.l0_command_line.empty()) plan.l0_command_line += " " + options.l0_command_line;
        if (loaded_by_l0) plan.l0_command_line += " hypervisor=off";
        if (!std::filesystem::exists(*plan.l0)) {
            return fail(ExitStatus::missing_program,
                        fmt::format("L0 is not built: {} is missing", plan.l0->string()));
        }
    }
    if (plan.guest_kind != KernelKind::multiboot1 && plan.modules.size() > 1) {
        return fail(ExitStatus::usage, "a Linux kernel takes one --module: its initramfs");
    }
    return plan;
}

}  // namespace

Result<> check_l0_words(std::string_view command_line) {
    constexpr std::string_view blanks = " \t\r\n";
    for (;;) {
        const std::size_t start = command_line.find_first_not_of(blanks);
        if (start == std::string_view::npos) return {};
        command_line.remove_prefix(start);
        const std::string_view word = command_line.substr(0, command_line.find_first_of(blanks));
        if (!interface::is_l0_word(word))
            return fail(ExitStatus::usage, fmt::format("--l0-cmdline: L0 has no word {}; there are: {}",
                                                       printable(word), interface::l0_words));
        command_line.remove_prefix(word.size());
    }
}

Result<ExitStatus> boot_command(const BootOptions& options) {
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    EmulationRequest request;
    request.plan = TRY(plan_from(options, directory.path()));
    request.memory = options.memory;
    request.processor = options.processor;
    request.processors = options.processors;
    if (options.disk) {
        TRY(check_disk(*options.disk));
        request.disk = options.disk;
    }
    request.limit = options.limit;
    request.guest_records = options.records || is_own_guest(options.guest);
    // Before the minutes of the run, not after them.
    if (options.json_file) TRY(check_output(*options.json_file));
    std::FILE* const text = text_stream(options.json_file);
    std::optional<SerialFile> serial;
    if (options.serial_file && !is_standard_output(*options.serial_file)) {
        serial = TRY(SerialFile::create(*options.serial_file));
        request.bytes_listener = [&serial](std::string_view bytes) { serial->append(bytes); };
    } else {
        request.listener = [text](std::string_view line, const SerialRecord* /*record*/) {
            fmt::print(text, "{}\n", printable(line));
            std::fflush(text);
        };
    }
    Emulation emulation = TRY(Emulation::start(std::move(request)));
    while (!emulation.poll()) {
        if (serial) serial->show_progress(emulation.transcript());
        std::this_thread::sleep_for(poll_interval);
    }
    const Outcome& outcome = emulation.wait();
    const Transcript& transcript = emulation.transcript();
    if (serial) TRY(serial->finish());
    fmt::print(stderr, "flatback: {} ({} ticks, {:.1f} s)\n", describe(outcome, transcript), outcome.ticks,
               outcome.seconds);
    if (options.json_file)
        TRY(write_output(*options.json_file, with_about(boot_report(outcome, transcript))));
    return exit_status(outcome, transcript);
}

}  // namespace flatback::tools
