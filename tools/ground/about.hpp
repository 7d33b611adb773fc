// With what a JSON file was measured.
#pragma once

#include <string>
#include <string_view>

namespace flatback::tools {

// The JSON object with a first member "about": "flatback" (version), "commit" (with -dirty where files differ
// from it), "date" (UTC), "emulator" (Debian's version of Bochs) and "kernel" (the version that Debian's
// Linux says of itself). What cannot be told here is null.
[[nodiscard]] std::string with_about(std::string_view json);

// The version that a bzImage says of itself; empty where it says none. The file may be anything.
[[nodiscard]] std::string bzimage_version(std::string_view file);

}  // namespace flatback::tools
