#include "tools/stack/xen_guest.hpp"

#include <fmt/format.h>

#include <array>
#include <system_error>
#include <vector>

#include "tools/ground/paths.hpp"
#include "tools/image/archive.hpp"
#include "tools/image/debian_kernel.hpp"
#include "tools/image/debian_package.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/image/shared_libraries.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr unsigned file_mode = 0644;
constexpr unsigned program_mode = 0755;
constexpr unsigned xen_memory = 1024;  // MB

// In the order of loading.
constexpr std::array<std::string_view, 5> modules{"xen-privcmd", "xenfs", "xen-evtchn", "xen-gntdev",
                                                  "xen-gntalloc"};

constexpr std::array<std::string_view, 13> packages{"xen-hypervisor-4.17-amd64",
                                                    "xen-utils-4.17",
                                                    "libxenmisc4.17",
                                                    "libxencall1",
                                                    "libxendevicemodel1",
                                                    "libxenevtchn1",
                                                    "libxengnttab1",
                                                    "libxenhypfs1",
                                                    "libxenstore4",
                                                    "libxentoolcore1",
                                                    "libxenforeignmemory1",
                                                    "libxentoollog1",
                                                    "libyajl2"};

constexpr std::array<std::string_view, 4> programs{"xl", "xenstored", "xenconsoled", "xen-init-dom0"};
constexpr std::string_view program_directory = "/usr/lib/xen-4.17/bin";
constexpr std::string_view library_directory = "/lib/x86_64-linux-gnu";

bool is_program(std::string_view path) {
    for (const std::string_view program : programs) {
        if (path.ends_with(fmt::format("{}/{}", program_directory, program))) return true;
    }
    return false;
}

bool is_wanted(std::string_view path) {
    return path.ends_with("/boot/xen-4.17-amd64.gz") || is_program(path) ||
           (path.find("/usr/lib/x86_64-linux-gnu/lib") != std::string_view::npos &&
            path.find(".so.") != std::string_view::npos);
}

// A library goes by its soname, which a link beside it would be: by every name from .so. and one number on.
Result<> write_library(const std::filesystem::path& directory, const std::string& name,
                       const Bytes& contents) {
    std::size_t dot = name.find(".so.") + std::string_view{".so."}.size();
    while (dot != std::string::npos) {
        dot = name.find('.', dot);
        TRY(write_file(directory / name.substr(0, dot), contents));
        if (dot != std::string::npos) ++dot;
    }
    return {};
}

Result<> unpack(const std::filesystem::path& archive, const std::filesystem::path& directory) {
    constexpr std::size_t most_hypervisor_bytes = std::size_t{64} << 20;
    const auto files = TRY(files_of_debian_package(archive, is_wanted));
    for (const auto& [path, contents] : files) {
        const std::string name = std::filesystem::path{path}.filename().string();
        if (name.ends_with(".gz")) {
            const Bytes hypervisor = TRY(decompress(contents, most_hypervisor_bytes));
            TRY(write_file(directory / "xen", hypervisor));
        } else if (is_program(path)) {
            TRY(write_file(directory / name, contents));
        } else {
            TRY(write_library(directory, name, contents));
        }
    }
    return {};
}

Result<> fetch_xen(const std::filesystem::path& directory, void (*say)(std::string_view)) {
    const std::filesystem::path work = directory.string() + ".new";
    std::error_code ignored;
    std::filesystem::remove_all(work, ignored);
    say("downloading Debian's Xen (about 5 MB, once)");
    TRY(make_directory(work));
    for (const std::string_view package : packages) {
        const std::filesystem::path archive =
            TRY(download_debian_package(std::string{package}, work / "packages"));
        TRY(unpack(archive, work));
    }
    std::filesystem::remove_all(work / "packages", ignored);
    std::error_code error;
    std::filesystem::rename(work, directory, error);
    if (error) {
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make {}: {}", directory.string(), error.message()));
    }
    return {};
}

Result<InitramfsEntry> entry(std::string path, const std::filesystem::path& source, unsigned mode) {
    InitramfsEntry result;
    result.path = std::move(path);
    result.mode = mode;
    result.contents = TRY(read_file(source));
    return result;
}

// Xen's programs with all that they load.
Result<> add_programs(std::vector<InitramfsEntry>& entries, const std::filesystem::path& directory) {
    const std::array<std::filesystem::path, 2> search{directory, library_directory};
    std::map<std::string, std::filesystem::path> libraries;
    for (const std::string_view program : programs) {
        entries.push_back(
            TRY(entry(fmt::format("{}/{}", program_directory, program), directory / program, program_mode)));
        LoadedProgram loaded = TRY(resolve_libraries(directory / program, search));
        const std::filesystem::path interpreter = loaded.interpreter;
        loaded.libraries.insert_or_assign(interpreter.filename().string(), interpreter);
        libraries.merge(loaded.libraries);
    }
    // The C library loads it by name, where a thread is cancelled: no file says so.
    constexpr std::string_view unwinder = "libgcc_s.so.1";
    libraries.emplace(unwinder, std::filesystem::path{library_directory} / unwinder);
    for (const auto& [soname, source] : libraries) {
        const std::string_view folder = soname.starts_with("ld-linux") ? "/lib64" : library_directory;
        entries.push_back(TRY(entry(fmt::format("{}/{}", folder, soname), source, program_mode)));
    }
    return {};
}

Result<> add_modules(std::vector<InitramfsEntry>& entries, const std::filesystem::path& kernel) {
    std::string order;
    for (const std::string_view module : modules) {
        entries.push_back(TRY(entry(fmt::format("/lib/modules/{}.ko", module),
                                    kernel / fmt::format("{}.ko", module), file_mode)));
        order += fmt::format("{}\n", module);
    }
    InitramfsEntry list;
    list.path = "/lib/modules/order";
    list.mode = file_mode;
    const auto bytes = std::as_bytes(std::span{order});
    list.contents.assign(bytes.begin(), bytes.end());
    entries.push_back(std::move(list));
    return {};
}

}  // namespace

Result<XenGuest> prepare_xen_guest(void (*say)(std::string_view)) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path xen = cache / "xen";
    const std::filesystem::path kernel = cache / "xen-kernel";
    TRY(make_directory(cache));
    TRY(prepare_busybox(say));
    if (!std::filesystem::exists(xen)) TRY(fetch_xen(xen, say));
    if (!std::filesystem::exists(kernel)) TRY(fetch_debian_kernel("linux-image-amd64", modules, kernel, say));

    const std::filesystem::path folder = source_directory() / "guests" / "xen";
    const XenGuest guest{xen / "xen", kernel / "vmlinux", cache / "xen-dom0.cpio"};
    const std::filesystem::path domu = cache / "xen-domu.cpio";
    const Bytes domu_list = TRY(read_file(folder / "domu-initramfs.list"));
    const auto domu_entries = TRY(read_initramfs_list(
        text_of(domu_list), {{"BUSYBOX", busybox_program()}, {"DOMU_INIT", folder / "domu-init"}}));
    const Bytes domu_image = TRY(make_initramfs(domu_entries));
    TRY(replace_file(domu, domu_image));
    const Bytes list = TRY(read_file(folder / "dom0-initramfs.list"));
    auto entries = TRY(read_initramfs_list(text_of(list), {{"BUSYBOX", busybox_program()},
                                                           {"KERNEL", guest.dom0_kernel},
                                                           {"DOMU_INITRAMFS", domu},
                                                           {"DOMU_CFG", folder / "domu.cfg"},
                                                           {"BARE_L1", bare_l1_image()},
                                                           {"BARE_L1_CFG", folder / "bare-l1.cfg"},
                                                           {"DOM0_INIT", folder / "dom0-init"}}));
    TRY(add_programs(entries, xen));
    TRY(add_modules(entries, kernel));
    const Bytes image = TRY(make_initramfs(entries));
    TRY(replace_file(guest.dom0_initramfs, image));
    return guest;
}

namespace {

EmulationRequest request_for(const XenGuest& guest, std::string_view xen_words, std::string_view dom0_words,
                             std::chrono::seconds limit) {
    EmulationRequest request;
    request.plan.guest = guest.hypervisor;
    request.plan.guest_kind = KernelKind::multiboot1;
    // The first word of a command line is a file's name, which Xen drops unless GRUB 2 is its loader.
    request.plan.guest_command_line =
        fmt::format("xen com1=115200,8n1 console=com1 guest_loglvl=all dom0_mem=560M,max:560M{}", xen_words);
    request.plan.modules.push_back(
        {guest.dom0_kernel, fmt::format("vmlinux dom0 console=hvc0 quiet mitigations=off audit=0 "
                                        "cryptomgr.notests rodata=off nowatchdog panic=-1{}",
                                        dom0_words)});
    request.plan.modules.push_back({guest.dom0_initramfs, "initramfs"});
    request.memory = xen_memory;
    request.limit = limit;
    return request;
}

}  // namespace

QueuedRun xen_run(std::string name, const XenGuest& guest, std::chrono::seconds limit) {
    EmulationRequest request = request_for(guest, "", "", limit);
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = "log=quiet";
    return {std::move(name), std::move(request)};
}

QueuedRun bare_above_xen(std::string name, const XenGuest& guest, std::span<const std::string> words,
                         std::chrono::seconds limit) {
    // CPUID does not show there that Bochs is beneath Xen. What a machine does where it has no memory is no
    // rule of VMX's, and Xen tells of each instruction there in its log, for ever.
    std::string dom0_words =
        " flatback.guest=bare-l1 flatback.bare.emulator=bochs flatback.bare.limit=20 "
        "flatback.bare.skip=no-memory";
    for (const std::string& word : words) dom0_words += fmt::format(" flatback.bare.{}", word);
    // Its log, and what waits for the serial line, have to hold all that the guest says: it drops the rest.
    return {std::move(name), request_for(guest, " conring_size=8M serial_tx_buffer=8M", dom0_words, limit)};
}

}  // namespace flatback::tools
