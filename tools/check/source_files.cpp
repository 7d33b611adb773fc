#include "tools/check/source_files.hpp"

#include <algorithm>
#include <system_error>

#include "tools/ground/paths.hpp"

namespace flatback::tools {

std::vector<std::filesystem::path> source_files() {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (auto entry = std::filesystem::recursive_directory_iterator{source_directory(), error};
         entry != std::filesystem::recursive_directory_iterator{}; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (entry->is_directory() && (name.starts_with(".") || name.starts_with("build"))) {
            entry.disable_recursion_pending();
        } else if (name.ends_with(".cpp") || name.ends_with(".hpp")) {
            found.push_back(entry->path());
        }
    }
    std::ranges::sort(found);
    return found;
}

std::string literally(std::string_view text) {
    std::string expression;
    for (const char character : text) {
        if (std::string_view{R"(.[]()*+?^$|\{})"}.find(character) != std::string_view::npos)
            expression += '\\';
        expression += character;
    }
    return expression;
}

}  // namespace flatback::tools
