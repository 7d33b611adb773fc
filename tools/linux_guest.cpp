#include "tools/linux_guest.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <iterator>
#include <span>
#include <sstream>
#include <system_error>
#include <vector>

#include "tools/child_process.hpp"
#include "tools/debian_package.hpp"
#include "tools/guest_kernel.hpp"
#include "tools/machine.hpp"
#include "tools/paths.hpp"
#include "tools/temporary_directory.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds objcopy_limit{60};

// kvm-intel and what it needs, in the order of loading.
constexpr std::array<std::string_view, 3> modules{"irqbypass", "kvm", "kvm-intel"};

// The name of the module whose file in the kernel package this is; empty where it is none of ours.
std::string_view module_of(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    const std::string_view file = path.substr(slash == std::string_view::npos ? 0 : slash + 1);
    for (const std::string_view module : modules) {
        if (file == fmt::format("{}.ko", module) || file == fmt::format("{}.ko.xz", module)) return module;
    }
    return {};
}

bool is_kernel(std::string_view path) {
    return path.find("/boot/vmlinuz-") != std::string_view::npos;
}

// Debug information, type information and the signature are of no use here and cost boot time.
Result<> write_stripped_module(const Bytes& file, std::string_view path, const std::filesystem::path& to) {
    constexpr std::size_t most_module_bytes = std::size_t{64} << 20;
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path original = directory.path() / "original.ko";
    const Bytes module = path.ends_with(".xz") ? TRY(decompress(file, most_module_bytes)) : file;
    TRY(write_file(original, module));
    CommandLine command;
    command.arguments = {"objcopy", "--strip-debug", "--remove-section=.BTF", original.string(), to.string()};
    const Finished finished = TRY(run_to_end(std::move(command), objcopy_limit));
    if (finished.status != 0) {
        return fail(ExitStatus::output_file, fmt::format("objcopy failed on {}: {}", path, finished.output));
    }
    return {};
}

// Fills `directory` with vmlinux and the modules. Works beside it first: an interrupted run leaves nothing
// half done.
Result<> fetch_kernel(const std::filesystem::path& directory, void (*say)(std::string_view)) {
    const std::filesystem::path work = directory.string() + ".new";
    std::error_code ignored;
    std::filesystem::remove_all(work, ignored);
    say("downloading Debian's kernel package (about 70 MB, once)");
    const std::string package = TRY(debian_kernel_package(work));
    const std::filesystem::path archive = TRY(download_debian_package(package, work));
    say("unpacking the kernel and its KVM modules");
    const auto files = TRY(files_of_debian_package(
        archive, [](std::string_view path) { return is_kernel(path) || !module_of(path).empty(); }));
    std::size_t found = 0;
    for (const auto& [path, contents] : files) {
        ++found;
        if (is_kernel(path)) {
            const Bytes kernel = TRY(uncompressed_kernel(contents));
            const Bytes compact = TRY(compact_elf64(kernel));
            TRY(write_file(work / "vmlinux", compact));
            TRY(write_file(work / "vmlinuz", contents));
        } else {
            TRY(write_stripped_module(contents, path, work / fmt::format("{}.ko", module_of(path))));
        }
    }
    if (found != modules.size() + 1) {
        return fail(ExitStatus::input_file, fmt::format("{} lacks the kernel or a module", archive.string()));
    }
    std::filesystem::remove(archive, ignored);
    std::filesystem::remove_all(work / "apt", ignored);
    std::error_code error;
    std::filesystem::rename(work, directory, error);
    if (error) {
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make {}: {}", directory.string(), error.message()));
    }
    return {};
}

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

Result<> write_initramfs(const std::filesystem::path& to, const std::vector<std::filesystem::path>& lists,
                         const Sources& sources) {
    std::vector<InitramfsEntry> entries;
    for (const std::filesystem::path& list : lists) {
        const Bytes text = TRY(read_file(list));
        auto more = TRY(read_initramfs_list(text_of(text), sources));
        entries.insert(entries.end(), std::make_move_iterator(more.begin()),
                       std::make_move_iterator(more.end()));
    }
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

Result<LinuxGuest> prepare_linux_guest(void (*say)(std::string_view)) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path kernel = cache / "kernel";
    const std::filesystem::path busybox = cache / "busybox";
    TRY(make_directory(cache));
    if (!std::filesystem::exists(kernel)) TRY(fetch_kernel(kernel, say));
    if (!std::filesystem::exists(busybox)) TRY(fetch_busybox(busybox, say));

    const std::filesystem::path folder = source_directory() / "guests" / "linux";
    LinuxGuest guest{.kernel = kernel / "vmlinux",
                     .bzimage = kernel / "vmlinuz",
                     .initramfs = cache / "initramfs.cpio",
                     .command_line = TRY(command_line_from(folder / "cmdline.txt")),
                     .initramfs_with_l2 = cache / "initramfs-with-l2.cpio",
                     .l2_initramfs = cache / "l2-initramfs.cpio"};
    const std::filesystem::path l2_command_line = cache / "l2-cmdline";
    const std::string l2_words = TRY(command_line_from(folder / "l2-cmdline.txt")) + "\n";
    TRY(replace_file(l2_command_line, std::as_bytes(std::span{l2_words})));
    const Sources sources{{"BUSYBOX", busybox},           {"MODULES", kernel},
                          {"L2_VMM", l2_vmm_program()},   {"LAT_CTX", lat_ctx_program()},
                          {"KERNEL", guest.kernel},       {"L2_INITRAMFS", guest.l2_initramfs},
                          {"L2_CMDLINE", l2_command_line}};
    TRY(write_initramfs(guest.l2_initramfs, {folder / "l2-initramfs.list"},
                        with(sources, "INIT", folder / "l2-init")));
    const Sources l1_sources = with(sources, "INIT", folder / "init");
    TRY(write_initramfs(guest.initramfs, {folder / "initramfs.list"}, l1_sources));
    TRY(write_initramfs(guest.initramfs_with_l2, {folder / "initramfs.list", folder / "initramfs-l2.list"},
                        l1_sources));
    return guest;
}

}  // namespace flatback::tools
