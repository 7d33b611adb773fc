#include "tools/ending.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatback::tools {
namespace {

constexpr std::string_view power_on = "00000000000i[SYS   ] bx_pc_system_c::Reset(HARDWARE) called\n";

Outcome outcome_of(std::string_view log_text, std::string_view serial_text, ExitStatus* status = nullptr) {
    LogReader log;
    log.append(power_on);
    log.append(log_text);
    Transcript transcript;
    transcript.append(serial_text);
    transcript.finish();
    const Outcome outcome = judge(log, transcript);
    if (status != nullptr) *status = exit_status(outcome, transcript);
    return outcome;
}

TEST(Ending, ShutdownAndPowerOffAreToldApart) {
    ExitStatus status{};
    EXPECT_EQ(
        outcome_of("00396088712p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n", "", &status).ending,
        Ending::shutdown);
    EXPECT_EQ(status, ExitStatus::guest_shutdown);
    EXPECT_EQ(outcome_of("00395976917p[ACPI  ] >>PANIC<< ACPI control: soft power off\n", "", &status).ending,
              Ending::power_off);
    EXPECT_EQ(status, ExitStatus::success);
}

TEST(Ending, ATripleFaultIsSeen) {
    ExitStatus status{};
    EXPECT_EQ(
        outcome_of("00395976927p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n", "",
                   &status)
            .ending,
        Ending::triple_fault);
    EXPECT_EQ(status, ExitStatus::triple_fault);
}

TEST(Ending, TheResetAtPowerOnIsNotTheGuests) {
    EXPECT_EQ(outcome_of("", "").ending, Ending::emulator_failed);
    EXPECT_EQ(outcome_of(power_on, "").ending, Ending::reset);
}

TEST(Ending, AnErrorOfL0WinsOverTheShutdownThatFollowsIt) {
    ExitStatus status{};
    const Outcome outcome = outcome_of("00000000100p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n",
                                       "FLATBACK error L0: no VT-x\n", &status);
    EXPECT_EQ(outcome.ending, Ending::l0_stopped);
    EXPECT_EQ(status, ExitStatus::l0_stopped);
    EXPECT_NE(outcome.detail.find("no VT-x"), std::string::npos);
}

TEST(Ending, AGuestThatReportedAnErrorIsNoSuccessHoweverItEnds) {
    ExitStatus status{};
    EXPECT_EQ(outcome_of("00395976917p[ACPI  ] >>PANIC<< ACPI control: soft power off\n",
                         "FLATBACK error linux: no /dev/kvm\n", &status)
                  .ending,
              Ending::power_off);
    EXPECT_EQ(status, ExitStatus::guest_error);
}

TEST(Ending, AnErrorOfTheLoaderIsABadInput) {
    ExitStatus status{};
    EXPECT_EQ(outcome_of("00000000100p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n",
                         "FLATBACK error grub: cannot load the guest\n", &status)
                  .ending,
              Ending::loader_failed);
    EXPECT_EQ(status, ExitStatus::input_file);
}

TEST(Ending, AnUnknownPanicIsBochsOwnAndIsQuoted) {
    const Outcome outcome = outcome_of("00005374506p[BIOS  ] >>PANIC<< No bootable device.\n", "");
    EXPECT_EQ(outcome.ending, Ending::emulator_failed);
    EXPECT_EQ(outcome.detail, "No bootable device.");
}

TEST(Ending, TicksAreThoseOfTheLastLine) {
    LogReader log;
    log.append("00000000000i[SYS   ] start\n00396088712i[CPU0  ] CPU is");
    EXPECT_EQ(log.ticks(), 0U);
    log.append(" in protected mode\nMore than 5 words without a tick\n");
    EXPECT_EQ(log.ticks(), 396088712U);
    log.append("123456789012i[CPU0  ] later\n");
    EXPECT_EQ(log.ticks(), 123456789012U);
}

TEST(Ending, TheDumpAtTheEndTellsWhoRan) {
    const auto state_after = [](std::string_view lines) {
        LogReader log;
        log.append(lines);
        return log.processor_state();
    };
    EXPECT_EQ(state_after("00000000000i[SYS   ] start\n"), "");
    const std::string address = "00000000100i[CPU0  ] | RIP=ffffffffc0212411 (ffffffffc0212411)\n";
    EXPECT_EQ(state_after("00000000100i[CPU0  ] CPU is in long mode (active, vmx guest)\n" + address),
              "a guest of a hypervisor was running, at ffffffffc0212411");
    EXPECT_EQ(state_after("00000000100i[CPU0  ] CPU is in long mode (active, vmx)\n" + address),
              "L0, or the machine's own system was running, at ffffffffc0212411");
}

TEST(Ending, WhereTheProcessorWasIsSaidOfARunWhoseTimeIsUp) {
    Transcript transcript;
    transcript.append("FLATBACK stage l2-linux\n");
    const std::string text =
        describe({.ending = Ending::time_up, .detail = "a guest was running, at 1234"}, transcript);
    EXPECT_NE(text.find("a guest was running, at 1234"), std::string::npos);
    EXPECT_NE(text.find("FLATBACK stage l2-linux"), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools
