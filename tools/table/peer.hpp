// The peer's figures: Linux KVM 6.1 (Debian's 6.1.0-56) as L0 in the same emulated machine, Debian's
// Bochs 2.7 with the CPU model corei7_skylake_x, one CPU, 2 GB; L1 and L2 the same kernel under Debian's
// QEMU 7.2. Measured on 2026-11-22, in ticks (emulated instructions). They are not measured by a run of
// `flatback`, and are marked so wherever they stand.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace flatback::tools {

inline constexpr std::string_view peer_title = "KVM 6.1 as L0, measured 2026-11-22";

// A row of a mode's value under Linux/KVM as L1.
struct PeerMode {
    std::string_view key;  // as in mode_values
    std::optional<double> nested_vpid;
    std::optional<double> no_nested_vpid;
};

inline constexpr std::array<PeerMode, 7> peer_modes{{
    {"l1_cpuid_ticks", 963, 963},
    {"l2_cpuid_reflected_ticks", 13461, 13518},
    {"l2_io_ticks", 29251, 29302},  // OUT handled by the VMM process
    {"alternating_vpid12_ticks", std::nullopt, std::nullopt},
    {"per_l2_entry.l0_exits", 4.7, std::nullopt},
    // The peer counted flushes of any tag; it has one vpid02 and flushes no tag of L1's.
    {"per_l2_entry.l2_tag_flushes", 0.002, 2.002},
    {"per_l2_entry.l1_tag_flushes", std::nullopt, std::nullopt},
}};

// A row of a primitive under a bare 64-bit L1.
struct PeerBare {
    std::string_view key;  // as in bare_values
    std::optional<double> shadow_on;
    std::optional<double> shadow_off;
};

inline constexpr std::array<PeerBare, 26> peer_bare{{
    {"l1_cpuid", 965, 965},
    {"l1_vmcall", 1000, 1000},
    {"l1_rdmsr_vmx_basic", 1063, 1063},
    {"vmread", 4, 1152},  // a shadowed field; the least of the range measured
    {"vmwrite", 4, 1152},
    {"vmread_other", 1153, 1162},
    {"vmwrite_other", 1153, 1162},
    {"vmptrst", 2307, 2307},
    {"vmptrld", 2310, 2310},
    {"vmptrld_two", 14195, 11533},
    {"vmclear", 2548, 2545},
    {"invept_single", 2404, 2404},
    {"invept_all", 2411, 2411},
    {"invvpid_address", 2380, 2380},
    {"invvpid_single", 2364, 2364},
    {"invvpid_all", 2358, 2358},
    {"first_vmlaunch", 118438, 117268},
    {"vmcs_setup", 95135, 114655},
    {"l2_vmcall_resume_only", 13619, 12328},
    {"l2_cpuid_reflected", 13621, 16970},
    {"l2_cpuid_reflected_invvpid", 15917, 19268},
    {"l2_cpuid_reflected_alternating", 16732, 20072},
    {"two_l2_vcpus", 24458, 21831},
    {"ept02_fill", 6914, 6894},
    {"retouch64", 266, 246},
    {"retouch64_after_invept", 271, 251},
}};

}  // namespace flatback::tools
