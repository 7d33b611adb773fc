#include "tools/command/l1_plan.hpp"

#include <fmt/format.h>

#include <system_error>

#include "interface/l0_words.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/printable.hpp"
#include "tools/image/l1_kernel.hpp"

namespace flatback::tools {
// "FILE TEXT" where no file has that whole name.
Result<BootModule> module_from(const std::string& argument) {
    BootModule module{argument, {}};
    const std::size_t space = argument.find(' ');
    // A name that is too long for a file is none.
    std::error_code ignored;
    if (space != std::string::npos && !std::filesystem::exists(argument, ignored)) {
        module = {argument.substr(0, space), argument.substr(space + 1)};
    }
    if (const auto contents = read_file(module.file); !contents) return std::unexpected{contents.error()};
    return module;
}

Result<> check_l0_words(std::string_view command_line) {
    constexpr std::string_view blanks = " \t\r\n";
    for (;;) {
        const std::size_t start = command_line.find_first_not_of(blanks);
        if (start == std::string_view::npos) return {};
        command_line.remove_prefix(start);
        const std::string_view word = command_line.substr(0, command_line.find_first_of(blanks));
        if (!interface::is_l0_word(word))
            return fail(ExitStatus::usage, fmt::format("--l0-cmdline: L0 has no word {}; there are: {}",
                                                       printable(word), interface::l0_words));
        command_line.remove_prefix(word.size());
    }
}

Result<BootPlan> plan_of_l1(const std::filesystem::path& guest, const std::vector<std::string>& modules,
                            const std::string& command_line, const std::filesystem::path& directory) {
    BootPlan plan;
    const L1Kernel kernel = TRY(read_l1_kernel(guest));
    plan.guest = guest;
    plan.guest_kind = kernel.kind;
    if (kernel.unpacked) {
        plan.guest = directory / "kernel";
        TRY(write_file(plan.guest, *kernel.unpacked));
    }
    plan.guest_command_line = command_line;
    for (const std::string& argument : modules) plan.modules.push_back(TRY(module_from(argument)));
    if (plan.guest_kind != KernelKind::multiboot1 && plan.modules.size() > 1) {
        return fail(ExitStatus::usage, "a Linux kernel takes one --module: its initramfs");
    }
    return plan;
}

Result<std::filesystem::path> built_l0() {
    if (std::filesystem::exists(l0_image())) return l0_image();
    return fail(ExitStatus::missing_program,
                fmt::format("L0 is not built: {} is missing", l0_image().string()));
}

}  // namespace flatback::tools
