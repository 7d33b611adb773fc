#include "tools/ending.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace flatback::tools {
namespace {

constexpr std::size_t tick_digits = 11;  // at least: "00396088712p[UNMAP ] >>PANIC<< …"

std::optional<std::string> error_from(const Transcript& transcript, std::string_view where) {
    for (const std::string& error : transcript.errors()) {
        if (error.starts_with(where)) return error;
    }
    return std::nullopt;
}

}  // namespace

void LogReader::append(std::string_view bytes) {
    pending_ += bytes;
    std::size_t start = 0;
    for (std::size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n', start)) {
        add_line(std::string_view{pending_}.substr(start, end - start));
        start = end + 1;
    }
    pending_.erase(0, start);
}

void LogReader::add_line(std::string_view line) {
    std::uint64_t ticks = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), ticks);
    if (error == std::errc{} && end >= line.data() + tick_digits) ticks_ = std::max(ticks_, ticks);
    if (line.find("::Reset(HARDWARE) called") != std::string_view::npos) ++resets_;

    // The dump at Bochs' end: "[CPU0  ] CPU is in long mode (active, vmx guest)", "[CPU0  ] |
    // RIP=ffffffffc0212411 (…)".
    constexpr std::string_view mode_mark = "] CPU is in ";
    constexpr std::string_view instruction_mark = "] | RIP=";
    constexpr std::size_t address_digits = 16;
    if (const std::size_t at = line.find(mode_mark); at != std::string_view::npos)
        mode_ = line.substr(at + mode_mark.size());
    if (const std::size_t at = line.find(instruction_mark); at != std::string_view::npos)
        instruction_pointer_ = line.substr(at + instruction_mark.size(), address_digits);

    constexpr std::string_view mark = ">>PANIC<< ";
    const std::size_t panic = line.find(mark);
    if (panic == std::string_view::npos) return;
    const std::string_view what = line.substr(panic + mark.size());
    if (what.starts_with("Shutdown port: shutdown requested")) {
        shutdown_ = true;
    } else if (what.starts_with("ACPI control: soft power off")) {
        power_off_ = true;
    } else if (what.find("with no resolution") != std::string_view::npos) {
        triple_fault_ = true;
    } else {
        panic_ = what;
    }
}

std::string LogReader::processor_state() const {
    if (instruction_pointer_.empty()) return {};
    const bool guest = mode_.find("vmx guest") != std::string::npos;
    return fmt::format("{} was running, at {}",
                       guest ? "a guest of a hypervisor" : "L0, or the machine's own system",
                       instruction_pointer_);
}

Outcome judge(const LogReader& log, const Transcript& transcript) {
    Outcome outcome;
    outcome.ticks = log.ticks();
    if (auto loader = error_from(transcript, "grub:")) {
        outcome.ending = Ending::loader_failed;
        outcome.detail = std::move(*loader);
    } else if (auto l0 = error_from(transcript, "L0:")) {
        outcome.ending = Ending::l0_stopped;
        outcome.detail = std::move(*l0);
    } else if (log.shutdown()) {
        outcome.ending = Ending::shutdown;
    } else if (log.power_off()) {
        outcome.ending = Ending::power_off;
    } else if (log.triple_fault()) {
        outcome.ending = Ending::triple_fault;
        outcome.detail = log.processor_state();
    } else if (log.guest_reset()) {
        outcome.ending = Ending::reset;
    } else {
        outcome.ending = Ending::emulator_failed;
        outcome.detail = log.panic();
    }
    return outcome;
}

ExitStatus exit_status(const Outcome& outcome, const Transcript& transcript) {
    const bool guest_failed = !transcript.errors().empty();
    switch (outcome.ending) {
        case Ending::power_off:
            return guest_failed ? ExitStatus::guest_error : ExitStatus::success;
        case Ending::shutdown:
            return guest_failed ? ExitStatus::guest_error : ExitStatus::guest_shutdown;
        case Ending::time_up:
            return ExitStatus::time_up;
        case Ending::triple_fault:
            return ExitStatus::triple_fault;
        case Ending::reset:
            return ExitStatus::guest_reset;
        case Ending::l0_stopped:
            return ExitStatus::l0_stopped;
        case Ending::loader_failed:
            return ExitStatus::input_file;
        case Ending::emulator_failed:
            return ExitStatus::emulator_failed;
        case Ending::interrupted:
            return ExitStatus::interrupted;
    }
    return ExitStatus::emulator_failed;
}

std::string describe(const Outcome& outcome, const Transcript& transcript) {
    const auto with_errors = [&transcript](std::string_view what) {
        if (transcript.errors().empty()) return std::string{what};
        return fmt::format("{}, after it reported: {}", what, transcript.errors().front());
    };
    const auto with_last_line = [&transcript](std::string_view what) {
        if (transcript.last_line().empty())
            return fmt::format("{}; nothing was printed on the serial port", what);
        return fmt::format("{}; the last line on the serial port: {}", what, transcript.last_line());
    };
    switch (outcome.ending) {
        case Ending::power_off:
            return with_errors("the guest powered off");
        case Ending::shutdown:
            return with_errors("the guest wrote Shutdown to port 0x8900");
        case Ending::time_up:
            return with_last_line(fmt::format("the time is up ({:.0f} s), and the guest had not ended{}{}",
                                              outcome.seconds, outcome.detail.empty() ? "" : "; ",
                                              outcome.detail));
        case Ending::triple_fault:
            return with_last_line(fmt::format("triple fault: the processor shut down{}{}",
                                              outcome.detail.empty() ? "" : "; ", outcome.detail));
        case Ending::reset:
            return with_last_line("the guest reset the machine");
        case Ending::l0_stopped:
            return fmt::format("L0 stopped: {}", outcome.detail);
        case Ending::loader_failed:
            return fmt::format("the boot loader failed: {}", outcome.detail);
        case Ending::emulator_failed:
            return outcome.detail.empty() ? with_last_line("Bochs ended without a known reason")
                                          : fmt::format("Bochs failed: {}", outcome.detail);
        case Ending::interrupted:
            return "interrupted";
    }
    return {};
}

std::string_view name(Ending ending) {
    switch (ending) {
        case Ending::power_off:
            return "power-off";
        case Ending::shutdown:
            return "shutdown";
        case Ending::time_up:
            return "time-up";
        case Ending::triple_fault:
            return "triple-fault";
        case Ending::reset:
            return "reset";
        case Ending::l0_stopped:
            return "l0-stopped";
        case Ending::loader_failed:
            return "loader-failed";
        case Ending::emulator_failed:
            return "emulator-failed";
        case Ending::interrupted:
            return "interrupted";
    }
    return "unknown";
}

}  // namespace flatback::tools
