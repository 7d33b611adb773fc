// The kernel that is named as L1, looked at before anything is booted: a refusal costs no time, and says more
// than a boot loader or L0 can.
#pragma once

#include <filesystem>
#include <optional>
#include <span>

#include "tools/ground/error.hpp"
#include "tools/ground/files.hpp"
#include "tools/image/guest_kernel.hpp"

namespace flatback::tools {

struct L1Kernel {
    KernelKind kind = KernelKind::multiboot1;
    // Of Multiboot, but version 2: L0 takes it as it takes version 1; GRUB by itself has another command.
    bool is_multiboot2 = false;
    std::optional<Bytes> unpacked;  // where the file is compressed (gzip, xz, zstd, …): what is to be booted
};

// Error: input_file, with what is wrong with the file, or what kind of kernel it is that cannot be booted.
[[nodiscard]] Result<L1Kernel> read_l1_kernel(const std::filesystem::path& path);

// The kind of a kernel that L0 will take: the rules of its loaders, as far as they depend on the file alone.
// An error is a clause that goes on from "FILE …". (L0 checks all of it again, and its own memory.)
[[nodiscard]] Result<KernelKind> check_l1_kernel(std::span<const std::byte> file);

}  // namespace flatback::tools
