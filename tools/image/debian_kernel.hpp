// A kernel of Debian's, unpacked and not installed.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "tools/ground/error.hpp"

namespace flatback::tools {

// Downloads the kernel that the metapackage depends on, and fills `directory` with vmlinux (uncompressed and
// compact), vmlinuz (as Debian ships it) and NAME.ko for each of `modules`, stripped. Error: those of
// debian_kernel_package and of download_debian_package; input_file where the package lacks one.
[[nodiscard]] Result<> fetch_debian_kernel(const std::string& metapackage,
                                           std::span<const std::string_view> modules,
                                           const std::filesystem::path& directory,
                                           void (*say)(std::string_view));

}  // namespace flatback::tools
