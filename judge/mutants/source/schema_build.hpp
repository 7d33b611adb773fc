#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "judge/mutants/source/schema.hpp"

namespace flatback::machine {

/// A copy of the sources with all mutations in it, and the test programs built
/// from it. The copy and what was built stay, so that the next one builds little.
class SchemaBuild {
public:
    /// Copies and configures. Throws std::runtime_error.
    SchemaBuild(const std::filesystem::path& sources, const std::filesystem::path& scratch,
                const std::vector<std::string>& programs, unsigned jobs);

    /// Writes the mutations into the copy and builds; those that the compiler
    /// refuses are taken out, and it is built again. Returns their numbers.
    /// Throws std::runtime_error where the sources themselves do not build.
    [[nodiscard]] std::set<unsigned> build(const std::vector<NumberedMutation>& mutations);

    /// The directory of the test programs.
    [[nodiscard]] const std::filesystem::path& directory() const { return build_; }

private:
    [[nodiscard]] bool write(const std::vector<NumberedMutation>& mutations,
                             const std::set<unsigned>& without);

    [[nodiscard]] std::set<unsigned> known_to_be_refused(
        const std::vector<NumberedMutation>& mutations) const;
    void keep_refused(const std::vector<NumberedMutation>& mutations,
                      const std::set<unsigned>& refused) const;

    std::filesystem::path original_;
    std::filesystem::path scratch_;
    std::filesystem::path sources_;
    std::filesystem::path build_;
    std::filesystem::path log_;
    std::vector<std::string> programs_;
    unsigned jobs_;
    std::map<std::string, SchemaFile> files_;
};

/// The files that are mutated, below `sources`; in the order of their names.
[[nodiscard]] std::vector<std::string> mutated_files(const std::filesystem::path& sources);

}  // namespace flatback::machine
