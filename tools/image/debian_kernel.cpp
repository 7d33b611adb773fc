#include "tools/image/debian_kernel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "tools/ground/child_process.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/archive.hpp"
#include "tools/image/debian_package.hpp"
#include "tools/image/guest_kernel.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds objcopy_limit{60};

// The name of the module whose file in a kernel package this is.
std::string module_of(std::string_view path) {
    std::string_view file = path.substr(path.rfind('/') + 1);
    for (const std::string_view ending : {".xz", ".ko"}) {
        if (!file.ends_with(ending)) continue;
        file.remove_suffix(ending.size());
        if (ending == ".ko") return std::string{file};
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

}  // namespace

// Works beside the directory first: an interrupted run leaves nothing half done.
Result<> fetch_debian_kernel(const std::string& metapackage, std::span<const std::string_view> modules,
                             const std::filesystem::path& directory, void (*say)(std::string_view)) {
    const std::filesystem::path work = directory.string() + ".new";
    std::error_code ignored;
    std::filesystem::remove_all(work, ignored);
    say(fmt::format("downloading Debian's {} (about 70 MB, once)", metapackage));
    const std::string package = TRY(debian_kernel_package(work, metapackage));
    const std::filesystem::path archive = TRY(download_debian_package(package, work));
    say("unpacking the kernel and its modules");
    const auto files = TRY(files_of_debian_package(archive, [modules](std::string_view path) {
        return is_kernel(path) || std::ranges::find(modules, module_of(path)) != modules.end();
    }));
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

}  // namespace flatback::tools
