#pragma once

#include <cstdint>

#include "x86/paging_bits.hpp"

namespace flatback::machine::layout {

// Where a program's things lie in L1's physical memory. L1's own structures (hierarchy 0) map the first 16
// MBytes one to one; the structures of an L2 lie at the same addresses in the L2's physical memory as in
// L1's, and every EPT hierarchy maps them so.

inline constexpr unsigned vcpus = 8;
inline constexpr unsigned vmcss = 64;
inline constexpr unsigned page_hierarchies = 8;
inline constexpr unsigned ept_hierarchies = 8;
inline constexpr unsigned data_pages = 64;

[[nodiscard]] constexpr std::uint64_t vmxon_region(std::uint64_t vcpu) {
    return 0x1'0000 + vcpu * x86::page_size_4k;
}
/// A page in which a step's operand (a pointer, a descriptor) is put.
[[nodiscard]] constexpr std::uint64_t scratch(std::uint64_t vcpu) {
    return 0x3'0000 + vcpu * x86::page_size_4k;
}
[[nodiscard]] constexpr std::uint64_t vmcs_region(std::uint64_t index) {
    return 0x4'0000 + index * x86::page_size_4k;
}

inline constexpr std::uint64_t page_tables = 0x20'0000;  // 2 MBytes, one to one in every EPT hierarchy
inline constexpr std::uint64_t ept_tables = 0x40'0000;   // 2 MBytes
inline constexpr std::uint64_t hierarchy_bytes = 0x4'0000;

/// The PML4 table of hierarchy `index`.
[[nodiscard]] constexpr std::uint64_t page_root(std::uint64_t index) {
    return page_tables + index * hierarchy_bytes;
}
[[nodiscard]] constexpr std::uint64_t ept_root(std::uint64_t index) {
    return ept_tables + index * hierarchy_bytes;
}
/// An EPTP with this root: write-back, a walk of four levels, no accessed and dirty flags.
[[nodiscard]] constexpr std::uint64_t eptp(std::uint64_t index) {
    return ept_root(index) | 0x1E;
}

[[nodiscard]] constexpr std::uint64_t data_page(std::uint64_t index) {
    return 0x80'0000 + index * x86::page_size_4k;
}

inline constexpr std::uint64_t identity_bytes = 0x100'0000;

}  // namespace flatback::machine::layout
