#include "tools/image/linux_guest.hpp"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <span>
#include <sstream>
#include <system_error>
#include <vector>

#include "tools/ground/paths.hpp"
#include "tools/image/clock.hpp"
#include "tools/image/debian_kernel.hpp"
#include "tools/image/debian_package.hpp"
#include "tools/image/qemu_package.hpp"

namespace flatback::tools {
namespace {

// kvm-intel and what it needs, in the order of loading.
constexpr std::array<std::string_view, 3> modules{"irqbypass", "kvm", "kvm-intel"};

Result<> fetch_busybox(const std::filesystem::path& file, void (*say)(std::string_view)) {
    const std::filesystem::path work = file.string() + ".new";
    say("downloading Debian's busybox-static (1 MB, once)");
    const std::filesystem::path archive = TRY(download_debian_package("busybox-static", work));
    const auto files = TRY(files_of_debian_package(
        archive, [](std::string_view path) { return path.ends_with("/bin/busybox"); }));
    if (files.size() != 1)
        return fail(ExitStatus::input_file, fmt::format("{} has no busybox", archive.string()));
    TRY(replace_file(file, files.begin()->second));
    std::error_code ignored;
    std::filesystem::remove_all(work, ignored);
    return {};
}

using Sources = std::map<std::string, std::filesystem::path>;

Sources with(Sources sources, const std::string& name, const std::filesystem::path& path) {
    sources[name] = path;
    return sources;
}

Result<std::string> command_line_from(const std::filesystem::path& list) {
    const Bytes words = TRY(read_file(list));
    return linux_command_line(text_of(words));
}

Result<std::vector<InitramfsEntry>> entries_of(const std::vector<std::filesystem::path>& lists,
                                               const Sources& sources) {
    std::vector<InitramfsEntry> entries;
    for (const std::filesystem::path& list : lists) {
        const Bytes text = TRY(read_file(list));
        auto more = TRY(read_initramfs_list(text_of(text), sources));
        entries.insert(entries.end(), std::make_move_iterator(more.begin()),
                       std::make_move_iterator(more.end()));
    }
    return entries;
}

Result<> write_initramfs(const std::filesystem::path& to, std::span<const InitramfsEntry> entries) {
    const Bytes image = TRY(make_initramfs(entries));
    return replace_file(to, image);
}

}  // namespace

Result<std::string> linux_command_line(std::string_view list, std::string_view more) {
    constexpr std::string_view rate = "${IPS_KHZ}";
    // A panic becomes a reset, which ends the run at once with the kernel's last words.
    std::string command_line = "panic=-1";
    std::istringstream lines{std::string{list}};
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line.starts_with('#')) continue;
        if (const std::size_t variable = line.find(rate); variable != std::string::npos) {
            line.replace(variable, rate.size(), fmt::format("{}", linux_instructions_per_second / 1000));
        }
        if (line.find("${") != std::string::npos) {
            return fail(ExitStatus::input_file,
                        fmt::format("Linux command line: unknown variable in {}", line));
        }
        command_line += " " + line;
    }
    if (!more.empty()) command_line += fmt::format(" {}", more);
    return command_line;
}

Result<> prepare_busybox(void (*say)(std::string_view)) {
    const std::filesystem::path busybox = busybox_program();
    TRY(make_directory(busybox.parent_path()));
    return std::filesystem::exists(busybox) ? Result<>{} : fetch_busybox(busybox, say);
}

Result<LinuxGuest> prepare_linux_guest(void (*say)(std::string_view)) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path kernel = cache / "kernel";
    const std::filesystem::path busybox = busybox_program();
    TRY(make_directory(cache));
    if (!std::filesystem::exists(kernel)) TRY(fetch_debian_kernel("linux-image-amd64", modules, kernel, say));
    TRY(prepare_busybox(say));

    const std::filesystem::path folder = source_directory() / "guests" / "linux";
    LinuxGuest guest{.kernel = kernel / "vmlinux",
                     .bzimage = kernel / "vmlinuz",
                     .initramfs = cache / "initramfs.cpio",
                     .command_line = TRY(command_line_from(folder / "cmdline.txt")),
                     .initramfs_with_l2 = cache / "initramfs-with-l2.cpio",
                     .initramfs_with_qemu = cache / "initramfs-with-qemu.cpio",
                     .l2_initramfs = cache / "l2-initramfs.cpio"};
    const std::filesystem::path l2_command_line = cache / "l2-cmdline";
    const std::string l2_words = TRY(command_line_from(folder / "l2-cmdline.txt")) + "\n";
    TRY(replace_file(l2_command_line, std::as_bytes(std::span{l2_words})));
    const Sources sources{{"BUSYBOX", busybox},
                          {"MODULES", kernel},
                          {"L2_VMM", l2_vmm_program()},
                          {"LAT_CTX", lat_ctx_program()},
                          {"MM_STRESS", mm_stress_program()},
                          {"L0_TRACE", l0_trace_program()},
                          {"KERNEL", guest.kernel},
                          {"L2_INITRAMFS", guest.l2_initramfs},
                          {"L2_CMDLINE", l2_command_line}};
    const auto l2_entries =
        TRY(entries_of({folder / "l2-initramfs.list"}, with(sources, "INIT", folder / "l2-init")));
    TRY(write_initramfs(guest.l2_initramfs, l2_entries));
    const Sources l1_sources = with(sources, "INIT", folder / "init");
    auto entries = TRY(entries_of({folder / "initramfs.list"}, l1_sources));
    TRY(write_initramfs(guest.initramfs, entries));
    const auto add = [&entries](std::vector<InitramfsEntry> more) {
        entries.insert(entries.end(), std::make_move_iterator(more.begin()),
                       std::make_move_iterator(more.end()));
    };
    add(TRY(entries_of({folder / "initramfs-l2.list"}, l1_sources)));
    TRY(write_initramfs(guest.initramfs_with_l2, entries));
    add(TRY(qemu_initramfs_entries()));
    TRY(write_initramfs(guest.initramfs_with_qemu, entries));
    return guest;
}

Result<LinuxGuest> prepare_linux_guest_of(const std::string& metapackage, void (*say)(std::string_view)) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path kernel = cache / metapackage;
    const std::filesystem::path busybox = busybox_program();
    TRY(make_directory(cache));
    if (!std::filesystem::exists(kernel)) TRY(fetch_debian_kernel(metapackage, modules, kernel, say));
    TRY(prepare_busybox(say));
    const std::filesystem::path folder = source_directory() / "guests" / "linux";
    LinuxGuest guest{.kernel = kernel / "vmlinux",
                     .bzimage = kernel / "vmlinuz",
                     .initramfs = kernel / "initramfs.cpio",
                     .command_line = TRY(command_line_from(folder / "cmdline.txt")),
                     .initramfs_with_l2 = {},
                     .initramfs_with_qemu = {},
                     .l2_initramfs = {}};
    const Sources sources{{"BUSYBOX", busybox},
                          {"MODULES", kernel},
                          {"L2_VMM", l2_vmm_program()},
                          {"L0_TRACE", l0_trace_program()},
                          {"INIT", folder / "init"}};
    const auto entries = TRY(entries_of({folder / "initramfs.list"}, sources));
    TRY(write_initramfs(guest.initramfs, entries));
    return guest;
}

}  // namespace flatback::tools
