// Debian's Linux as L1: kernel, modules and user space, from Debian's packages and guests/linux.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "tools/ground/error.hpp"
#include "tools/image/archive.hpp"

namespace flatback::tools {

struct LinuxGuest {
    std::filesystem::path kernel;   // uncompressed and compact: seconds instead of minutes until it runs
    std::filesystem::path bzimage;  // the same kernel as Debian ships it
    std::filesystem::path initramfs;
    std::string command_line;
    std::filesystem::path initramfs_with_l2;    // the same, with the kernel again to be booted as L2
    std::filesystem::path initramfs_with_qemu;  // and with QEMU, to boot it by
    std::filesystem::path l2_initramfs;         // for the kernel as L2, or with no hypervisor at all
};

// Gets what is missing (a download of about 70 MB, once) and makes the initramfs anew.
// `say` is called with one line before each step that takes long.
[[nodiscard]] Result<LinuxGuest> prepare_linux_guest(void (*say)(std::string_view));

// Of that, busybox alone (busybox_program()).
[[nodiscard]] Result<> prepare_busybox(void (*say)(std::string_view));

// The same kernel-based L1 from another kernel of Debian's ("linux-image-6.12-amd64"): kernel, bzimage,
// initramfs and command line only.
[[nodiscard]] Result<LinuxGuest> prepare_linux_guest_of(const std::string& metapackage,
                                                        void (*say)(std::string_view));

// The kernel's command line, from a list as guests/linux/cmdline.txt has it: one word a line, and comments.
// ${IPS_KHZ} becomes the emulated clock's rate. `more` is added at its end. Error: input_file for an unknown
// variable.
[[nodiscard]] Result<std::string> linux_command_line(std::string_view list, std::string_view more = {});

// The entries of an initramfs, from a list as guests/linux/initramfs.list has it: dir, file, slink and nod
// lines. `variables` are put in for ${NAME} in a file's source. Error: input_file, with the line's number.
[[nodiscard]] Result<std::vector<InitramfsEntry>> read_initramfs_list(
    std::string_view list, const std::map<std::string, std::filesystem::path>& variables);

}  // namespace flatback::tools
