// Files out of Debian packages that need not be installed: downloaded by apt-get, unpacked, kept in a cache.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "tools/ground/error.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {

// Downloads the package into `directory` and returns the file's path. Needs no root: where the machine's own
// package lists lack it or are too old, fresh lists are fetched into `directory`. Error: missing_program,
// with what apt-get said.
[[nodiscard]] Result<std::filesystem::path> download_debian_package(const std::string& package,
                                                                    const std::filesystem::path& directory);

// The package of a kernel ("linux-image-6.1.0-1-amd64"): what the metapackage ("linux-image-amd64") depends
// on. Fetches fresh lists into `directory` where the machine has none. Error: missing_program where no list
// has it.
[[nodiscard]] Result<std::string> debian_kernel_package(const std::filesystem::path& directory,
                                                        const std::string& metapackage);

// The dependency named linux-image-… in the output of `apt-cache show`; empty where there is none.
[[nodiscard]] std::string kernel_dependency(std::string_view apt_cache_output);

}  // namespace flatback::tools
