#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "tools/check/boot_test.hpp"
#include "tools/emulator/qemu_machine.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/image/hybrid_image.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/stack/machine_image.hpp"

namespace flatback::tools {
namespace {

struct Case {
    std::string_view name;
    Firmware firmware;
    Medium medium;
};
constexpr std::array<Case, 4> bochs_cases{{
    {image_names[0], Firmware::bios, Medium::cd},
    {image_names[1], Firmware::bios, Medium::disk},
    {image_names[2], Firmware::uefi, Medium::cd},
    {image_uefi_disk_name, Firmware::uefi, Medium::disk},
}};
// QEMU's translator has no VT-x: they end in L0's refusal.
constexpr std::array<Case, 2> qemu_cases{{
    {image_names[3], Firmware::bios, Medium::cd},
    {image_names[4], Firmware::uefi, Medium::disk},
}};
constexpr std::chrono::seconds uefi_limit{240};
constexpr std::uint32_t elsewhere = 0x5000000;

// L0 as it would be where firmware keeps the memory that it is linked at: its Multiboot2 header asks for a
// place from `elsewhere` on.
Result<> write_l0_for_elsewhere(const std::filesystem::path& to) {
    // The relocatable tag up to its least address.
    constexpr std::array<std::uint32_t, 3> tag{10, 24, 0x200000};
    Bytes l0 = TRY(read_file(l0_image()));
    const auto found = std::ranges::search(l0, std::as_bytes(std::span{tag}));
    if (found.empty()) return fail(ExitStatus::input_file, "L0's Multiboot2 header has no relocatable tag");
    std::memcpy(&*found.begin() + sizeof tag - sizeof elsewhere, &elsewhere, sizeof elsewhere);
    return write_file(to, l0);
}

Result<BootTest> test_elsewhere(const BootPlan& plan, const std::filesystem::path& directory) {
    const std::filesystem::path l0 = directory / "l0-elsewhere";
    const std::filesystem::path image = directory / "elsewhere.iso";
    TRY(write_l0_for_elsewhere(l0));
    HybridImage contents{.entries = {{"own", "L1", plan}}, .seconds = 0};
    contents.entries.front().plan.l0 = l0;
    TRY(make_hybrid_image(contents, directory, image));
    EmulationRequest request;
    request.plan = contents.entries.front().plan;
    request.image = image;
    request.memory = bare_memory;
    request.limit = bare_limit;
    BootTest test{{std::string{image_elsewhere_name}, std::move(request)},
                  std::nullopt,
                  {},
                  {"l0", "l1-entry", "bare-l1"}};
    test.printed = {"of image, loaded at 0x5000000"};
    return test;
}

// The self-test shows its line as a code: from BIOS in a graphics mode that GRUB makes for it, on UEFI's
// framebuffer. The whole of it, as it is in the image: a line with every measure makes the largest code.
Result<BootTest> test_screen(std::string_view name, Firmware firmware,
                             const std::filesystem::path& directory) {
    const std::filesystem::path image = directory / fmt::format("{}.iso", name);
    const HybridImage contents{.entries = {self_test_entry()}, .seconds = 0};
    TRY(make_hybrid_image(contents, directory / fmt::format("{}.tree", name), image));
    EmulationRequest request;
    request.plan = contents.entries.front().plan;
    request.image = image;
    request.firmware = firmware;
    request.memory = bare_memory;
    request.limit = uefi_limit;
    BootTest test{{std::string{name}, std::move(request)}, std::nullopt, {}, {"l0", "l1-entry", "bare-l1"}};
    test.run.screen_file = directory / fmt::format("{}.png", name);
    test.code_on_screen = "self_test.line";
    return test;
}

}  // namespace

Result<> add_image(TestReport& report, std::vector<BootTest>& tests, const std::filesystem::path& directory) {
    const std::filesystem::path image = directory / "machine.iso";
    // As `image` makes it but for what the self-test is told to do.
    HybridImage contents{.entries = {self_test_entry()}, .seconds = 0};
    contents.entries.front().plan.guest_command_line = "check only=vmcs-pointer";
    TRY(make_hybrid_image(contents, directory, image));
    for (const Case& each : bochs_cases) {
        // Firmware of UEFI reads a disk slowly: only where it is asked for.
        if (each.name == image_uefi_disk_name && !report.filter().starts_with(image_uefi_disk_name)) continue;
        EmulationRequest request;
        request.plan = contents.entries.front().plan;
        request.image = image;
        request.firmware = each.firmware;
        request.medium = each.medium;
        request.memory = bare_memory;
        request.limit = uefi_limit;
        tests.push_back(
            {{std::string{each.name}, std::move(request)}, std::nullopt, {}, {"l0", "l1-entry", "bare-l1"}});
    }
    tests.push_back(TRY(test_screen(image_screen_name, Firmware::bios, directory)));
    if (report.filter().starts_with(image_uefi_screen_name))
        tests.push_back(TRY(test_screen(image_uefi_screen_name, Firmware::uefi, directory)));
    tests.push_back(TRY(test_elsewhere(contents.entries.front().plan, directory)));
    for (const Case& each : qemu_cases) {
        if (!report.selects(each.name)) continue;
        QemuRequest request;
        request.image = image;
        request.firmware = each.firmware;
        request.medium = each.medium;
        request.memory = bare_memory;
        request.limit = uefi_limit;
        request.speakers = {.l0 = true, .guest_records = true, .mark = {}};
        QemuRun run = TRY(QemuRun::start(std::move(request)));
        const std::string said = describe(run.wait(), run.transcript());
        report.add(each.name,
                   run.wait().ending == Ending::l0_stopped && said.find("no VT-x") != std::string::npos,
                   said);
    }
    return {};
}

// From UEFI, a Linux with KVM as L1 that has been told of UEFI, and its L2 guests. The firmware reads a CD
// slowly.
Result<> add_image_linux(std::vector<BootTest>& tests, const std::filesystem::path& directory) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    struct UefiLinux {
        std::string_view name;
        std::string_view l0_words;
        std::string_view printed;  // besides
    };
    // What Linux tells once it has mapped the runtime services and can read variables by them.
    constexpr std::array<UefiLinux, 2> cases{{
        {image_uefi_linux_name, "log=info", "efi=noruntime"},
        {image_uefi_runtime_name, "log=info uefi-runtime=on", "Registered efivars operations"},
    }};
    for (const UefiLinux& each : cases) {
        QueuedRun run = linux_run(std::string{each.name}, each.l0_words, guest, 2 * linux_limit);
        // Of two words for the same the last wins: what Linux has found of UEFI is to be seen.
        run.request.plan.guest_command_line += " loglevel=7";
        run.request.image = directory / fmt::format("{}.iso", each.name);
        run.request.firmware = Firmware::uefi;
        TRY(make_hybrid_image({.entries = {{"own", "L1", run.request.plan}}, .seconds = 0},
                              directory / fmt::format("{}.tree", each.name), *run.request.image));
        BootTest test{std::move(run), std::nullopt, {}, {"l0", "l1-entry", "l1-user", "l2"}};
        test.printed = {"efi: EFI v", each.printed};
        tests.push_back(std::move(test));
    }
    return {};
}

}  // namespace flatback::tools
