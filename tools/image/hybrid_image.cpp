#include "tools/image/hybrid_image.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds hybrid_limit{300};

// The words of L0's command line that a person may add to every entry, one after another.
constexpr std::array<std::string_view, 8> choices{
    "nested-vpid=single", "nested-vpid=off", "shadow-vmcs=off", "vpid=off",
    "huge-pages=off",     "trace=on",        "log=debug",       "console=serial",
};

std::string load(std::string_view command, std::string_view file, std::string_view words) {
    return fmt::format("    {} {}{}{}\n", command, file, words.empty() ? "" : " ", words);
}

std::string menu_entry(const MenuEntry& entry) {
    std::string text = fmt::format("menuentry {} --id {} {{\n", grub_quote(entry.title), entry.id);
    // $words is not quoted: it is words.
    text += load("multiboot2", "/boot/l0", grub_words(entry.plan.l0_command_line) + "$words");
    text += load("module2", fmt::format("/boot/{}/l1", entry.id), grub_words(entry.plan.guest_command_line));
    for (std::size_t index = 0; index < entry.plan.modules.size(); ++index)
        text += load("module2", fmt::format("/boot/{}/m{}", entry.id, index),
                     grub_words(entry.plan.modules[index].text));
    // multiboot2 sets it to what L0 can show; BIOS has VGA text, which every L1 can use, and where the
    // display has them modes of VESA's, of which the first that is there is set.
    constexpr std::string_view pixels = "1024x768x32,1024x768x24,800x600x32,800x600x24,text";
    return text + fmt::format("    if [ \"$grub_platform\" = pc ]; then set gfxpayload={}; fi\n}}\n",
                              entry.draws ? pixels : "text");
}

// Choosing one comes back to the menu with the word added; the last of a name wins.
std::string word_menu() {
    std::string text = "submenu \"Words for L0 (now:$words )\" {\n";
    for (const std::string_view word : choices)
        text += fmt::format(
            "    menuentry 'add {0}' {{\n"
            "        set words=\"$words {0}\"\n"
            "        configfile /boot/grub/grub.cfg\n"
            "    }}\n",
            word);
    return text +
           "    menuentry 'none' {\n"
           "        set words=\n"
           "        configfile /boot/grub/grub.cfg\n"
           "    }\n"
           "}\n";
}

}  // namespace

std::string hybrid_menu(const HybridImage& image) {
    std::string text = fmt::format(
        "# Boots Flatback's L0 with one of these as L1. To change words by hand: e at an entry.\n"
        "if [ -z \"$menu_came\" ]; then set timeout={}; else set timeout=-1; fi\n"
        "set menu_came=1\n"
        "export menu_came\n"
        "export words\n"
        "set default={}\n"
        // A machine may have no serial port.
        "if serial --unit=0 --speed=115200; then\n"
        "    terminal_input console serial\n"
        "    terminal_output console serial\n"
        "fi\n"
        "insmod all_video\n",
        image.seconds, image.entries[image.first].id);
    for (const MenuEntry& entry : image.entries) text += menu_entry(entry);
    text += word_menu();
    // fwsetup exists on UEFI alone.
    return text +
           "menuentry 'Restart' {\n"
           "    reboot\n"
           "}\n"
           "menuentry 'Switch off' {\n"
           "    halt\n"
           "}\n";
}

namespace {

// Debugging information is most of an ELF file of the build; what is no ELF file is copied.
Result<> copy_stripped(const std::filesystem::path& from, const std::filesystem::path& to) {
    const Bytes bytes = TRY(read_file(from));
    TRY(write_file(to, bytes));
    if (!text_of(bytes).starts_with("\x7F"
                                    "ELF"))
        return {};
    CommandLine command;
    command.arguments = {"objcopy", "--strip-debug", to.string()};
    const Finished finished = TRY(run_to_end(std::move(command), hybrid_limit));
    // A file that objcopy does not understand may well boot.
    return finished.status == 0 ? Result<>{} : write_file(to, bytes);
}

Result<> write_tree(const HybridImage& image, const std::filesystem::path& boot) {
    TRY(make_directory(boot / "grub"));
    TRY(write_file(boot / "grub" / "grub.cfg", hybrid_menu(image)));
    TRY(copy_stripped(*image.entries.front().plan.l0, boot / "l0"));
    for (const MenuEntry& entry : image.entries) {
        const std::filesystem::path folder = boot / entry.id;
        TRY(make_directory(folder));
        TRY(copy_stripped(entry.plan.guest, folder / "l1"));
        for (std::size_t index = 0; index < entry.plan.modules.size(); ++index) {
            const Bytes module = TRY(read_file(entry.plan.modules[index].file));
            TRY(write_file(folder / fmt::format("m{}", index), module));
        }
    }
    return {};
}

}  // namespace

Result<> make_hybrid_image(const HybridImage& image, const std::filesystem::path& directory,
                           const std::filesystem::path& to) {
    const std::filesystem::path tree = directory / "tree";
    TRY(write_tree(image, tree / "boot"));
    // Without a folder named, grub-mkrescue takes every platform of GRUB's that is installed.
    for (const std::string_view platform : {"i386-pc", "x86_64-efi"})
        if (!std::filesystem::exists(std::filesystem::path{"/usr/lib/grub"} / platform))
            return fail(ExitStatus::missing_program,
                        fmt::format("GRUB for {} is not there: install grub-pc-bin and grub-efi-amd64-bin",
                                    platform));
    CommandLine command;
    // The modules are those that both platforms have; each brings what it needs. All maps of partitions: from
    // UEFI, GRUB looks for each, and tells the user of those that it does not find.
    const std::string modules =
        "--install-modules=normal multiboot2 serial terminal test echo all_video part_acorn part_amiga "
        "part_apple part_bsd part_dfly part_dvh part_gpt part_msdos part_plan part_sun part_sunpc fat "
        "iso9660 "
        "search configfile ls cat reboot halt";
    command.arguments = {"grub-mkrescue",
                         modules,
                         "--locales=",
                         "--fonts=",
                         "--themes=",
                         "-o",
                         std::filesystem::absolute(to).string(),
                         tree.string()};
    command.environment = {"TMPDIR=" + directory.string()};
    const Finished finished = TRY(run_to_end(std::move(command), hybrid_limit));
    if (finished.status == 0) return {};
    return fail(ExitStatus::output_file, fmt::format("grub-mkrescue cannot make {}: {}", to.string(),
                                                     grub_telling_line(finished.output)));
}

}  // namespace flatback::tools
