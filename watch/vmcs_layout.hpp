// Where Bochs 2.7 keeps the fields of a VMCS, by offset in its region: those of one width and type stand
// together, in the order of their indices (SDM 3D appendix B).
#pragma once

#include <cstdint>

namespace flatback::watch::vmcs_offset {

inline constexpr std::uint64_t vpid = 0x010;
inline constexpr std::uint64_t ept_pointer = 0x478;
inline constexpr std::uint64_t guest_physical_address = 0x510;
inline constexpr std::uint64_t primary_controls = 0x818;
inline constexpr std::uint64_t secondary_controls = 0x888;
inline constexpr std::uint64_t entry_controls = 0x858;
inline constexpr std::uint64_t vm_instruction_error = 0x910;
inline constexpr std::uint64_t exit_reason = 0x918;
inline constexpr std::uint64_t exit_qualification = 0xD10;
inline constexpr std::uint64_t guest_linear_address = 0xD38;
inline constexpr std::uint64_t guest_cr0 = 0xE10;
inline constexpr std::uint64_t guest_cr3 = 0xE18;
inline constexpr std::uint64_t guest_cr4 = 0xE20;
inline constexpr std::uint64_t host_cr0 = 0xF10;
inline constexpr std::uint64_t host_cr3 = 0xF18;
inline constexpr std::uint64_t host_cr4 = 0xF20;

}  // namespace flatback::watch::vmcs_offset
