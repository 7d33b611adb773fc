#include "tools/image/boot_image.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <system_error>

#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds image_limit{120};

// One command of the script; the next one runs only where this one succeeds.
std::string step(std::string_view command, std::string_view file, std::string_view words,
                 std::string_view what) {
    return fmt::format(
        "if [ -z \"$failed\" ]; then\n"
        "    if {} {} {}; then true; else set failed={}; fi\n"
        "fi\n",
        command, file, words, grub_quote(what));
}

Result<> copy_into(const std::filesystem::path& from, const std::filesystem::path& to) {
    const Bytes bytes = TRY(read_file(from));
    return write_file(to, bytes);
}

}  // namespace

std::string grub_quote(std::string_view text) {
    std::string quoted = "'";
    for (const char character : text) {
        // A quote ends the quoted part, stands escaped, and begins the next part. A line break would end the
        // command.
        if (character == '\'') {
            quoted += "'\\''";
        } else if (character == '\n' || character == '\r') {
            quoted += ' ';
        } else {
            quoted += character;
        }
    }
    return quoted + "'";
}

std::string grub_telling_line(std::string_view output) {
    std::string last;
    while (!output.empty()) {
        const std::size_t end = std::min(output.find('\n'), output.size());
        const std::string_view line = output.substr(0, end);
        if (line.find("FAILURE") != std::string_view::npos || line.find("rror") != std::string_view::npos ||
            line.find("No space") != std::string_view::npos) {
            return std::string{line};
        }
        if (!line.empty()) last = line;
        output.remove_prefix(std::min(end + 1, output.size()));
    }
    return last;
}

std::string grub_words(std::string_view text) {
    std::string quoted;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        if (end > 0) quoted += grub_quote(text.substr(0, end)) + " ";
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return quoted;
}

std::string loader_mark(const BootPlan& plan) {
    // FNV-1a, 64 bits.
    std::uint64_t hash = 0xCBF29CE484222325;
    for (const char character : plan.guest.string() + plan.guest_command_line) {
        hash ^= static_cast<unsigned char>(character);
        hash *= 0x100000001B3;
    }
    return fmt::format("{:016x}", hash);
}

std::string grub_configuration(const BootPlan& plan) {
    const bool linux_directly = !plan.l0 && plan.guest_kind == KernelKind::linux_bzimage;
    std::string script = "set failed=\n";
    if (!plan.acpi_tables.empty()) {
        std::string files;
        for (std::size_t index = 0; index < plan.acpi_tables.size(); ++index)
            files += fmt::format("{}/boot/a{}", index == 0 ? "" : " ", index);
        script += step("acpi", "--exclude=FACP,DSDT", files, "ACPI's tables");
    }
    if (plan.l0) {
        script += step("multiboot2", "/boot/l0", grub_words(plan.l0_command_line), "the hypervisor");
        script += step("module2", "/boot/l1", grub_words(plan.guest_command_line), "the guest");
    } else {
        script += step(linux_directly ? "linux" : "multiboot", "/boot/l1",
                       grub_words(plan.guest_command_line), "the guest");
    }
    const std::string_view module = plan.l0 ? "module2" : linux_directly ? "initrd" : "module";
    for (std::size_t index = 0; index < plan.modules.size(); ++index) {
        script += step(module, fmt::format("/boot/m{}", index),
                       linux_directly ? "" : grub_words(plan.modules[index].text),
                       fmt::format("module {}", index + 1));
    }
    // L1 finds the screen as the firmware of the PC left it: in text.
    if (plan.l0) script += "set gfxpayload=text\n";
    script += "if [ -z \"$failed\" ]; then boot; set failed='the boot'; fi\n";
    script +=
        "serial --unit=0 --speed=115200\n"
        "terminal_output serial\n"
        "echo\n"
        "echo \"FLATBACK " +
        loader_mark(plan) + " error grub: cannot load $failed\"\n";
    for (const char character : std::string_view{"Shutdown"})
        script += fmt::format("outb 0x8900 {}\n", int{character});
    return script;
}

Result<> make_boot_image(const BootPlan& plan, const std::filesystem::path& directory,
                         const std::filesystem::path& image) {
    const std::filesystem::path tree = directory / "cd";
    const std::filesystem::path boot = tree / "boot";
    TRY(make_directory(boot / "grub"));
    TRY(write_file(boot / "grub" / "grub.cfg", grub_configuration(plan)));
    if (plan.l0) TRY(copy_into(*plan.l0, boot / "l0"));
    TRY(copy_into(plan.guest, boot / "l1"));
    for (std::size_t index = 0; index < plan.modules.size(); ++index) {
        TRY(copy_into(plan.modules[index].file, boot / fmt::format("m{}", index)));
    }
    for (std::size_t index = 0; index < plan.acpi_tables.size(); ++index)
        TRY(write_file(boot / fmt::format("a{}", index), plan.acpi_tables[index]));
    CommandLine command;
    // Nothing of GRUB's that a run does not need: an image is made for each.
    const std::string grub_modules =
        std::string{
            "--install-modules=normal multiboot multiboot2 linux iso9660 biosdisk serial terminal iorw echo "
            "test"} +
        (plan.acpi_tables.empty() ? "" : " acpi");
    command.arguments = {"grub-mkrescue", "-d",       "/usr/lib/grub/i386-pc",
                         "--locales=",    "--fonts=", "--themes="};
    command.arguments.insert(command.arguments.end(), {grub_modules, "-o", image.string(), tree.string()});
    command.environment = {"TMPDIR=" + directory.string()};
    const Finished finished = TRY(run_to_end(std::move(command), image_limit));
    std::error_code ignored;
    std::filesystem::remove_all(tree, ignored);
    if (finished.status != 0) {
        const bool no_program =
            finished.output.find("xorriso") != std::string::npos && !program_exists("xorriso");
        return fail(no_program ? ExitStatus::missing_program : ExitStatus::output_file,
                    fmt::format("grub-mkrescue cannot make {}: {}", image.string(),
                                grub_telling_line(finished.output)));
    }
    return {};
}

}  // namespace flatback::tools
