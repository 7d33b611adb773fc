#include "tools/ground/temporary_directory.hpp"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

namespace flatback::tools {

Result<TemporaryDirectory> TemporaryDirectory::create() {
    std::error_code error;
    const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
    if (error) {
        return fail(ExitStatus::output_file,
                    fmt::format("no directory for temporary files: {} (set TMPDIR to one)", error.message()));
    }
    std::string name = (parent / "flatback-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make a directory in {}: {}", parent.string(), std::strerror(errno)));
    }
    return TemporaryDirectory{name};
}

TemporaryDirectory::~TemporaryDirectory() {
    if (path_.empty()) return;
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace flatback::tools
