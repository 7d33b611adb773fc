#include "tools/command/boot_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>
#include <system_error>
#include <thread>

#include "tools/command/boot_report.hpp"
#include "tools/command/l1_plan.hpp"
#include "tools/emulator/elf_symbols.hpp"
#include "tools/emulator/emulation.hpp"
#include "tools/emulator/marked_trace.hpp"
#include "tools/emulator/qemu_machine.hpp"
#include "tools/emulator/serial_file.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/printable.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/ground/user_terminal.hpp"
#include "tools/image/depth.hpp"
#include "tools/image/hybrid_image.hpp"
#include "tools/image/l1_kernel.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/stack/peer_guest.hpp"

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
    BootPlan plan = TRY(plan_of_l1(options.guest, options.modules, options.guest_command_line, directory));
    if (options.direct && TRY(read_l1_kernel(options.guest)).is_multiboot2)
        return fail(ExitStatus::usage, "--direct takes no Multiboot 2 kernel");
    // GRUB has no loader for an uncompressed Linux: L0 loads it, and leaves the machine to it.
    const bool loaded_by_l0 = options.direct && plan.guest_kind == KernelKind::linux_elf64;
    if (!options.direct || loaded_by_l0) {
        plan.l0 = TRY(built_l0());
        // A later word wins: what is asked for does.
        plan.l0_command_line = "log=debug";
        if (!options.l0_command_line.empty()) plan.l0_command_line += " " + options.l0_command_line;
        if (loaded_by_l0) plan.l0_command_line += " hypervisor=off";
        // The first has the screen.
        if (!options.direct) stack_levels(plan, options.depth, plan.l0_command_line + " console=serial");
        if (!options.second_vm.empty()) {
            plan.modules.push_back(TRY(module_from(options.second_vm)));
            plan.l0_command_line += " vm2=on";
        }
    }
    return plan;
}

// The image that GRUB starts by: what UEFI boots too is another one.
Result<std::filesystem::path> make_image(const BootPlan& plan, Firmware firmware,
                                         const std::filesystem::path& directory) {
    const std::filesystem::path image = directory / "boot.iso";
    if (firmware == Firmware::bios) {
        TRY(make_boot_image(plan, directory, image));
    } else {
        TRY(make_hybrid_image({.entries = {{"own", "L1", plan}}, .seconds = 0}, directory, image));
    }
    return image;
}

void show(std::FILE* stream, std::string_view bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stream);
    std::fflush(stream);
}

// Until the run ends, or the user does it.
void converse(Emulation& emulation, bool debug) {
    constexpr std::chrono::milliseconds interval{10};
    fmt::print(stderr, "flatback: {}; Ctrl-A x ends, Ctrl-A h is help\n",
               debug ? "this is the emulator's debugger, with L1's symbols where it has any: c goes on, "
                       "Ctrl-C stops, q ends"
                     : "the terminal is COM1");
    UserTerminal terminal;
    EscapeKey escape;
    while (!emulation.poll()) {
        const auto [bytes, action] = escape.filter(terminal.read());
        emulation.type(bytes);
        if (action == EscapeKey::Action::leave) emulation.leave();
        if (action == EscapeKey::Action::help) {
            fmt::print(stderr, "\r\nCtrl-A x ends the run, Ctrl-A a sends Ctrl-A\r\n");
        }
        std::this_thread::sleep_for(interval);
    }
    fmt::print(stderr, "\r\n");
}

// Where the bytes of COM1 go.
struct Output {
    std::optional<SerialFile> serial;
    std::FILE* text = stdout;

    bool is_terminal = false;  // it understands what the guest sends, and shows it beside what goes to a file

    void listen(Transcript::Listener& lines, std::function<void(std::string_view)>& bytes) {
        if (is_terminal) {
            bytes = [this](std::string_view sent) {
                if (serial) serial->append(sent);
                show(text, sent);
            };
        } else if (serial) {
            bytes = [this](std::string_view sent) { serial->append(sent); };
        } else {
            lines = [this](std::string_view line, const SerialRecord* /*record*/) {
                fmt::print(text, "{}\n", printable(line));
                std::fflush(text);
            };
        }
    }
};

Result<ExitStatus> watch(auto& run, const BootOptions& options, Output& output) {
    while (!run.poll()) {
        if (output.serial) output.serial->show_progress(run.transcript());
        std::this_thread::sleep_for(poll_interval);
    }
    const Outcome& outcome = run.wait();
    const Transcript& transcript = run.transcript();
    if (output.serial) TRY(output.serial->finish());
    const std::string ticks =
        options.on == Ground::bochs ? fmt::format("{} ticks, ", outcome.ticks) : std::string{};
    fmt::print(stderr, "flatback: {} ({}{:.1f} s)\n", describe(outcome, transcript), ticks, outcome.seconds);
    if (options.json_file)
        TRY(write_output(
            *options.json_file,
            with_about(boot_report(outcome, transcript, options.on == Ground::kvm ? "cycles" : "ticks"))));
    return exit_status(outcome, transcript);
}

std::string symbols_of(const BootPlan& plan) {
    const auto kernel = read_file(plan.guest);
    return kernel ? symbol_list(*kernel) : std::string{};
}

Result<> tell_of_trace(MarkedTrace& trace, const std::filesystem::path& file) {
    TRY(trace.finish());
    if (trace.lines() == 0) {
        fmt::print(stderr,
                   "flatback: {} is empty: L1 executed no XCHG BX, BX, which switches the trace on and off\n",
                   file.string());
    } else {
        fmt::print(stderr, "flatback: {} has {} lines{}\n", file.string(), trace.lines(),
                   trace.is_cut() ? ", and was cut there" : "");
    }
    return {};
}

Result<ExitStatus> boot_on_qemu(const BootOptions& options, const BootPlan& plan, Output& output,
                                const std::filesystem::path& directory) {
    QemuRequest request;
    request.accelerator = options.on == Ground::kvm ? Accelerator::kvm : Accelerator::tcg;
    request.image = TRY(make_image(plan, options.firmware, directory));
    request.firmware = options.firmware;
    request.memory = options.memory;
    request.processors = options.processors;
    request.disk = options.disk;
    request.limit = options.limit;
    request.speakers = {.l0 = plan.l0.has_value(),
                        .levels = plan.levels,
                        .guest_records = options.records || is_own_guest(options.guest),
                        .mark = loader_mark(plan)};
    output.listen(request.listener, request.bytes_listener);
    QemuRun run = TRY(QemuRun::start(std::move(request)));
    return watch(run, options, output);
}

// The machine that boots the plan; or one that boots KVM, which has the plan's as its guest.
Result<EmulationRequest> request_for(const BootOptions& options, BootPlan plan,
                                     const std::filesystem::path& directory) {
    EmulationRequest request;
    if (options.firmware == Firmware::uefi)
        request.image = TRY(make_image(plan, options.firmware, directory));
    request.plan = std::move(plan);
    request.memory = options.memory;
    if (!options.above_kvm) return request;
    request.limit = options.limit;
    const LinuxGuest linux = TRY(prepare_linux_guest(tell));
    return TRY(above_peer(linux, {"own L1", std::move(request)})).request;
}

Result<ExitStatus> boot_on_bochs(const BootOptions& options, BootPlan plan, Output& output,
                                 const std::filesystem::path& directory) {
    EmulationRequest request = TRY(request_for(options, std::move(plan), directory));
    request.firmware = options.firmware;
    request.processor = options.processor;
    request.processors = options.processors;
    request.disk = options.disk;
    request.limit = options.limit;
    request.guest_records = options.records || is_own_guest(options.guest);
    output.is_terminal = options.interactive || (options.debug && !output.serial);
    output.listen(request.listener, request.bytes_listener);
    if (options.interactive) request.typing.emplace();
    if (options.debug) request.debugger_listener = [](std::string_view bytes) { show(stdout, bytes); };
    request.keeps_screen = options.screen_file.has_value();
    std::optional<MarkedTrace> trace;
    if (options.trace_file) {
        trace.emplace(TRY(MarkedTrace::create(*options.trace_file)));
        request.symbols_for_dialogue = !symbols_of(request.plan).empty();
        if (request.symbols_for_dialogue) trace->know_symbols(std::string{symbols_file});
        request.dialogue = [&trace](std::string_view bytes) { return trace->hear(bytes); };
    }
    Emulation emulation = TRY(Emulation::start(std::move(request)));
    if (options.interactive || options.debug) converse(emulation, options.debug);
    const ExitStatus status = TRY(watch(emulation, options, output));
    // With L0 it is L0's log that explains them, by the SDM's rule.
    if (options.direct) {
        for (const RefusedEntry& refused : emulation.refused_entries())
            fmt::print(stderr, "flatback: tick {}: the processor refused a VM entry: {}\n", refused.tick,
                       printable(refused.why));
    }
    if (options.screen_file) TRY(emulation.write_screen(*options.screen_file));
    if (trace) TRY(tell_of_trace(*trace, *options.trace_file));
    return status;
}

Result<> check_above_kvm(const BootOptions& options) {
    if (options.on != Ground::bochs || options.firmware != Firmware::bios || options.disk ||
        options.interactive || options.debug || options.screen_file || options.trace_file ||
        options.processors != 1)
        return fail(ExitStatus::usage,
                    "--beneath kvm: L1's machine is QEMU's, with one processor and COM1; --on, --firmware, "
                    "--disk, --cpus, --interactive, --debug, --screen and --trace are the emulator's");
    if (options.memory > most_memory_above_peer)
        return fail(ExitStatus::usage,
                    fmt::format("--beneath kvm: --memory is at most {} there", most_memory_above_peer));
    return {};
}

}  // namespace

Result<ExitStatus> boot_command(const BootOptions& options) {
    if (options.on == Ground::kvm) {
        if (const std::string why = kvm_refusal(); !why.empty())
            return fail(ExitStatus::missing_program, fmt::format("--on kvm: {}", why));
    }
    if ((options.interactive || options.debug) && options.on != Ground::bochs)
        return fail(ExitStatus::usage, "--interactive and --debug are for --on bochs");
    if ((options.screen_file || options.trace_file) && options.on != Ground::bochs)
        return fail(ExitStatus::usage, "--screen and --trace are for --on bochs");
    if (options.above_kvm) TRY(check_above_kvm(options));
    if (options.direct && options.firmware == Firmware::uefi)
        return fail(ExitStatus::usage, "--firmware uefi: GRUB starts L0 there, not L1 by itself (--direct)");
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const BootPlan plan = TRY(plan_from(options, directory.path()));
    if (options.disk) TRY(check_disk(*options.disk));
    // Before the minutes of the run, not after them.
    if (options.screen_file) {
        TRY(check_screen_writer());
        TRY(check_writable(*options.screen_file));
    }
    if (options.json_file) TRY(check_output(*options.json_file));
    Output output;
    output.text = text_stream(options.json_file);
    if (options.serial_file && !is_standard_output(*options.serial_file))
        output.serial = TRY(SerialFile::create(*options.serial_file));
    return options.on == Ground::bochs ? boot_on_bochs(options, plan, output, directory.path())
                                       : boot_on_qemu(options, plan, output, directory.path());
}

}  // namespace flatback::tools
