// XSETBV of L1's, which always exits (SDM 2D "XSETBV", 1 13.3).
#pragma once

#include <concepts>
#include <cstdint>

#include "../vmx/field.hpp"
#include "../x86/segment.hpp"
#include "outcome.hpp"

namespace flatback::host {

template <typename H>
concept ExtendedControlHost = requires(H& host, unsigned number, std::uint64_t value) {
    { host.general_register(number) } -> std::same_as<std::uint64_t&>;
    { host.get(vmx::field::guest_ss_access_rights) } -> std::same_as<std::uint32_t>;
    // XCR0 of the processor, in which L1's is: no VMCS holds it. False: the processor does not take it.
    { host.write_xcr0(value) } -> std::same_as<bool>;
};

namespace xcr0 {
inline constexpr std::uint64_t x87 = 1ULL << 0;
inline constexpr std::uint64_t sse = 1ULL << 1;
inline constexpr std::uint64_t avx = 1ULL << 2;
inline constexpr std::uint64_t mpx = 3ULL << 3;      // bounds registers and their configuration
inline constexpr std::uint64_t avx_512 = 7ULL << 5;  // opmask, upper halves of ZMM0 to 15, ZMM16 to 31
inline constexpr std::uint64_t amx = 3ULL << 17;     // tile configuration and data
}  // namespace xcr0

// What no processor takes, whatever it has: states that come together, or need another (SDM 1 13.3).
[[nodiscard]] constexpr bool is_consistent_xcr0(std::uint64_t value) {
    const auto has_all_or_none = [&](std::uint64_t bits) {
        return (value & bits) == 0 || (value & bits) == bits;
    };
    if ((value & xcr0::x87) == 0) return false;
    if ((value & xcr0::avx) != 0 && (value & xcr0::sse) == 0) return false;
    if ((value & xcr0::avx_512) != 0 && (value & xcr0::avx) == 0) return false;
    return has_all_or_none(xcr0::mpx) && has_all_or_none(xcr0::avx_512) && has_all_or_none(xcr0::amx);
}

// #UD without CR4.OSXSAVE the processor has judged. There are processors that exit before they look at the
// privilege level, which is SS.DPL (SDM 3C 25.4.1).
template <ExtendedControlHost H>
[[nodiscard]] Outcome emulate_xsetbv(H& host) {
    constexpr auto fault = Outcome::general_protection;
    if (x86::AccessRights{host.get(vmx::field::guest_ss_access_rights)}.privilege_level() != 0) return fault;
    if (static_cast<std::uint32_t>(host.general_register(1)) != 0) return fault;  // there is XCR0 alone
    const std::uint64_t value = host.general_register(2) << 32 | (host.general_register(0) & 0xffff'ffff);
    return is_consistent_xcr0(value) && host.write_xcr0(value) ? Outcome::done : fault;
}

}  // namespace flatback::host
