#include "tools/emulator/ending.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "tools/ground/hexadecimal.hpp"
#include "tools/ground/printable.hpp"

namespace flatback::tools {
namespace {

constexpr std::size_t tick_digits = 11;  // at least: "00396088712p[UNMAP ] >>PANIC<< …"

constexpr std::string_view l1_ended = "L1: ";
constexpr std::string_view l0_ended = "L0: ";

std::string_view without_speaker(std::string_view detail) {
    if (detail.starts_with(l0_ended)) detail.remove_prefix(l0_ended.size());
    return detail;
}

// What stands behind `mark` in a line.
std::optional<std::string_view> after(std::string_view line, std::string_view mark) {
    const std::size_t at = line.find(mark);
    if (at == std::string_view::npos) return std::nullopt;
    return line.substr(at + mark.size());
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
    if (line.find("::Reset(HARDWARE) called") != std::string_view::npos ||
        line.find("::Reset(SOFTWARE) called") != std::string_view::npos)
        ++resets_;
    if (line.find("HLT instruction with IF=0") != std::string_view::npos) ++halts_for_good_;
    add_dump_line(line);
    constexpr std::size_t most_refused = 8;
    for (const std::string_view mark : {"] VMFAIL: ", "] VMENTER FAIL: "}) {
        const auto why = after(line, mark);
        if (why && refused_entries_.size() < most_refused)
            refused_entries_.push_back({ticks, std::string{*why}});
    }

    constexpr std::string_view mark = ">>PANIC<< ";
    const std::size_t panic = line.find(mark);
    if (panic == std::string_view::npos) return;
    stopped_ = true;
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

// "[CPU0  ] CPU is in long mode (active, vmx guest)", "… |  CS:0010( 0002| 0|  0) 00000000 ffffffff 1 1",
// "… | RIP=ffffffffc0212411 (…)" or "… | EIP=001000bd (…)", "… | CR3=0x00000000 CR4=0x00000000".
void LogReader::add_dump_line(std::string_view line) {
    if (const auto mode = after(line, "] CPU is in ")) {
        processor_.emplace();
        processor_->mode = mode->substr(0, mode->find(" ("));
        processor_->in_vmx_guest = mode->find("vmx guest") != std::string_view::npos;
        return;
    }
    if (!processor_) return;
    if (const auto wide = after(line, "] | RIP=")) {
        processor_->instruction_pointer = hexadecimal_number(*wide).value_or(0);
    } else if (const auto narrow = after(line, "] | EIP=")) {
        processor_->instruction_pointer = hexadecimal_number(*narrow).value_or(0);
        processor_->narrow = true;
    } else if (const auto segment = after(line, "] |  CS:")) {
        // The third number in the brackets is the RPL: of CS, the CPL.
        const std::string_view brackets = segment->substr(0, segment->find(')'));
        if (const std::size_t bar = brackets.rfind('|'); bar != std::string_view::npos) {
            const std::size_t digit = brackets.find_first_not_of(' ', bar + 1);
            if (digit != std::string_view::npos && brackets[digit] >= '0' && brackets[digit] <= '3')
                processor_->privilege = static_cast<unsigned>(brackets[digit] - '0');
        }
    } else if (const auto table = after(line, "] | CR3=")) {
        processor_->cr3 = hexadecimal_number(*table);
    }
}

std::optional<Outcome> judge_platform(const Transcript& transcript) {
    const auto& platform = transcript.platform_error();
    if (!platform || platform->empty()) return std::nullopt;
    Outcome outcome;
    outcome.ending = Ending::l0_stopped;
    outcome.detail = *platform;
    if (platform->starts_with("grub:")) {
        outcome.ending = Ending::loader_failed;
    } else if (platform->starts_with(l1_ended)) {
        outcome.ending = Ending::triple_fault;
        outcome.detail = platform->substr(l1_ended.size());
    }
    return outcome;
}

Outcome judge(const LogReader& log, const Transcript& transcript) {
    Outcome outcome = judge_platform(transcript).value_or(Outcome{});
    outcome.ticks = log.ticks();
    if (outcome.ending != Ending::emulator_failed) return outcome;
    if (log.guest_reset()) {
        // Before what the firmware did after it.
        outcome.ending = Ending::reset;
    } else if (log.shutdown()) {
        outcome.ending = Ending::shutdown;
    } else if (log.power_off()) {
        outcome.ending = Ending::power_off;
    } else if (log.triple_fault()) {
        outcome.ending = Ending::triple_fault;
    } else {
        outcome.detail = log.panic();
    }
    return outcome;
}

ExitStatus exit_status(const Outcome& outcome, const Transcript& transcript) {
    const bool guest_failed = transcript.guest_reports() && !transcript.errors().empty();
    switch (outcome.ending) {
        case Ending::power_off:
            return guest_failed ? ExitStatus::guest_error : ExitStatus::success;
        case Ending::shutdown:
            return guest_failed ? ExitStatus::guest_error : ExitStatus::guest_shutdown;
        case Ending::time_up:
            return ExitStatus::time_up;
        case Ending::triple_fault:
            return ExitStatus::triple_fault;
        case Ending::halted:
            return ExitStatus::guest_halted;
        case Ending::reset:
            return ExitStatus::guest_reset;
        case Ending::l0_stopped:
            return ExitStatus::l0_stopped;
        case Ending::loader_failed:
            return ExitStatus::input_file;
        case Ending::emulator_failed:
            return ExitStatus::emulator_failed;
        case Ending::left:
            return ExitStatus::success;
        case Ending::reported:
            return guest_failed ? ExitStatus::guest_error : ExitStatus::success;
        case Ending::interrupted:
            return ExitStatus::interrupted;
    }
    return ExitStatus::emulator_failed;
}

std::string describe(const Outcome& outcome, const Transcript& transcript) {
    const auto with_errors = [&transcript](std::string_view what) {
        if (!transcript.guest_reports() || transcript.errors().empty()) return std::string{what};
        return fmt::format("{}, after it reported: {}", what, printable(transcript.errors().front()));
    };
    const auto with_last_line = [&transcript](std::string_view what) {
        if (transcript.last_line().empty())
            return fmt::format("{}; {} on the serial port", what,
                               transcript.l1_started() ? "L1 printed nothing" : "nothing was printed");
        // A program that draws on the screen prints for ever in one line: its end is the newest.
        constexpr std::size_t most = 200;
        std::string_view line = transcript.last_line();
        bool cut = line.size() > most;
        if (cut) line.remove_prefix(line.size() - most);
        std::string shown = printable(line);
        // A character may become several, of which none is to be half.
        for (; shown.size() > most; shown = printable(line)) {
            line.remove_prefix((line.size() + 3) / 4);
            cut = true;
        }
        return fmt::format("{}; the last line on the serial port: {}{}", what, cut ? "... " : "", shown);
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
        case Ending::halted:
            return with_last_line(fmt::format(
                "halted for good: the processor halted with interrupts off, and nothing wakes it{}{}",
                outcome.detail.empty() ? "" : "; ", outcome.detail));
        case Ending::reset:
            return with_last_line("the guest reset the machine");
        case Ending::l0_stopped:
            return fmt::format("L0 stopped: {}", printable(without_speaker(outcome.detail)));
        case Ending::loader_failed:
            return fmt::format("the boot loader failed: {}", outcome.detail);
        case Ending::emulator_failed:
            return outcome.detail.empty() ? with_last_line("the emulator ended without a known reason")
                                          : fmt::format("the emulator failed: {}", outcome.detail);
        case Ending::left:
            return "ended from the terminal";
        case Ending::reported:
            return with_errors("the guest told the end of its records");
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
        case Ending::halted:
            return "halted";
        case Ending::reset:
            return "reset";
        case Ending::l0_stopped:
            return "l0-stopped";
        case Ending::loader_failed:
            return "loader-failed";
        case Ending::emulator_failed:
            return "emulator-failed";
        case Ending::left:
            return "left";
        case Ending::reported:
            return "reported";
        case Ending::interrupted:
            return "interrupted";
    }
    return "unknown";
}

}  // namespace flatback::tools
