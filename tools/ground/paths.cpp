#include "tools/ground/paths.hpp"

namespace flatback::tools {

std::filesystem::path source_directory() {
    return FLATBACK_SOURCE_DIRECTORY;
}

std::filesystem::path build_directory() {
    return FLATBACK_BUILD_DIRECTORY;
}

}  // namespace flatback::tools
