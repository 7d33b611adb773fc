#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "guests/linux/failure.hpp"
#include "guests/linux/linux_image.hpp"

// Another Linux in the place of the one that runs, by kexec_load(2).
namespace flatback::guests {

/// What the kernel copies to its place when it gives the machine away. What `size` has beyond `contents` is
/// zero.
struct KexecSegment {
    std::span<const std::byte> contents;
    std::uint64_t address;
    std::uint64_t size;
};

struct KexecPlan {
    std::vector<std::byte> low;  ///< the contents of the first segment
    std::vector<KexecSegment> segments;
    std::uint64_t entry;  ///< where the processor goes on in 64-bit mode, all memory mapped as it is
};

/// The kernel at its own place, the initramfs at the end of memory, and below 1 MB what the 64-bit boot
/// protocol asks for. `boot_parameters` are those of the Linux that runs, whose memory map and tables hold
/// for the next one too. The files are referred to, not copied.
[[nodiscard]] Expected<KexecPlan> plan_kexec(std::span<const std::byte> boot_parameters,
                                             const LinuxFiles& files);

}  // namespace flatback::guests
