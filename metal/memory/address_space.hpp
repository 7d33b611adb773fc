// L0's address space: the image at kernel_base, all physical memory at direct_map_base, nothing else.
#pragma once

#include <cstdint>

#include "x86/address.hpp"

namespace flatback::metal {

inline constexpr std::uint64_t kernel_base = 0xFFFFFFFF80000000;
inline constexpr std::uint64_t direct_map_base = 0xFFFF800000000000;

// Physical memory as L0 sees it: the first 512 GB (or 2^MAXPHYADDR), and more where there is RAM above, up to
// 64 TB (512 GB where the processor has no 1 GB pages); read-write, not executable, write-back as far as the
// MTRRs allow. Panics on an address beyond it.
[[nodiscard]] void* direct_map(x86::Hpa address);
template <typename T>
[[nodiscard]] T* direct_map_as(x86::Hpa address) {
    return static_cast<T*>(direct_map(address));
}
// The end of what direct_map() reaches.
[[nodiscard]] std::uint64_t direct_map_size();
// The physical address of an object of L0's image or of the direct map.
[[nodiscard]] x86::Hpa physical_of(const void* object);

// Where the image and physical memory are seen. At first: where metal/boot/boot.S put them.
struct AddressSpace {
    std::uint64_t direct_base = 0;
    std::uint64_t direct_size = std::uint64_t{1} << 32;
    std::uint64_t image_offset = kernel_base;  // linear minus physical
};
// What all of the above answers by from now on (metal/memory/relocate.hpp).
void take_address_space(const AddressSpace& seen);

}  // namespace flatback::metal
