#include "tools/stack/machine_image.hpp"

#include <chrono>

#include "tools/ground/paths.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view l0_words = "log=info";

// What the command line has for the emulator alone, and the screen as the console.
std::string for_a_real_machine(std::string_view words) {
    std::string kept;
    while (!words.empty()) {
        const std::string_view word = words.substr(0, words.find(' '));
        words.remove_prefix(std::min(word.size() + 1, words.size()));
        if (word.starts_with("tsc_early_khz=") || word == "no_timer_check") continue;
        kept += std::string{word} + " ";
    }
    return kept + "console=tty0";
}

}  // namespace

MenuEntry self_test_entry() {
    BootPlan plan;
    plan.guest = bare_l1_image();
    plan.guest_command_line = "check bench screen";
    MenuEntry entry = own_entry(std::move(plan), "Self-test: all checks and timings of a bare L1");
    entry.id = self_test_entry_id;
    entry.draws = true;  // its results, and the code of their line
    return entry;
}

MenuEntry linux_entry(const LinuxGuest& guest) {
    constexpr std::chrono::seconds unused{};
    BootPlan plan = linux_l2_run("", "", guest, unused, "flatback.mapped", {},
                                 "lat_ctx.records=lat_ctx.l1 lat_ctx.counters=cpuid")
                        .request.plan;
    plan.guest_command_line = for_a_real_machine(plan.guest_command_line);
    MenuEntry entry =
        own_entry(std::move(plan), "Linux with KVM as L1: the benchmark in it and in its guest");
    entry.id = linux_entry_id;
    return entry;
}

MenuEntry own_entry(BootPlan plan, std::string title) {
    plan.l0 = l0_image();
    plan.l0_command_line = l0_words;
    return {std::string{own_entry_id}, std::move(title), std::move(plan)};
}

}  // namespace flatback::tools
