// Debian's Xen as L1: Linux as its dom0, and a guest of it, from Debian's packages and guests/xen.
#pragma once

#include <chrono>
#include <filesystem>
#include <span>
#include <string>

#include "tools/ground/error.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

struct XenGuest {
    std::filesystem::path hypervisor;      // uncompressed
    std::filesystem::path dom0_kernel;     // the guest's too
    std::filesystem::path dom0_initramfs;  // Xen's programs, and the guest's files
};

// Gets what is missing (a download of about 80 MB, once) and makes the initramfs anew. `say` is called with
// one line before each step that takes long.
[[nodiscard]] Result<XenGuest> prepare_xen_guest(void (*say)(std::string_view));

[[nodiscard]] QueuedRun xen_run(std::string name, const XenGuest& guest, std::chrono::seconds limit);

// Xen as L0, on the machine itself, with the bare L1 as a PVH guest to which it offers its nested VMX.
// `words` are the bare L1's, beside those that it needs there.
[[nodiscard]] QueuedRun bare_above_xen(std::string name, const XenGuest& guest,
                                       std::span<const std::string> words, std::chrono::seconds limit);

}  // namespace flatback::tools
