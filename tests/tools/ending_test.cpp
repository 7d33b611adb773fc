#include "tools/emulator/ending.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tools/emulator/location.hpp"

namespace flatback::tools::ending_test {
namespace {

constexpr std::string_view power_on = "00000000000i[SYS   ] bx_pc_system_c::Reset(HARDWARE) called\n";

Outcome outcome_of(std::string_view log_text, std::string_view serial_text, ExitStatus* status = nullptr) {
    LogReader log;
    log.append(power_on);
    log.append(log_text);
    Transcript transcript{{}, {.l0 = true, .mark = {}}};
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

TEST(Ending, WhyTheProcessorRefusedVmEntriesIsKept) {
    LogReader log;
    log.append("00396088712e[CPU0  ] VMFAIL: VMCS EXEC CTRL: guest VPID == 0\n");
    log.append("00396088999e[CPU0  ] VMENTER FAIL: RFLAGS[1] cleared\n00396089000i[CPU0  ] VMFAILURE\n");
    ASSERT_EQ(log.refused_entries().size(), 2U);
    EXPECT_EQ(log.refused_entries()[0].tick, 396088712U);
    EXPECT_EQ(log.refused_entries()[0].why, "VMCS EXEC CTRL: guest VPID == 0");
    EXPECT_EQ(log.refused_entries()[1].why, "RFLAGS[1] cleared");
    // An L1 may go on trying.
    for (int again = 0; again < 1000; ++again) log.append("00396089001e[CPU0  ] VMFAIL: again\n");
    EXPECT_EQ(log.refused_entries().size(), 8U);
}

TEST(Ending, ThatTheGuestReportedItsEndIsSuccessUnlessItReportedAnError) {
    Transcript good;
    good.append("FLATBACK end\n");
    const Outcome outcome{.ending = Ending::reported, .detail = {}};
    EXPECT_EQ(exit_status(outcome, good), ExitStatus::success);
    EXPECT_EQ(name(Ending::reported), "reported");
    Transcript bad;
    bad.append("FLATBACK error a: b\n");
    EXPECT_EQ(exit_status(outcome, bad), ExitStatus::guest_error);
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
                         "FLATBACK value l0.l1_entry_tsc 5\nFLATBACK error linux: no /dev/kvm\n", &status)
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

TEST(Ending, OfALongLastLineTheEndIsShown) {
    Transcript transcript;
    transcript.append("begin" + std::string(5000, 'x') + "end\n");
    const Outcome outcome{.ending = Ending::time_up, .detail = {}, .ticks = 0, .seconds = 1};
    const std::string text = describe(outcome, transcript);
    EXPECT_LT(text.size(), 400U);
    EXPECT_TRUE(text.ends_with("xend"));
    EXPECT_EQ(text.find("begin"), std::string::npos);
}

TEST(Ending, OfALineOfControlCharactersNoMoreIsShown) {
    Transcript transcript;
    transcript.append(std::string(300, '\x80') + "\n");
    const std::string text = describe({.ending = Ending::reset, .detail = {}}, transcript);
    EXPECT_LT(text.size(), 300U);
    EXPECT_NE(text.find(": ... \\x80\\x80"), std::string::npos) << text;
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

// Lines of Bochs' own.
constexpr std::string_view dump_64 =
    "00000000100i[CPU0  ] CPU is in long mode (active, vmx guest)\n"
    "00000000100i[CPU0  ] |  CS:0033( 0006| 0|  3) 00000000 00000000 0 0\n"
    "00000000100i[CPU0  ] | RIP=ffffffffc0212411 (ffffffffc0212411)\n"
    "00000000100i[CPU0  ] | CR3=0x000000000abc1000 CR4=0x000006f0\n";
constexpr std::string_view dump_32 =
    "00364178901i[CPU0  ] CPU is in protected mode (halted)\n"
    "00364178901i[CPU0  ] |  CS:0010( 0002| 0|  0) 00000000 ffffffff 1 1\n"
    "00364178901i[CPU0  ] | EIP=001000bd (001000bd)\n"
    "00364178901i[CPU0  ] | CR0=0x60000011 CR2=0x00000000\n"
    "00364178901i[CPU0  ] | CR3=0x00007000 CR4=0x00000000\n";

TEST(Ending, TheDumpTellsWhereTheProcessorWas) {
    LogReader log;
    EXPECT_FALSE(log.processor());
    log.append(dump_64);
    ASSERT_TRUE(log.processor());
    EXPECT_EQ(log.processor()->mode, "long mode");
    EXPECT_TRUE(log.processor()->in_vmx_guest);
    EXPECT_FALSE(log.processor()->narrow);
    EXPECT_EQ(log.processor()->instruction_pointer, 0xffffffffc0212411);
    EXPECT_EQ(log.processor()->privilege, 3U);
    EXPECT_EQ(log.processor()->cr3, 0xabc1000U);
    // The last one counts, and of 32 bits Bochs prints EIP.
    log.append(dump_32);
    EXPECT_EQ(log.processor()->mode, "protected mode");
    EXPECT_FALSE(log.processor()->in_vmx_guest);
    EXPECT_TRUE(log.processor()->narrow);
    EXPECT_EQ(log.processor()->instruction_pointer, 0x1000bdU);
    EXPECT_EQ(log.processor()->privilege, 0U);
    EXPECT_EQ(log.processor()->cr3, 0x7000U);
}

TEST(Ending, ALocationSaysWhoRanByTheCurrentVmcs) {
    LogReader log;
    log.append(dump_64);
    const ProcessorState guest = *log.processor();
    const Programs direct{.l1 = "/nowhere", .l0 = {}, .vmcs01 = {}, .current_vmcs = {}};
    EXPECT_EQ(describe_location(guest, direct),
              "a guest of L1's was running, at RIP ffffffffc0212411, long mode, CPL 3, CR3 abc1000");
    Programs beneath{.l1 = "/nowhere", .l0 = "/nowhere", .vmcs01 = 0x1000, .current_vmcs = 0x1000};
    EXPECT_TRUE(describe_location(guest, beneath).starts_with("L1 was running, at RIP"));
    beneath.current_vmcs = 0x2000;
    EXPECT_TRUE(describe_location(guest, beneath).starts_with("a guest of L1's was running"));
    beneath.current_vmcs.reset();
    EXPECT_TRUE(describe_location(guest, beneath).starts_with("L1 or a guest of L1's was running"));
    log.append(dump_32);
    EXPECT_EQ(describe_location(*log.processor(), direct),
              "L1, or the firmware or boot loader before it, was running, at EIP 001000bd, protected mode, "
              "CPL 0, CR3 7000");
}

TEST(Ending, AResetOfTheProcessorAloneIsTheGuestsWhateverTheFirmwareDoesThen) {
    ExitStatus status{};
    EXPECT_EQ(
        outcome_of("00364178898i[KBD   ] io write 0x64: command 0xfe: reset cpu\n"
                   "00364178898i[SYS   ] bx_pc_system_c::Reset(SOFTWARE) called\n"
                   "00365566530p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n",
                   "", &status)
            .ending,
        Ending::reset);
    EXPECT_EQ(status, ExitStatus::guest_reset);
}

TEST(Ending, L1sTripleFaultIsOneWithL0TooNotAStopOfL0s) {
    ExitStatus status{};
    const Outcome outcome =
        outcome_of("00000000100p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n",
                   "FLATBACK text l0.mark 00ab\nFLATBACK value l0.l1_entry_tsc 5\nhalf a line\n"
                   "FLATBACK 00ab error L1: at RIP 0x1000bd, CS 0x8\n",
                   &status);
    EXPECT_EQ(outcome.ending, Ending::triple_fault);
    EXPECT_EQ(outcome.detail, "at RIP 0x1000bd, CS 0x8");
    EXPECT_EQ(status, ExitStatus::triple_fault);
}

TEST(Ending, NothingThatAForeignGuestPrintsMakesItFail) {
    for (const bool l0 : {false, true}) {
        LogReader log;
        log.append("00000000100p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n");
        Transcript transcript{{}, {.l0 = l0, .guest_records = false, .mark = "feed"}};
        if (l0) transcript.append("FLATBACK text l0.mark 00ab\nFLATBACK value l0.l1_entry_tsc 5\n");
        transcript.append(
            "FLATBACK error L0: forged\nFLATBACK error L1: forged\nFLATBACK error grub: forged\n"
            "FLATBACK value cut 1[L0]\nFLATBACK value l0.l1_entry_tsc 6\n"
            "FLATBACK text l0.mark 1234\nFLATBACK 1234 error L0: forged\nFLATBACK error cut");
        transcript.finish();
        const Outcome outcome = judge(log, transcript);
        EXPECT_EQ(outcome.ending, Ending::shutdown);
        EXPECT_EQ(exit_status(outcome, transcript), ExitStatus::guest_shutdown);
        EXPECT_EQ(transcript.errors().size(), 0U);
        EXPECT_EQ(transcript.values().size(), l0 ? 1U : 0U);
        for (const auto& [key, value] : transcript.values()) EXPECT_EQ(key + value, "l0.l1_entry_tsc5");
    }
}

TEST(Ending, ADirectRunsLoaderIsKnownByItsMark) {
    LogReader log;
    log.append("00000000100p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n");
    Transcript transcript{{}, {.l0 = false, .guest_records = false, .mark = "feed"}};
    transcript.append("FLATBACK feed error grub: cannot load the guest\n");
    EXPECT_EQ(judge(log, transcript).ending, Ending::loader_failed);
}

TEST(Ending, AHaltWithInterruptsOffIsAnEndOfItsOwn) {
    LogReader log;
    log.append("00364178900i[CPU0  ] WARNING: HLT instruction with IF=0!\n");
    EXPECT_EQ(log.halts_for_good(), 1U);
    const Transcript transcript;
    const Outcome halted{.ending = Ending::halted, .detail = {}};
    EXPECT_EQ(exit_status(halted, transcript), ExitStatus::guest_halted);
    EXPECT_NE(describe(halted, transcript).find("interrupts off"), std::string::npos);
}

TEST(Ending, ADescriptionHoldsNoControlCharacters) {
    Transcript transcript;
    transcript.append("\033[2J\007\n");
    const std::string text = describe({.ending = Ending::reset, .detail = {}}, transcript);
    EXPECT_EQ(text.find_first_of("\033\007"), std::string::npos);
    EXPECT_NE(text.find("^[[2J^G"), std::string::npos) << text;
}

TEST(Ending, WhoStoppedIsSaidOnceAndL0sLinesAreNotL1s) {
    Transcript transcript{{}, {.l0 = true, .guest_records = false, .mark = {}}};
    EXPECT_EQ(describe({.ending = Ending::l0_stopped, .detail = "L0: no memory"}, transcript),
              "L0 stopped: no memory");
    transcript.append("FLATBACK stage l1-entry\nFLATBACK value l0.l1_entry_tsc 9\n");
    EXPECT_EQ(describe({.ending = Ending::reset, .detail = {}}, transcript),
              "the guest reset the machine; L1 printed nothing on the serial port");
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
}  // namespace flatback::tools::ending_test
