#include "judge/mutants/source/run.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <istream>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace flatback::machine {

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
}

void write(const fs::path& file, const std::string& text) {
    if (!(std::ofstream(file, std::ios::binary) << text))
        throw std::runtime_error(file.string() + ": cannot be written");
}

std::string quoted(const fs::path& path) {
    std::string text = "'";
    for (const char c : path.string()) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
}

/// The exit status; 124: it took too long.
int shell(const std::string& command) {
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/// Only what changed is copied, so that little is built again.
void copy_sources(const fs::path& from, const fs::path& to) {
    constexpr std::array folders = {
        "x86",         "vmx",       "tag",         "nested",       "machine",
        "host",        "judge",     "trace",       "tests/nested", "tests/nested_entry_checks",
        "tests/host",  "tests/tag", "tests/trial", "docs",         "metal/ground",
        "metal/memory"};
    for (const char* folder : folders) {
        if (!fs::exists(from / folder)) continue;
        for (const auto& entry : fs::recursive_directory_iterator(from / folder)) {
            if (!entry.is_regular_file()) continue;
            const fs::path copy = to / entry.path().lexically_relative(from);
            fs::create_directories(copy.parent_path());
            std::string text = read(entry.path());
            if (!fs::exists(copy) || read(copy) != text) write(copy, text);
        }
    }
}

constexpr std::array programs = {"tag_mutant",  "checks_mutant", "nested_mutant",
                                 "host_mutant", "trial_mutant",  "model_mutant"};

class Scratch {
public:
    explicit Scratch(const SourceMutantsOptions& options)
        : options_(options),
          sources_(options.scratch / "sources"),
          build_(options.scratch / "build"),
          log_(options.scratch / "log.txt") {
        copy_sources(options.sources, sources_);
        // Nothing is cached: each mutant is compiled once in the world.
        const std::string configure =
            "CMAKE_CXX_COMPILER_LAUNCHER= cmake -S " + quoted(sources_ / "judge/mutants/source/project") +
            " -B " + quoted(build_) +
            " -G Ninja -DFLATBACK_SOURCE_DIRECTORY=" + quoted(fs::absolute(sources_)) + " > " + quoted(log_) +
            " 2>&1";
        if (shell(configure) != 0) throw std::runtime_error("cmake fails: " + log_.string());
    }

    [[nodiscard]] bool builds() const {
        return shell("ninja -C " + quoted(build_) + " > " + quoted(log_) + " 2>&1") == 0;
    }

    /// Which test fails first; empty: none does.
    [[nodiscard]] std::string failing_test() const {
        for (const char* program : programs) {
            // One seed: what one run catches the next one does too. The page of the
            // ledger is not about the sources.
            const int status = shell("RC_PARAMS=seed=20261122 timeout -k 1 " +
                                     std::to_string(options_.seconds) + " " + quoted(build_ / program) +
                                     " --gtest_fail_fast --gtest_brief=1 > " + quoted(log_) + " 2>&1");
            if (status == 0) continue;
            const std::string text = read(log_);
            const std::size_t at = text.find("[  FAILED  ] ");
            std::string name = status == 124 ? " takes too long" : " dies";
            if (at != std::string::npos)
                name = " " + text.substr(at + 13, text.find_first_of(" ,\n", at + 13) - at - 13);
            return program + name;
        }
        return {};
    }

    [[nodiscard]] fs::path file(const std::string& name) const { return sources_ / name; }

private:
    const SourceMutantsOptions& options_;
    fs::path sources_;
    fs::path build_;
    fs::path log_;
};

std::vector<SourceMutation> all_mutations(const SourceMutantsOptions& options) {
    std::vector<std::string> files;
    for (const char* folder : {"tag", "nested", "host"}) {
        for (const auto& entry : fs::recursive_directory_iterator(options.sources / folder)) {
            const std::string name = entry.path().lexically_relative(options.sources).lexically_normal();
            const auto is_part = [&](const std::string& part) {
                return name.find(part) != std::string::npos;
            };
            if (!name.ends_with(".hpp")) continue;
            if (options.files.empty() || std::ranges::any_of(options.files, is_part)) files.push_back(name);
        }
    }
    std::ranges::sort(files);  // the seed alone decides
    std::vector<SourceMutation> all;
    for (const std::string& name : files) {
        const std::vector<SourceMutation> some = mutations_of(name, read(options.sources / name));
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

}  // namespace

std::vector<ReviewedMutation> read_reviewed(std::istream& in) {
    std::vector<ReviewedMutation> reviewed;
    std::vector<std::string> block;
    const auto end_block = [&] {
        if (block.empty()) return;
        if (block.size() != 4)
            throw std::runtime_error("a block of four lines begins with: " + block.front());
        reviewed.push_back({block[0], block[1], block[2], block[3]});
        block.clear();
    };
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("# ")) continue;
        if (line.empty()) {
            end_block();
        } else {
            block.push_back(line);
        }
    }
    end_block();
    return reviewed;
}

SourceMutantsResult try_source_mutants(const SourceMutantsOptions& options, std::ostream& out) {
    std::ifstream list(options.sources / "judge/mutants/source/equivalent.txt");
    const std::vector<ReviewedMutation> reviewed = read_reviewed(list);
    const std::vector<SourceMutation> all = all_mutations(options);
    const std::vector<SourceMutation> order = sample(all, all.size(), options.seed);
    const Scratch scratch(options);
    if (!scratch.builds()) throw std::runtime_error("the sources themselves do not build");
    if (const std::string test = scratch.failing_test(); !test.empty())
        throw std::runtime_error("the sources themselves fail " + test);
    out << all.size() << " mutations of the sources; seed " << options.seed << "\n" << std::flush;

    SourceMutantsResult result;
    for (const SourceMutation& each : order) {
        if (result.caught + result.alive + result.equivalent >= options.count) break;
        const std::string text = read(scratch.file(each.file));
        const std::string changed = mutated(text, each);
        if (changed == text) continue;
        write(scratch.file(each.file), changed);
        const bool compiles = scratch.builds();
        const std::string caught_by = compiles ? scratch.failing_test() : std::string();
        write(scratch.file(each.file), text);
        if (!compiles) {
            ++result.not_compiled;
            continue;
        }
        const auto is_it = [&](const ReviewedMutation& known) {
            return known.file == each.file && known.before == each.before && known.after == each.after;
        };
        const auto known = std::ranges::find_if(reviewed, is_it);
        std::string verdict = caught_by;
        if (!caught_by.empty()) {
            ++result.caught;
        } else if (known != reviewed.end()) {
            ++result.equivalent;
            verdict = "equivalent: " + known->why;
        } else {
            ++result.alive;
            verdict = "LIVES";
        }
        out << each.file << ":" << each.line << ": " << each.kind << "\n  - " << each.before << "\n  + "
            << each.after << "\n  " << verdict << "\n"
            << std::flush;
    }
    out << result.caught << " caught, " << result.alive << " alive, " << result.equivalent
        << " equivalent by review; " << result.not_compiled << " did not compile\n";
    return result;
}

}  // namespace flatback::machine
