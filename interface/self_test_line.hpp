// The self-test's results as one line of text, which a person can photograph, type or scan, and `flatback
// report` reads:
//
//     FLATBACK1/VERSION/SIGNATURE/PROCESSOR/UNDER/PASSED.FAILED/N.N.N.…/CHECKSUM
//
// VERSION: Flatback's. SIGNATURE: CPUID leaf 1, EAX, in hexadecimal. PROCESSOR: its name, of letters, digits
// and '-'. UNDER: the hypervisor's signature. N: the values of self_test_values in their order, '-' where one
// was not measured. CHECKSUM: CRC-32 of what is before its '/', 8 hexadecimal digits. All characters are
// among those of a QR code's alphanumeric mode without the space (ISO/IEC 18004, 7.4.4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flatback::interface {

inline constexpr std::string_view self_test_mark = "FLATBACK1";

// What is measured, in the tick or cycle of the time-stamp counter. New ones are added at the end: a line of
// an older Flatback has fewer.
inline constexpr std::array<std::string_view, 46> self_test_values{
    "l1_cpuid",
    "l1_vmcall",
    "l1_rdmsr_vmx_basic",
    "vmread",
    "vmwrite",
    "vmread_other",
    "vmwrite_other",
    "operand_4k",
    "operand_user_4k",
    "operand_user_2m",
    "operand_user_1g",
    "vmptrst",
    "vmptrld",
    "vmptrld_two",
    "vmclear",
    "vmcs_setup",
    "first_vmlaunch",
    "l2_vmcall_resume_only",
    "l2_cpuid_reflected",
    "l2_cpuid_reflected_nothing_loaded",
    "l2_cpuid_reflected_all_loaded",
    "l2_cpuid_reflected_bitmaps",
    "l2_cpuid_reflected_bitmaps_all_loaded",
    "l2_cpuid_reflected_invvpid",
    "l2_cpuid_reflected_alternating",
    "two_l2_vcpus",
    "invvpid_address",
    "invvpid_single",
    "invvpid_all",
    "invvpid_single_retaining_globals",
    "invept_single",
    "invept_all",
    "ept02_fill",
    "retouch64",
    "retouch64_after_invept",
    "flushes_per_l2_entry_vpid_x100",
    "flushes_per_l2_entry_novpid_x100",
    "longest_ept_violation",
    "longest_invept",
    "longest_vmclear",
    "longest_vmptrld",
    "longest_vmxoff_of_32",
    "longest_apic_switch",
    "longest_msr_list_at_entry",
    "longest_msr_list_at_entry_vmcs",
    "longest_msr_lists_at_exit",
};

// Every number with 12 digits and every text with its most, and the dots and slashes.
inline constexpr std::size_t self_test_most_text = 64;
inline constexpr std::size_t self_test_most_digits = 12;
inline constexpr std::size_t self_test_most_line =
    4 * (self_test_most_text + 1) + (self_test_values.size() + 3) * (self_test_most_digits + 1) + 32;

// CRC-32 as of ISO 3309 and zlib.
[[nodiscard]] constexpr std::uint32_t self_test_checksum(std::string_view text) {
    std::uint32_t remainder = ~std::uint32_t{0};
    for (const char character : text) {
        remainder ^= static_cast<unsigned char>(character);
        for (unsigned bit = 0; bit < 8; ++bit)
            remainder = remainder >> 1 ^ ((remainder & 1) != 0 ? 0xEDB8'8320U : 0U);
    }
    return ~remainder;
}
static_assert(self_test_checksum("123456789") == 0xCBF4'3926U, "the check value of every table of CRCs");

}  // namespace flatback::interface
