#include "tools/image/debian_package.hpp"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <system_error>
#include <vector>

#include "tools/ground/child_process.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds apt_limit{600};

// Package lists of our own, which an ordinary user may update too.
std::vector<std::string> private_lists(const std::filesystem::path& directory) {
    const std::filesystem::path state = directory / "apt";
    return {"-o", "Dir::State::lists=" + (state / "lists").string(),
            "-o", "Dir::Cache=" + (state / "cache").string(),
            "-o", "APT::Sandbox::User="};
}

Result<Finished> apt(const char* program, std::vector<std::string> options,
                     std::initializer_list<std::string> words, const std::filesystem::path& directory) {
    CommandLine command;
    command.arguments = {program};
    command.arguments.insert(command.arguments.end(), options.begin(), options.end());
    command.arguments.insert(command.arguments.end(), words);
    command.directory = directory;
    command.environment = {"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"};
    return run_to_end(std::move(command), apt_limit);
}

Result<> update_private_lists(const std::filesystem::path& directory) {
    TRY(make_directory(directory / "apt" / "lists" / "partial"));
    TRY(make_directory(directory / "apt" / "cache" / "archives" / "partial"));
    const Finished finished = TRY(apt("apt-get", private_lists(directory), {"update"}, directory));
    if (finished.status == 0) return {};
    return fail(ExitStatus::missing_program,
                fmt::format("apt-get update failed with status {}: is Debian's archive within reach?",
                            finished.status));
}

std::optional<std::filesystem::path> downloaded(const std::string& package,
                                                const std::filesystem::path& directory) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{directory, ignored}) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(package + "_") && name.ends_with(".deb")) return entry.path();
    }
    return std::nullopt;
}

}  // namespace

Result<std::filesystem::path> download_debian_package(const std::string& package,
                                                      const std::filesystem::path& directory) {
    TRY(make_directory(directory));
    Finished finished = TRY(apt("apt-get", {"-o", "APT::Sandbox::User="}, {"download", package}, directory));
    if (finished.status != 0) {
        TRY(update_private_lists(directory));
        finished = TRY(apt("apt-get", private_lists(directory), {"download", package}, directory));
    }
    const auto file = downloaded(package, directory);
    if (finished.status == 0 && file) return *file;
    return fail(ExitStatus::missing_program,
                fmt::format("apt-get download {} failed with status {}", package, finished.status));
}

std::string kernel_dependency(std::string_view apt_cache_output) {
    constexpr std::string_view field = "\nDepends: ";
    constexpr std::string_view prefix = "linux-image-";
    const std::string text = fmt::format("\n{}", apt_cache_output);
    const std::size_t depends = text.find(field);
    if (depends == std::string::npos) return {};
    const std::string_view line = std::string_view{text}.substr(
        depends + field.size(), text.find('\n', depends + field.size()) - depends - field.size());
    const std::size_t start = line.find(prefix);
    if (start == std::string_view::npos) return {};
    return std::string{line.substr(start, line.find_first_of(" ,(|", start) - start)};
}

Result<std::string> debian_kernel_package(const std::filesystem::path& directory,
                                          const std::string& metapackage) {
    TRY(make_directory(directory));
    Finished finished = TRY(apt("apt-cache", {}, {"show", metapackage}, directory));
    std::string package = kernel_dependency(finished.output);
    if (package.empty()) {
        TRY(update_private_lists(directory));
        finished = TRY(apt("apt-cache", private_lists(directory), {"show", metapackage}, directory));
        package = kernel_dependency(finished.output);
    }
    if (package.empty()) {
        return fail(ExitStatus::missing_program, fmt::format("apt-cache knows no package {}", metapackage));
    }
    return package;
}

}  // namespace flatback::tools
