// The VMX capability MSRs (SDM 3D appendix A) and what they allow, as the SDM has them. Whoever is judged has
// rules of its own; between the two go only the MSRs' values.
#pragma once

#include <cstdint>
#include <optional>

namespace flatback::machine::rules {

/// SDM 3D A.2 to A.5: the low half of the MSR has what must be 1, the high half what may be.
struct AllowedSettings {
    std::uint32_t allowed0 = 0;
    std::uint32_t allowed1 = 0;

    [[nodiscard]] constexpr bool permits(std::uint32_t controls) const {
        for (unsigned bit = 0; bit < 32; ++bit) {
            const bool set = (controls >> bit & 1) != 0;
            if (set && (allowed1 >> bit & 1) == 0) return false;
            if (!set && (allowed0 >> bit & 1) != 0) return false;
        }
        return true;
    }
    [[nodiscard]] constexpr bool may_be_1(std::uint32_t control) const { return (allowed1 & control) != 0; }
    /// For whoever writes a program: what was asked for, as far as it is allowed.
    [[nodiscard]] constexpr std::uint32_t nearest(std::uint32_t controls) const {
        return (controls | allowed0) & allowed1;
    }
    [[nodiscard]] constexpr std::uint64_t msr() const { return std::uint64_t{allowed1} << 32 | allowed0; }
    [[nodiscard]] static constexpr AllowedSettings of(std::uint64_t msr) {
        return {static_cast<std::uint32_t>(msr), static_cast<std::uint32_t>(msr >> 32)};
    }
};

/// SDM 3D A.7, A.8: a bit that is 1 in fixed0 is 1 in VMX operation, one that is 0 in fixed1 is 0.
struct FixedBits {
    std::uint64_t fixed0 = 0;
    std::uint64_t fixed1 = 0;

    [[nodiscard]] constexpr bool permits(std::uint64_t value, std::uint64_t not_looked_at = 0) const {
        const std::uint64_t looked_at = ~not_looked_at;
        return (value & fixed0 & looked_at) == (fixed0 & looked_at) && (value & looked_at & ~fixed1) == 0;
    }
};

/// Controls that are 1 in the original MSRs always, and where there are no TRUE ones: the default1 class (SDM
/// 3D A.2 to A.5).
namespace default1 {
inline constexpr std::uint32_t pin = 1U << 1 | 1U << 2 | 1U << 4;
inline constexpr std::uint32_t primary =
    1U << 1 | 7U << 4 | 1U << 8 | 3U << 13 | 1U << 15 | 1U << 16 | 1U << 26;
inline constexpr std::uint32_t vm_exit = 0x1FFU | 3U << 10 | 3U << 13 | 3U << 16;
inline constexpr std::uint32_t vm_entry = 0x1FFU | 1U << 12;
}  // namespace default1

// clang-format off
/// IA32_VMX_BASIC (SDM 3D A.1).
namespace basic {
inline constexpr std::uint64_t revision_bits        = 0x7FFF'FFFF;
inline constexpr std::uint64_t region_of_4k         = std::uint64_t{4096} << 32;
inline constexpr std::uint64_t addresses_of_32_bits = std::uint64_t{1} << 48;
inline constexpr std::uint64_t write_back           = std::uint64_t{6} << 50;
inline constexpr std::uint64_t true_controls        = std::uint64_t{1} << 55;
inline constexpr std::uint64_t any_error_code       = std::uint64_t{1} << 56;
}  // namespace basic

/// IA32_VMX_MISC (SDM 3D A.6).
namespace misc {
inline constexpr std::uint64_t store_lma               = 1U << 5;
inline constexpr std::uint64_t activity_hlt            = 1U << 6;
inline constexpr std::uint64_t activity_shutdown       = 1U << 7;
inline constexpr std::uint64_t activity_wait_for_sipi  = 1U << 8;
inline constexpr unsigned      cr3_targets_at          = 16;  // 9 bits
inline constexpr unsigned      msr_list_at             = 25;  // 3 bits
inline constexpr std::uint64_t vmwrite_any_field       = 1U << 29;
inline constexpr std::uint64_t inject_length_0         = 1U << 30;
}  // namespace misc

/// IA32_VMX_EPT_VPID_CAP (SDM 3D A.10).
namespace ept_vpid {
inline constexpr std::uint64_t execute_only              = 1U << 0;
inline constexpr std::uint64_t walk_of_4                 = 1U << 6;
inline constexpr std::uint64_t uncacheable               = 1U << 8;
inline constexpr std::uint64_t write_back                = 1U << 14;
inline constexpr std::uint64_t pages_of_2m               = 1U << 16;
inline constexpr std::uint64_t pages_of_1g               = 1U << 17;
inline constexpr std::uint64_t invept                    = 1U << 20;
inline constexpr std::uint64_t accessed_dirty            = 1U << 21;
inline constexpr std::uint64_t advanced_exit_information = 1U << 22;
inline constexpr std::uint64_t shadow_stack              = 1U << 23;
inline constexpr std::uint64_t invept_single             = 1U << 25;
inline constexpr std::uint64_t invept_all                = 1U << 26;
inline constexpr std::uint64_t invvpid                   = std::uint64_t{1} << 32;
inline constexpr std::uint64_t invvpid_address           = std::uint64_t{1} << 40;
inline constexpr std::uint64_t invvpid_single            = std::uint64_t{1} << 41;
inline constexpr std::uint64_t invvpid_all               = std::uint64_t{1} << 42;
inline constexpr std::uint64_t invvpid_but_globals       = std::uint64_t{1} << 43;
}  // namespace ept_vpid
// clang-format on

/// All capability MSRs of a processor. The controls are those of the TRUE MSRs.
struct Capabilities {
    std::uint64_t basic = 0;
    AllowedSettings pin_based{};
    AllowedSettings primary{};
    AllowedSettings secondary{};
    AllowedSettings vm_exit{};
    AllowedSettings vm_entry{};
    std::uint64_t misc = 0;
    FixedBits cr0{};
    FixedBits cr4{};
    std::uint64_t vmcs_enum = 0;
    std::uint64_t ept_vpid = 0;
    std::uint64_t vm_functions = 0;

    [[nodiscard]] constexpr std::uint32_t revision() const {
        return static_cast<std::uint32_t>(basic & basic::revision_bits);
    }
    [[nodiscard]] constexpr bool has_misc(std::uint64_t bit) const { return (misc & bit) != 0; }
    [[nodiscard]] constexpr bool has_ept_vpid(std::uint64_t bit) const { return (ept_vpid & bit) != 0; }
    [[nodiscard]] constexpr std::uint32_t cr3_targets() const {
        return static_cast<std::uint32_t>(misc >> misc::cr3_targets_at & 0x1FF);
    }
    /// The VMX-preemption timer counts changes of this bit of the time-stamp counter.
    [[nodiscard]] constexpr unsigned timer_rate() const { return static_cast<unsigned>(misc & 0x1F); }
    /// More entries of an MSR list than this are undefined.
    [[nodiscard]] constexpr std::uint32_t msr_list_entries() const {
        return 512 * (1 + static_cast<std::uint32_t>(misc >> misc::msr_list_at & 7));
    }

    /// What RDMSR gives; nothing: #GP.
    [[nodiscard]] std::optional<std::uint64_t> read(std::uint32_t msr) const;

    /// The INVEPT types 1 and 2 (SDM 3C 31.3 "INVEPT"), of a 64-bit register operand.
    [[nodiscard]] constexpr bool has_invept_type(std::uint64_t type) const {
        return (type == 1 && has_ept_vpid(ept_vpid::invept_single)) ||
               (type == 2 && has_ept_vpid(ept_vpid::invept_all));
    }
    /// The INVVPID types 0 to 3 (SDM 3C 31.3 "INVVPID").
    [[nodiscard]] constexpr bool has_invvpid_type(std::uint64_t type) const {
        return (type == 0 && has_ept_vpid(ept_vpid::invvpid_address)) ||
               (type == 1 && has_ept_vpid(ept_vpid::invvpid_single)) ||
               (type == 2 && has_ept_vpid(ept_vpid::invvpid_all)) ||
               (type == 3 && has_ept_vpid(ept_vpid::invvpid_but_globals));
    }

    /// An EPTP for VM entry, INVEPT and EPTP switching (SDM 3C 27.2.1.1).
    [[nodiscard]] bool is_eptp(std::uint64_t eptp, unsigned physical_address_width) const;

    /// Does VMREAD know this field? (SDM 3D appendix B: many exist only with what they belong to.)
    [[nodiscard]] bool has_field(std::uint64_t encoding) const;
};

/// From the values of a processor's MSRs, as its own software reads them. `read` is a callable from an MSR's
/// number to its value, or nothing where RDMSR is #GP.
template <typename Read>
[[nodiscard]] Capabilities capabilities_of(const Read& read) {
    const auto value = [&](std::uint32_t msr) { return read(msr).value_or(0); };
    Capabilities all;
    all.basic = value(0x480);
    const bool has_true = (all.basic & basic::true_controls) != 0;
    all.pin_based = AllowedSettings::of(value(has_true ? 0x48D : 0x481));
    all.primary = AllowedSettings::of(value(has_true ? 0x48E : 0x482));
    all.vm_exit = AllowedSettings::of(value(has_true ? 0x48F : 0x483));
    all.vm_entry = AllowedSettings::of(value(has_true ? 0x490 : 0x484));
    all.misc = value(0x485);
    all.cr0 = {value(0x486), value(0x487)};
    all.cr4 = {value(0x488), value(0x489)};
    all.vmcs_enum = value(0x48A);
    all.secondary = AllowedSettings::of(value(0x48B));
    all.ept_vpid = value(0x48C);
    all.vm_functions = value(0x491);
    return all;
}

}  // namespace flatback::machine::rules
