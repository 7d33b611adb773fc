#include "tools/image/shared_libraries.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "tools/ground/child_process.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds readelf_limit{60};

// What stands between `before` and `after` in a line; nothing where one of them is missing.
std::optional<std::string> between(std::string_view line, std::string_view before, std::string_view after) {
    const std::size_t start = line.find(before);
    if (start == std::string_view::npos) return std::nullopt;
    line.remove_prefix(start + before.size());
    const std::size_t end = line.find(after);
    if (end == std::string_view::npos) return std::nullopt;
    return std::string{line.substr(0, end)};
}

}  // namespace

std::map<std::string, DynamicNeeds> parse_dynamic_needs(std::string_view readelf_output,
                                                        const std::string& only) {
    constexpr std::string_view file_mark = "File: ";
    std::map<std::string, DynamicNeeds> needs;
    std::string file = only;
    while (!readelf_output.empty()) {
        const std::size_t end = std::min(readelf_output.find('\n'), readelf_output.size());
        const std::string_view line = readelf_output.substr(0, end);
        readelf_output.remove_prefix(std::min(end + 1, readelf_output.size()));
        if (line.empty()) continue;
        if (line.starts_with(file_mark)) {
            file = line.substr(file_mark.size());
            continue;
        }
        DynamicNeeds& current = needs[file];
        if (auto interpreter = between(line, "[Requesting program interpreter: ", "]"))
            current.interpreter = std::move(*interpreter);
        if (line.find("(NEEDED)") != std::string_view::npos) {
            if (auto library = between(line, "[", "]")) current.libraries.push_back(std::move(*library));
        }
        if (line.find("(RUNPATH)") != std::string_view::npos ||
            line.find("(RPATH)") != std::string_view::npos)
            current.own_search_path = true;
    }
    return needs;
}

Result<std::map<std::string, DynamicNeeds>> read_dynamic_needs(std::span<const std::filesystem::path> files) {
    CommandLine command;
    command.arguments = {"readelf", "-W", "-l", "-d"};
    for (const std::filesystem::path& file : files) command.arguments.push_back(file.string());
    command.environment = {"LC_ALL=C"};
    const Finished finished = TRY(run_to_end(std::move(command), readelf_limit));
    if (finished.status != 0) {
        const std::string said = finished.output.substr(0, finished.output.find('\n'));
        return fail(ExitStatus::input_file,
                    fmt::format("readelf failed with status {}: {}", finished.status, said));
    }
    return parse_dynamic_needs(finished.output, files.front().string());
}

Result<LoadedProgram> resolve_libraries(const std::filesystem::path& program,
                                        std::span<const std::filesystem::path> directories,
                                        const NeedsReader& needs_of) {
    LoadedProgram loaded;
    std::vector<std::filesystem::path> to_read{program};
    while (!to_read.empty()) {
        const auto needs = TRY(needs_of(to_read));
        to_read.clear();
        for (const auto& [file, need] : needs) {
            if (need.own_search_path) {
                return fail(
                    ExitStatus::input_file,
                    fmt::format("{} has a library search path of its own, which is not followed", file));
            }
            if (!need.interpreter.empty() && file == program.string()) loaded.interpreter = need.interpreter;
            for (const std::string& library : need.libraries) {
                if (loaded.libraries.contains(library)) continue;
                // A soname is a name: one with a slash would be a path, and could lead anywhere.
                const auto directory = std::ranges::find_if(directories, [&library](const auto& each) {
                    std::error_code ignored;
                    return library.find('/') == std::string::npos &&
                           std::filesystem::is_regular_file(each / library, ignored);
                });
                if (directory == directories.end()) {
                    return fail(ExitStatus::missing_program,
                                fmt::format("{} needs the library {}, which is not there", file, library));
                }
                loaded.libraries.emplace(library, *directory / library);
                to_read.push_back(*directory / library);
            }
        }
    }
    if (loaded.interpreter.empty()) {
        return fail(ExitStatus::input_file,
                    fmt::format("{} names no dynamic loader: it is not a program that can be packed",
                                program.string()));
    }
    return loaded;
}

}  // namespace flatback::tools
