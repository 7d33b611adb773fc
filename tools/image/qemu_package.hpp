// Debian's QEMU, as it is installed here, as files of an initramfs.
#pragma once

#include <vector>

#include "tools/ground/error.hpp"
#include "tools/image/archive.hpp"

namespace flatback::tools {

// Where the program is in the initramfs: on PATH, as on Debian.
inline constexpr std::string_view qemu_in_initramfs = "/usr/bin/qemu-system-x86_64";

// The program, the libraries that it loads and no others, and what `-M microvm` and `-M pc` read of its data
// to start a kernel: about 50 MB. Directories come before what is in them; /usr, /usr/bin, /usr/share, /lib
// and /lib64 are among them. Error: missing_program where the package or one of its libraries is not
// installed.
[[nodiscard]] Result<std::vector<InitramfsEntry>> qemu_initramfs_entries();

}  // namespace flatback::tools
