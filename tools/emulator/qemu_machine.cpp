#include "tools/emulator/qemu_machine.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>
#include <thread>

#include "tools/emulator/growing_file.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/interruption.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{50};
constexpr std::string_view program = "qemu-system-x86_64";
constexpr std::string_view serial_name = "com1.txt";
constexpr std::string_view console_name = "console.txt";
constexpr std::string_view log_name = "qemu.log";
constexpr std::string_view variables_name = "variables.fd";
// Debian's ovmf.
constexpr std::string_view uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
constexpr std::string_view uefi_variables = "/usr/share/OVMF/OVMF_VARS_4M.fd";

std::string text_of_file(const std::filesystem::path& path) {
    const auto bytes = read_file(path);
    return bytes ? std::string{text_of(*bytes)} : std::string{};
}

}  // namespace

std::vector<std::string> qemu_arguments(const QemuRequest& request) {
    const bool kvm = request.accelerator == Accelerator::kvm;
    const auto drive = [](const std::filesystem::path& file, std::string_view more) {
        // A comma ends a value, and two are one.
        std::string name;
        for (const char character : file.string()) name += character == ',' ? ",," : std::string{character};
        return fmt::format("format=raw,file={},{}", name, more);
    };
    std::vector<std::string> arguments{std::string{program}, "-nodefaults", "-machine", "q35", "-accel",
                                       kvm ? "kvm" : "tcg", "-cpu", kvm ? "host" : "max", "-m",
                                       fmt::format("{}", request.memory), "-smp",
                                       fmt::format("{}", request.processors), "-display", "none", "-vga",
                                       "std", "-serial", fmt::format("file:{}", serial_name),
                                       // Any byte written to the port of Bochs' shutdown word ends it.
                                       "-device", "isa-debug-exit,iobase=0x8900,iosize=1", "-no-reboot",
                                       "-trace", "qemu_system_shutdown_request", "-D", std::string{log_name}};
    // KVM's replacement of writes to the TPR changes CR4's read shadow behind an L1 that has no Windows in
    // it (docs/boot.md).
    if (kvm) arguments.insert(arguments.end(), {"-global", "kvm-apic.vapic=off"});
    if (request.firmware == Firmware::uefi) {
        arguments.insert(arguments.end(), {"-drive", drive(uefi_code, "if=pflash,readonly=on"), "-drive",
                                           drive(variables_name, "if=pflash")});
    }
    arguments.insert(arguments.end(),
                     {"-drive", request.medium == Medium::cd
                                    ? drive(request.image, "if=ide,index=0,media=cdrom,readonly=on")
                                    : drive(request.image, "if=ide,index=0,media=disk,snapshot=on")});
    if (request.disk)
        arguments.insert(arguments.end(), {"-drive", drive(*request.disk, "if=ide,index=1,media=disk")});
    return arguments;
}

Outcome judge_qemu(int status, std::string_view log, const Transcript& transcript) {
    Outcome outcome = judge_platform(transcript).value_or(Outcome{});
    if (outcome.ending != Ending::emulator_failed) return outcome;
    // isa-debug-exit: twice the byte, and 1; an exit status has 8 bits.
    constexpr int shutdown_status = ('S' << 1 | 1) & 0xFF;
    if (status == shutdown_status) {
        outcome.ending = Ending::shutdown;
    } else if (status == 0 && log.find("qemu_system_shutdown_request reason=5") != std::string_view::npos) {
        outcome.ending = Ending::power_off;
    } else if (status == 0 && log.find("qemu_system_shutdown_request reason=6") != std::string_view::npos) {
        // A triple fault is the same to QEMU.
        outcome.ending = Ending::reset;
    } else {
        outcome.detail = fmt::format("{} ended with status {}", program, status);
    }
    return outcome;
}

Result<QemuRun> QemuRun::start(QemuRequest request) {
    TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    request.image = std::filesystem::absolute(request.image);
    if (request.disk) request.disk = std::filesystem::absolute(*request.disk);
    if (request.firmware == Firmware::uefi) {
        const auto variables = read_file(uefi_variables);
        if (!variables)
            return fail(ExitStatus::missing_program,
                        fmt::format("{} is not there: install ovmf", uefi_variables));
        TRY(write_file(directory.path() / variables_name, *variables));
    }
    if (!program_exists(std::string{program}))
        return fail(ExitStatus::missing_program,
                    fmt::format("{} is not there: install qemu-system-x86", program));
    CommandLine command;
    command.arguments = qemu_arguments(request);
    command.directory = directory.path();
    command.output = directory.path() / console_name;
    ChildProcess qemu = TRY(ChildProcess::start(command));
    return QemuRun{std::move(directory), std::move(qemu), std::move(request)};
}

QemuRun::QemuRun(TemporaryDirectory directory, ChildProcess qemu, QemuRequest request)
    : directory_{std::move(directory)},
      qemu_{std::move(qemu)},
      transcript_{std::make_unique<Transcript>(std::move(request.listener), std::move(request.speakers))},
      bytes_listener_{std::move(request.bytes_listener)},
      limit_{request.limit},
      start_{std::chrono::steady_clock::now()} {}

const std::optional<Outcome>& QemuRun::poll() {
    if (outcome_) return outcome_;
    // The status first: what is read after it is everything.
    const auto status = qemu_.poll();
    read_more(serial_file_, directory_.path() / serial_name, [this](std::string_view bytes) {
        if (bytes_listener_) bytes_listener_(bytes);
        transcript_->append(bytes);
    });
    if (status) {
        transcript_->finish();
        Outcome outcome = judge_qemu(*status, text_of_file(directory_.path() / log_name), *transcript_);
        if (outcome.ending == Ending::emulator_failed) {
            // What QEMU says of its arguments or of KVM is its first line.
            const std::string console = text_of_file(directory_.path() / console_name);
            if (!console.empty()) outcome.detail += ": " + console.substr(0, console.find('\n'));
        }
        finish(std::move(outcome));
    } else if (interrupted()) {
        qemu_.stop();
        finish({.ending = Ending::interrupted, .detail = {}});
    } else if (std::chrono::steady_clock::now() - start_ >= limit_) {
        qemu_.stop();
        transcript_->finish();
        finish({.ending = Ending::time_up, .detail = {}});
    }
    return outcome_;
}

const Outcome& QemuRun::wait() {
    while (!poll()) std::this_thread::sleep_for(poll_interval);
    return *outcome_;
}

void QemuRun::finish(Outcome outcome) {
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    outcome_ = std::move(outcome);
}

bool may_read_and_write(const std::filesystem::path& file) {
    return ::access(file.c_str(), R_OK | W_OK) == 0;
}

std::string kvm_refusal(const std::filesystem::path& root, bool (*may_use)(const std::filesystem::path&)) {
    const auto at = [&root](std::string_view path) { return root / path; };
    const auto first_character = [&](std::string_view path) {
        const std::string text = text_of_file(at(path));
        return text.empty() ? '\0' : text.front();
    };
    const std::string processors = text_of_file(at("proc/cpuinfo"));
    if (processors.find("AuthenticAMD") != std::string::npos ||
        processors.find("HygonGenuine") != std::string::npos)
        return "this processor is AMD's: Flatback needs VT-x, which is Intel's";
    if (processors.find(" vmx ") == std::string::npos && processors.find(" vmx\n") == std::string::npos)
        return "this processor shows no VT-x (no vmx in /proc/cpuinfo): switch it on in the firmware's "
               "setup, "
               "or where this is a virtual machine, nested virtualization in its hypervisor";
    std::error_code ignored;
    if (!std::filesystem::exists(at("dev/kvm"), ignored))
        return "there is no /dev/kvm: modprobe kvm_intel nested=1";
    if (!may_use(at("dev/kvm")))
        return "no permission to use /dev/kvm: sudo adduser $USER kvm, and log in again";
    constexpr std::string_view nested = "sys/module/kvm_intel/parameters/nested";
    const char value = first_character(nested);
    if (value != 'Y' && value != '1')
        return "KVM does not offer VT-x to its guests: modprobe -r kvm_intel && modprobe kvm_intel nested=1";
    return {};
}

}  // namespace flatback::tools
