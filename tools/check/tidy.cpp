#include "tools/check/tidy.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <ranges>
#include <set>
#include <utility>
#include <vector>

#include "tools/check/source_files.hpp"
#include "tools/check/tidy_plan.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds tidy_limit{1200};

// Options that clang does not know, or (-mgeneral-regs-only) that its view of the standard library's headers
// forbids.
constexpr std::array<std::string_view, 4> gcc_options{" -mgeneral-regs-only",
                                                      " -fno-tree-loop-distribute-patterns",
                                                      " -Wuseless-cast", " -Wno-maybe-uninitialized"};

std::string without_gcc_options(std::string command) {
    for (const std::string_view option : gcc_options) {
        for (std::size_t at = command.find(option); at != std::string::npos; at = command.find(option)) {
            command.erase(at, option.size());
        }
    }
    return command;
}

// A minute or two: the default test has no more. What is left comes at the next run, or by name.
constexpr std::size_t most_sources_by_default = 16;
constexpr std::chrono::seconds short_limit{60};

std::filesystem::path memory_file() {
    return build_directory() / "clang-tidy-clean.txt";
}

// The output of a program that is to succeed; empty where it does not.
std::string output_of(std::vector<std::string> arguments) {
    CommandLine command;
    command.directory = source_directory();
    command.arguments = std::move(arguments);
    auto finished = run_to_end(std::move(command), short_limit);
    return finished && finished->status == 0 ? std::move(finished->output) : std::string{};
}

// By git: what the last commit changed, and what is not committed yet.
std::set<std::string> changed_lately() {
    std::set<std::string> files;
    const std::string said = output_of({"git", "diff", "--name-only", "--diff-filter=d", "HEAD~1"}) +
                             output_of({"git", "ls-files", "--others", "--exclude-standard"});
    for (const auto line : said | std::views::split('\n')) {
        if (!line.empty()) files.emplace(line.begin(), line.end());
    }
    return files;
}

// Of the source by which CMake compiles several as one: those that it includes; of any other, itself.
Result<std::vector<std::string>> sources_compiled_by(const std::string& file) {
    const std::filesystem::path path{file};
    if (path.parent_path().filename() != "Unity" || path.extension() != ".cxx") return std::vector{file};
    const Bytes text = TRY(read_file(path));
    return quoted_includes(text_of(text));
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
        text.replace(at, what.size(), with);
    return text;
}

bool counts(const std::filesystem::path& relative) {
    const std::string part = relative.begin()->string();
    return part != ".." && part != "tests" && part != "fuzz" && !part.starts_with("build") &&
           relative.extension() == ".cpp";
}

// The sources as they are now, with digests.
class Tree final {
public:
    [[nodiscard]] static Result<Tree> read();

    // The sources that a compilation database names, and what each brings in.
    [[nodiscard]] std::map<std::string, std::set<std::string>> sources(std::string_view database) const;
    [[nodiscard]] CleanFiles remembered() const {
        const auto text = read_file(memory_file());
        return CleanFiles::parse(text ? text_of(*text) : std::string_view{}, digest(rules_file));
    }
    [[nodiscard]] std::set<std::string> changed_since(const CleanFiles& clean) const;
    [[nodiscard]] std::string digest(const std::string& path) const {
        const auto found = digests_.find(path);
        return found == digests_.end() ? std::string{} : found->second;
    }

private:
    static constexpr const char* rules_file = ".clang-tidy";

    std::map<std::string, std::string> texts_;
    std::map<std::string, std::string> digests_;
};

Result<Tree> Tree::read() {
    Tree tree;
    std::vector<std::string> command{"sha256sum", "--", rules_file};
    for (const auto& file : source_files()) {
        const std::string path = file.lexically_relative(source_directory()).string();
        const Bytes bytes = TRY(read_file(file));
        tree.texts_[path] = text_of(bytes);
        command.push_back(path);
    }
    constexpr std::size_t digest_size = 64;
    for (const auto part : output_of(std::move(command)) | std::views::split('\n')) {
        const std::string_view line{part.begin(), part.end()};
        if (line.size() > digest_size + 2)
            tree.digests_[std::string{line.substr(digest_size + 2)}] = line.substr(0, digest_size);
    }
    if (tree.digests_.size() != tree.texts_.size() + 1)
        return fail(ExitStatus::missing_program, "sha256sum could not read all sources");
    return tree;
}

std::map<std::string, std::set<std::string>> Tree::sources(std::string_view database) const {
    std::map<std::string, std::set<std::string>> found;
    const Includes includes{texts_};
    for (const auto& entry : nlohmann::json::parse(database)) {
        const std::filesystem::path file{entry["file"].get<std::string>()};
        const std::string path = file.lexically_relative(source_directory()).string();
        if (texts_.contains(path)) found[path] = includes.brought_in(path);
    }
    return found;
}

std::set<std::string> Tree::changed_since(const CleanFiles& clean) const {
    std::set<std::string> changed;
    for (const auto& [path, text] : texts_) {
        if (!clean.contains(path, digest(path))) changed.insert(path);
    }
    return changed;
}

}  // namespace

Result<std::string> reduced_database(std::string_view database, const std::filesystem::path& sources) {
    const nlohmann::json entries = nlohmann::json::parse(database, nullptr, false);
    if (!entries.is_array()) return fail(ExitStatus::input_file, "compile_commands.json is damaged");
    nlohmann::json reduced = nlohmann::json::array();
    std::set<std::string> seen;
    for (const nlohmann::json& entry : entries) {
        if (!entry.is_object() || !entry.contains("file") || !entry["file"].is_string()) {
            return fail(ExitStatus::input_file, "compile_commands.json has an entry without a file");
        }
        const std::string file = entry["file"].get<std::string>();
        // clang takes the standard library's headers only from a GCC that links for the same width.
        if (entry.contains("command") &&
            entry["command"].get<std::string>().find(" -m32 ") != std::string::npos)
            continue;
        const std::vector<std::string> compiled = TRY(sources_compiled_by(file));
        for (const std::string& source : compiled) {
            if (!counts(std::filesystem::path{source}.lexically_relative(sources)) ||
                !seen.insert(source).second)
                continue;
            reduced.push_back(entry);
            reduced.back()["file"] = source;
            const auto command = reduced.back().find("command");
            if (command != reduced.back().end())
                *command = replaced(without_gcc_options(command->get<std::string>()), file, source);
        }
    }
    return reduced.dump();
}

Result<> check_tidy(TestReport& report, TidyScope scope) {
    Tree tree = TRY(Tree::read());
    const Bytes file = TRY(read_file(build_directory() / "compile_commands.json"));
    const std::string database = TRY(reduced_database(text_of(file), source_directory()));
    const auto sources = tree.sources(database);
    CleanFiles clean = tree.remembered();
    std::vector<std::string> chosen;
    if (scope == TidyScope::everything) {
        for (const auto& [source, brings] : sources) chosen.push_back(source);
    } else {
        chosen = sources_that_show(clean.empty() ? changed_lately() : tree.changed_since(clean), sources,
                                   most_sources_by_default);
    }
    fmt::print("tidy: {} of {} sources{}\n", chosen.size(), sources.size(),
               scope == TidyScope::everything ? ""
               : clean.empty()                ? ": what the last commit changed, and what is not committed"
                                              : ": what changed since it was clean");
    if (chosen.empty()) return {};
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    TRY(write_file(directory.path() / "compile_commands.json", database));
    CommandLine command;
    command.directory = source_directory();
    command.arguments = {"run-clang-tidy-16", "-quiet", "-p", directory.path().string(), "-j", "2"};
    for (const std::string& source : chosen)
        command.arguments.push_back("^" + literally((source_directory() / source).string()) + "$");
    const Finished finished = TRY(run_to_end(std::move(command), tidy_limit));
    std::string why = findings(finished.output);
    if (why.empty()) why = last_lines(finished.output);
    report.add("tidy", finished.status == 0, why);
    if (finished.status != 0) return {};
    for (const std::string& source : chosen) {
        for (const std::string& path : sources.at(source)) clean.add(path, tree.digest(path));
    }
    return write_file(memory_file(), clean.text());
}

}  // namespace flatback::tools
