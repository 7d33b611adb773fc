// What is booted, from the files that a person named.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/image/boot_image.hpp"

namespace flatback::tools {

// L0 refuses a word that it does not know, but only once it has been booted. Error: usage.
[[nodiscard]] Result<> check_l0_words(std::string_view command_line);

// A kernel with its modules: FILE each, or FILE followed by a space and the string that goes with it. Without
// an L0. `directory`: for an unpacked kernel. Error: input_file; usage for modules that a Linux does not
// take.
[[nodiscard]] Result<BootPlan> plan_of_l1(const std::filesystem::path& guest,
                                          const std::vector<std::string>& modules,
                                          const std::string& command_line,
                                          const std::filesystem::path& directory);

// FILE, or FILE followed by a space and the string that goes with it. Error: input_file.
[[nodiscard]] Result<BootModule> module_from(const std::string& argument);

// Error: missing_program where L0 is not built.
[[nodiscard]] Result<std::filesystem::path> built_l0();

}  // namespace flatback::tools
