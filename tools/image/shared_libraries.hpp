// Which shared libraries a program loads, by what its file and theirs say they need.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

// What one ELF file asks of the dynamic loader.
struct DynamicNeeds {
    std::string interpreter;             // the loader's path; empty in a library
    std::vector<std::string> libraries;  // by soname, in the file's order
    bool own_search_path = false;        // it has a RUNPATH or RPATH, which is not followed here
};

// The needs in what `readelf -W -l -d FILE...` prints, by file. One file alone goes under `only`: readelf
// prints names only where there are several.
[[nodiscard]] std::map<std::string, DynamicNeeds> parse_dynamic_needs(std::string_view readelf_output,
                                                                      const std::string& only);

// Asks readelf. Error: missing_program; input_file where one of them is no ELF file.
[[nodiscard]] Result<std::map<std::string, DynamicNeeds>> read_dynamic_needs(
    std::span<const std::filesystem::path> files);

struct LoadedProgram {
    std::string interpreter;
    std::map<std::string, std::filesystem::path> libraries;  // soname to file, the loader itself among them
};

using NeedsReader =
    std::function<Result<std::map<std::string, DynamicNeeds>>(std::span<const std::filesystem::path>)>;

// The program's libraries, those that they need and so on, found in `directories` (the first that has one
// wins). Error: input_file where the program needs no loader; missing_program where a library is in none of
// the directories, with who needs it; those of `needs_of`.
[[nodiscard]] Result<LoadedProgram> resolve_libraries(const std::filesystem::path& program,
                                                      std::span<const std::filesystem::path> directories,
                                                      const NeedsReader& needs_of = read_dynamic_needs);

}  // namespace flatback::tools
