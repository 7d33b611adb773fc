#include "judge/mutants/source/schema_build.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <stdexcept>

#include "judge/mutants/source/ground.hpp"

namespace flatback::machine {

namespace {

namespace fs = std::filesystem;

constexpr std::array mutated_folders = {"tag", "nested", "host"};
constexpr std::array copied_folders = {
    "x86",        "vmx",       "tag",         "nested",       "host",
    "machine",    "judge",     "trace",       "tests/nested", "tests/nested_entry_checks",
    "tests/host", "tests/tag", "tests/trial", "metal/ground", "metal/memory"};

bool write_if_changed(const fs::path& file, const std::string& text) {
    if (fs::exists(file) && file_text(file) == text) return false;
    write_text(file, text);
    return true;
}

std::string in_one_line(const SourceMutation& it) {
    return it.file + " " + it.before + " => " + it.after;
}

}  // namespace

std::vector<std::string> mutated_files(const fs::path& sources) {
    std::vector<std::string> files;
    for (const char* folder : mutated_folders) {
        for (const auto& entry : fs::recursive_directory_iterator(sources / folder)) {
            const std::string name = entry.path().lexically_relative(sources).lexically_normal();
            if (name.ends_with(".hpp")) files.push_back(name);
        }
    }
    std::ranges::sort(files);
    return files;
}

SchemaBuild::SchemaBuild(const fs::path& sources, const fs::path& scratch,
                         const std::vector<std::string>& programs, unsigned jobs)
    : original_(sources),
      scratch_(fs::absolute(scratch).lexically_normal()),
      sources_(scratch_ / "sources"),
      build_(scratch_ / "build"),
      log_(scratch_ / "build.log"),
      programs_(programs),
      jobs_(jobs) {
    const std::vector<std::string> mutated = mutated_files(original_);
    for (const char* folder : copied_folders) {
        // What is not there any more would be compiled still.
        for (const auto& entry : fs::recursive_directory_iterator(original_ / folder)) {
            if (!entry.is_regular_file()) continue;
            const std::string name = entry.path().lexically_relative(original_).lexically_normal();
            fs::create_directories((sources_ / name).parent_path());
            if (!std::ranges::binary_search(mutated, name))
                write_if_changed(sources_ / name, file_text(entry.path()));
        }
        std::vector<fs::path> gone;
        for (const auto& entry : fs::recursive_directory_iterator(sources_ / folder)) {
            if (entry.is_regular_file() && !fs::exists(original_ / entry.path().lexically_relative(sources_)))
                gone.push_back(entry.path());
        }
        for (const fs::path& file : gone) fs::remove(file);
    }
    const fs::path configure_log = scratch_ / "configure.log";
    const std::string configure =
        "cmake -S " + quoted(sources_ / "judge/mutants/source/project") + " -B " + quoted(build_) +
        " -G Ninja -DFLATBACK_SOURCE_DIRECTORY=" + quoted(sources_) + " > " + quoted(configure_log) + " 2>&1";
    if (run_shell(configure) != 0) throw std::runtime_error("cmake fails: " + configure_log.string());
}

bool SchemaBuild::write(const std::vector<NumberedMutation>& mutations, const std::set<unsigned>& without) {
    std::map<std::string, std::vector<NumberedMutation>> by_file;
    for (const NumberedMutation& each : mutations) {
        if (!without.contains(each.number)) by_file[each.mutation.file].push_back(each);
    }
    bool changed = false;
    for (const std::string& name : mutated_files(original_)) {
        const std::string text = file_text(original_ / name);
        const auto found = by_file.find(name);
        SchemaFile file = found == by_file.end() ? SchemaFile{text, {}} : schema_of(text, found->second);
        changed = write_if_changed(sources_ / name, file.text) || changed;
        files_[name] = std::move(file);
    }
    return changed;
}

// What was refused before is not tried again: each round costs minutes.
std::set<unsigned> SchemaBuild::known_to_be_refused(const std::vector<NumberedMutation>& mutations) const {
    std::set<std::string> known;
    std::ifstream in(scratch_ / "refused.txt");
    for (std::string line; std::getline(in, line);) known.insert(line);
    std::set<unsigned> refused;
    for (const NumberedMutation& each : mutations) {
        if (known.contains(in_one_line(each.mutation))) refused.insert(each.number);
    }
    return refused;
}

void SchemaBuild::keep_refused(const std::vector<NumberedMutation>& mutations,
                               const std::set<unsigned>& refused) const {
    std::ofstream out(scratch_ / "refused.txt", std::ios::app);
    for (const NumberedMutation& each : mutations) {
        if (refused.contains(each.number)) out << in_one_line(each.mutation) << "\n";
    }
}

std::set<unsigned> SchemaBuild::build(const std::vector<NumberedMutation>& mutations) {
    std::set<unsigned> refused = known_to_be_refused(mutations);
    const auto file_of = [&](std::string_view path) -> const SchemaFile* {
        // Seen from the build directory, where it is not absolute.
        const std::string name = (build_ / path).lexically_normal().lexically_relative(sources_);
        const auto found = files_.find(name);
        return found == files_.end() ? nullptr : &found->second;
    };
    std::string targets;
    for (const std::string& each : programs_) targets += " " + each;
    // A build of the same that was interrupted has told something already.
    bool told = !write(mutations, refused) && !refused_by_compiler(file_text(log_), file_of).empty();
    while (true) {
        // All that is wrong at once.
        if (!told && run_shell("ninja -k 0 -j " + std::to_string(jobs_) + " -C " + quoted(build_) + targets +
                               " > " + quoted(log_) + " 2>&1") == 0) {
            return refused;
        }
        told = false;
        std::set<unsigned> more = refused_by_compiler(file_text(log_), file_of);
        if (more.empty()) throw std::runtime_error("the sources themselves do not build: " + log_.string());
        keep_refused(mutations, more);
        refused.merge(more);
        (void)write(mutations, refused);
    }
}

}  // namespace flatback::machine
