#include "tools/image/qemu_package.hpp"

#include <fmt/format.h>

#include <array>
#include <filesystem>

#include "tools/image/shared_libraries.hpp"

namespace flatback::tools {
namespace {

constexpr unsigned directory_mode = 0755;
constexpr unsigned program_mode = 0755;
constexpr unsigned file_mode = 0644;

// Where Debian keeps shared libraries, and where its dynamic loader looks without a cache or a configuration.
constexpr std::string_view library_directory = "/lib/x86_64-linux-gnu";

struct DataFile {
    std::string_view name;
    std::string_view source;
};

// The firmware of microvm, without ACPI and with it, and the code that hands a PVH kernel over to it; for
// `-M pc`, which starts Multiboot kernels, SeaBIOS and what it runs.
constexpr std::array<DataFile, 7> data_files{{
    {"qboot.rom", "/usr/share/qemu/qboot.rom"},
    {"bios-microvm.bin", "/usr/share/qemu/bios-microvm.bin"},
    {"pvh.bin", "/usr/share/qemu/pvh.bin"},
    {"linuxboot_dma.bin", "/usr/share/qemu/linuxboot_dma.bin"},
    {"bios-256k.bin", "/usr/share/seabios/bios-256k.bin"},
    {"multiboot_dma.bin", "/usr/share/qemu/multiboot_dma.bin"},
    {"kvmvapic.bin", "/usr/share/qemu/kvmvapic.bin"},
}};

InitramfsEntry directory(std::string_view path) {
    InitramfsEntry entry;
    entry.kind = InitramfsEntry::Kind::directory;
    entry.path = path;
    entry.mode = directory_mode;
    return entry;
}

Result<InitramfsEntry> file(std::string path, const std::filesystem::path& source, unsigned mode) {
    InitramfsEntry entry;
    entry.path = std::move(path);
    entry.mode = mode;
    auto contents = read_file(source);
    if (!contents) {
        return fail(
            ExitStatus::missing_program,
            fmt::format("Debian's qemu-system-x86 is not installed whole: {}", contents.error().message));
    }
    entry.contents = std::move(*contents);
    return entry;
}

}  // namespace

Result<std::vector<InitramfsEntry>> qemu_initramfs_entries() {
    std::vector<InitramfsEntry> entries;
    for (const std::string_view path :
         {"/usr", "/usr/bin", "/usr/share", "/usr/share/qemu", "/lib", "/lib64", "/lib/x86_64-linux-gnu"}) {
        entries.push_back(directory(path));
    }
    entries.push_back(TRY(file(std::string{qemu_in_initramfs}, qemu_in_initramfs, program_mode)));
    const std::array<std::filesystem::path, 1> search{library_directory};
    const LoadedProgram loaded = TRY(resolve_libraries(qemu_in_initramfs, search));
    const std::filesystem::path interpreter = loaded.interpreter;
    for (const auto& [soname, source] : loaded.libraries) {
        // The loader finds itself loaded.
        if (soname == interpreter.filename()) continue;
        entries.push_back(TRY(file(fmt::format("{}/{}", library_directory, soname), source, program_mode)));
    }
    entries.push_back(TRY(file(loaded.interpreter, interpreter, program_mode)));
    for (const DataFile& data : data_files) {
        entries.push_back(TRY(file(fmt::format("/usr/share/qemu/{}", data.name), data.source, file_mode)));
    }
    return entries;
}

}  // namespace flatback::tools
