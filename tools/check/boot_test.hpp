// A test that boots something in Bochs: the run, and what makes it a success.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {

// A run, and what makes it a success.
struct BootTest {
    QueuedRun run;
    // Where it must end in one way, and (for L0's refusals) with a word in what was said (of what is below,
    // the text is judged then too); otherwise the guest
    // must come to its end, with `stages` reached, at least one check reported, and no error.
    std::optional<Ending> ending;
    std::string_view word;
    std::vector<std::string> stages;
    // Where the run's values are judged too: what is wrong with them; empty where nothing. Instead of checks
    // that the guest reports.
    std::string (*judge_values)(const RunValues& values) = nullptr;
    // Where the text is judged too, likewise.
    std::string (*judge_text)(const Transcript& transcript) = nullptr;
    // The checks of this run that must fail, and no others.
    std::vector<std::string_view> failing = {};
    // L1 shuts its processor down, which is a triple fault with L0 and without.
    bool shuts_down = false;
    // What must stand in the serial output.
    std::vector<std::string_view> printed = {};
    // The screen that the run leaves must show a code that reads as the text of this key.
    std::string_view code_on_screen = {};
};

inline constexpr std::chrono::seconds short_limit{30};
inline constexpr std::chrono::seconds bare_limit{240};
inline constexpr std::chrono::seconds linux_limit{600};
inline constexpr std::chrono::seconds depth_limit{1800};

// Runs that are judged by more than what each says.
inline constexpr std::string_view bare_direct_name = "boot.bare.direct";
inline constexpr std::string_view registers_name = "boot.bare.registers";
inline constexpr std::string_view registers_direct_name = "boot.bare.registers-direct";
inline constexpr std::string_view information_name = "boot.world.l0";
inline constexpr std::string_view information_direct_name = "boot.world.direct";
inline constexpr std::string_view linux_trace_name = "boot.linux.trace";

// Those that are made only where the filter asks for them.
inline constexpr std::string_view models_name = "boot.models";
inline constexpr std::string_view depth_name = "boot.depth";
inline constexpr std::string_view everywhere_name = "boot.everywhere";
inline constexpr std::string_view linux_several_name = "boot.several";
inline constexpr std::string_view linux_l2_name = "boot.linux.l2";
inline constexpr std::array<std::string_view, 4> linux_names{"boot.linux.mapped", "boot.linux.mapped-no-ept",
                                                             "boot.linux.bzimage", linux_trace_name};
inline constexpr std::string_view peer_name = "boot.peer.bare";
inline constexpr std::array<std::string_view, 7> image_names{
    "boot.image.bios-cd",        "boot.image.bios-disk", "boot.image.uefi-cd", "boot.image.qemu-bios-cd",
    "boot.image.qemu-uefi-disk", "boot.image.elsewhere", "boot.image.screen"};
inline constexpr std::string_view image_elsewhere_name = image_names[5];
inline constexpr std::string_view image_screen_name = image_names[6];
inline constexpr std::string_view image_uefi_disk_name = "boot.image.uefi-disk";
inline constexpr std::string_view image_uefi_screen_name = "boot.image.uefi-screen";
inline constexpr std::string_view image_uefi_linux_name = "boot.image.uefi-linux";
// The same where it may call the firmware's runtime services.
inline constexpr std::string_view image_uefi_runtime_name = "boot.image.uefi-linux-runtime";

// tools/check/boot_cases.cpp
void add_endings(std::vector<BootTest>& tests);
void add_refusals(std::vector<BootTest>& tests, const std::filesystem::path& damaged_guest);
void add_broken(std::vector<BootTest>& tests);
void add_world(std::vector<BootTest>& tests);
void add_explanations(std::vector<BootTest>& tests);
// tools/check/boot_cases_bare.cpp
void add_bare(std::vector<BootTest>& tests);
void add_bare_without(std::vector<BootTest>& tests);
void add_bare_registers(std::vector<BootTest>& tests);
void add_bare_depth(std::vector<BootTest>& tests);
void add_depths(std::vector<BootTest>& tests);
void add_two_vms(std::vector<BootTest>& tests);
void add_bare_hangs(std::vector<BootTest>& tests);
void add_bare_processors(std::vector<BootTest>& tests);
void add_bare_several(std::vector<BootTest>& tests);
void add_bare_at_once(std::vector<BootTest>& tests);
void add_everywhere(std::vector<BootTest>& tests);
void add_second_processors_end(std::vector<BootTest>& tests);
void add_l0_stops(std::vector<BootTest>& tests);
void add_l0_port(std::vector<BootTest>& tests);
void add_models(std::vector<BootTest>& tests);
void add_bare32(std::vector<BootTest>& tests);
void add_bare_trace(std::vector<BootTest>& tests);
// tools/check/boot_cases_linux.cpp
[[nodiscard]] Result<> add_linux(std::vector<BootTest>& tests);
[[nodiscard]] Result<> add_linux_l2(std::vector<BootTest>& tests);
[[nodiscard]] Result<> add_linux_several(std::vector<BootTest>& tests);
[[nodiscard]] Result<> add_peer(std::vector<BootTest>& tests);

// tools/check/boot_cases_image.cpp: the image for real machines, written into `directory`. What runs in QEMU
// is run at once.
[[nodiscard]] Result<> add_image(TestReport& report, std::vector<BootTest>& tests,
                                 const std::filesystem::path& directory);
[[nodiscard]] Result<> add_image_linux(std::vector<BootTest>& tests, const std::filesystem::path& directory);

// tools/check/boot_judgement.cpp: a run by itself; and several beside each other, where they were made.
void judge_run(TestReport& report, const BootTest& test, const FinishedRun& run);
void judge_registers(TestReport& report, const std::vector<FinishedRun>& runs);
void compare_information(TestReport& report, std::span<const FinishedRun> runs);
void compare_orders(TestReport& report, std::span<const BootTest> tests, std::span<const FinishedRun> runs);

}  // namespace flatback::tools
