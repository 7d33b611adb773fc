#include "tools/tidy.hpp"

#include <fmt/format.h>

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
    command.arguments = {"run-clang-tidy", "-quiet", "-p", directory.path().string(), "-j", "2"};
    const Finished finished = TRY(run_to_end(std::move(command), tidy_limit));
    std::string why = findings(finished.output);
    if (why.empty()) why = last_lines(finished.output);
    report.add("tidy", finished.status == 0, why);
    return {};
}

}  // namespace flatback::tools
