#pragma once

#include <cstddef>
#include <cstdint>

// The guest-physical memory of an L2 payload: one block of 1 MB at guest-physical 0, identity-mapped
// by 4 KB pages, plus one window whose page differs between the two roots.
//
// Two page-table trees ("roots") exist so that a payload can tell which one the processor used: the
// same linear address, `window`, reads `first_value` under the first root and `second_value` under
// the second. A translation kept past a change of CR3, or used under the wrong VPID, gives a wrong sum.
namespace flatback::guests {

inline constexpr std::uint64_t page_size = 4096;
inline constexpr std::uint64_t guest_memory_size = 1024 * 1024;

inline constexpr std::uint64_t first_root = 0x1000;
inline constexpr std::uint64_t second_root = 0x5000;
inline constexpr std::uint64_t tables_per_root = 4;

inline constexpr std::uint64_t code_address = 0x10000;
inline constexpr std::uint64_t code_limit = 0x4000;

/// One mailbox page for each vCPU; the payload leaves its result in the first quadword.
inline constexpr std::uint64_t first_mailbox = 0x20000;
inline constexpr std::uint64_t second_mailbox = 0x21000;

/// Quadwords of ticks that the payload measured itself.
inline constexpr std::uint64_t samples_address = 0x22000;
inline constexpr std::size_t samples_limit = 4 * page_size / sizeof(std::uint64_t);

inline constexpr std::uint64_t first_value_page = 0x30000;
inline constexpr std::uint64_t second_value_page = 0x31000;
inline constexpr std::uint64_t first_value = 0x0000'0001'0000'0003;
inline constexpr std::uint64_t second_value = 0x0000'0100'0000'0011;

/// Nothing touches this region before the payload does: its pages have no EPT entry then.
inline constexpr std::uint64_t touch_region = 0x40000;
inline constexpr std::uint64_t touch_pages = 64;

/// Linear only: its guest-physical page is one of the two value pages, by root.
inline constexpr std::uint64_t window = 0x90000;

/// Linear: the page behind the window leads to where there is no memory, as a device's registers would be.
inline constexpr std::uint64_t device_window = window + page_size;
inline constexpr std::uint64_t device_address = 0xFEB0'0000;
/// What the VMM answers to a read of it.
inline constexpr std::uint32_t device_value = 0x0071'9A2D;

}  // namespace flatback::guests
