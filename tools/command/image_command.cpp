#include "tools/command/image_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <system_error>

#include "tools/command/l1_plan.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/hybrid_image.hpp"
#include "tools/stack/machine_image.hpp"

namespace flatback::tools {

Result<ExitStatus> image_command(const ImageOptions& options) {
    TRY(check_l0_words(options.l0_command_line));
    TRY(check_writable(options.output));
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    [[maybe_unused]] const std::filesystem::path l0 = TRY(built_l0());

    HybridImage image;
    image.seconds = options.menu_seconds;
    if (options.guest) {
        BootPlan plan =
            TRY(plan_of_l1(*options.guest, options.modules, options.guest_command_line, directory.path()));
        image.entries.push_back(
            own_entry(std::move(plan), fmt::format("Your L1: {}", options.guest->filename().string())));
    }
    image.entries.push_back(self_test_entry());
    if (options.with_linux) {
        const LinuxGuest guest = TRY(prepare_linux_guest(tell));
        image.entries.push_back(linux_entry(guest));
    }
    for (MenuEntry& entry : image.entries)
        if (!options.l0_command_line.empty()) entry.plan.l0_command_line += " " + options.l0_command_line;
    if (!options.first.empty()) {
        const auto first = std::ranges::find(image.entries, options.first, &MenuEntry::id);
        if (first == image.entries.end())
            return fail(ExitStatus::usage, fmt::format("--first: this image has no entry {}{}", options.first,
                                                       options.first == linux_entry_id ? " (--linux adds it)"
                                                       : options.first == own_entry_id ? " (--l1 adds it)"
                                                                                       : ""));
        image.first = static_cast<std::size_t>(first - image.entries.begin());
    }
    TRY(make_hybrid_image(image, directory.path(), options.output));
    std::error_code ignored;
    constexpr double megabyte = 1 << 20;
    fmt::print(stderr,
               "flatback: {} has {:.1f} MB: a CD as it is, or a stick: dd if={} of=/dev/STICK bs=1M "
               "(what is on the stick is lost)\n",
               options.output.string(),
               static_cast<double>(std::filesystem::file_size(options.output, ignored)) / megabyte,
               options.output.string());
    return ExitStatus::success;
}

}  // namespace flatback::tools
