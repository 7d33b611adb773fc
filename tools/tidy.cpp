#include "tools/tidy.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/child_process.hpp"
#include "tools/excerpt.hpp"
#include "tools/files.hpp"
#include "tools/paths.hpp"
#include "tools/temporary_directory.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds tidy_limit{1200};

// Options that clang does not know, or (-mgeneral-regs-only) that its view of the standard library's headers
// forbids.
constexpr std::array<std::string_view, 3> gcc_options{
    " -mgeneral-regs-only", " -fno-tree-loop-distribute-patterns", " -Wuseless-cast"};

std::string without_gcc_options(std::string command) {
    for (const std::string_view option : gcc_options) {
        for (std::size_t at = command.find(option); at != std::string::npos; at = command.find(option)) {
            command.erase(at, option.size());
        }
    }
    return command;
}

bool counts(const std::filesystem::path& relative) {
    const std::string part = relative.begin()->string();
    return part != ".." && part != "tests" && part != "fuzz" && !part.starts_with("build") &&
           relative.extension() == ".cpp";
}

}  // namespace

Result<std::string> reduced_database(std::string_view database, const std::filesystem::path& sources) {
    using Json = nlohmann::json;
    const Json entries = Json::parse(database, nullptr, false);
    if (!entries.is_array()) return fail(ExitStatus::input_file, "compile_commands.json is damaged");
    Json reduced = Json::array();
    std::set<std::string> seen;
    for (const Json& entry : entries) {
        if (!entry.is_object() || !entry.contains("file") || !entry["file"].is_string()) {
            return fail(ExitStatus::input_file, "compile_commands.json has an entry without a file");
        }
        const std::string file = entry["file"].get<std::string>();
        if (counts(std::filesystem::path{file}.lexically_relative(sources)) && seen.insert(file).second) {
            reduced.push_back(entry);
            const auto command = reduced.back().find("command");
            if (command != reduced.back().end()) *command = without_gcc_options(command->get<std::string>());
        }
    }
    return reduced.dump();
}

Result<> check_tidy(TestReport& report) {
    const Bytes file = TRY(read_file(build_directory() / "compile_commands.json"));
    const std::string database = TRY(reduced_database(text_of(file), source_directory()));
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    TRY(write_file(directory.path() / "compile_commands.json", database));
    CommandLine command;
    command.directory = source_directory();
    command.arguments = {"run-clang-tidy-16", "-quiet", "-p", directory.path().string(), "-j", "2"};
    const Finished finished = TRY(run_to_end(std::move(command), tidy_limit));
    std::string why = findings(finished.output);
    if (why.empty()) why = last_lines(finished.output);
    report.add("tidy", finished.status == 0, why);
    return {};
}

}  // namespace flatback::tools
