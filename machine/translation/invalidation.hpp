#pragma once

#include <cstdint>
#include <optional>

namespace flatback::machine {

/// A set of linear and combined mappings, and of the paging-structure-cache entries of both kinds.
struct LinearScope {
    enum class Vpids : std::uint8_t { one, all_but_zero, every };

    Vpids vpids = Vpids::one;
    std::uint16_t vpid = 0;
    /// One PCID, or all of them.
    std::optional<std::uint16_t> pcid{};
    /// Global translations too (whatever the PCID).
    bool globals = true;
    /// Combined mappings only; linear mappings, made while EPT was not in use, stay.
    bool combined_only = false;
    /// One EP4TA, or all of them. Has a meaning with `combined_only` only.
    std::optional<std::uint64_t> ep4ta{};
    /// Only what would be used to translate this linear address.
    std::optional<std::uint64_t> linear_address{};
    /// With `linear_address`: all paging-structure-cache entries of the scope, not only those for the
    /// address.
    bool all_structure_entries = false;
};

/// A set of guest-physical mappings and of their paging-structure-cache entries.
struct GuestPhysicalScope {
    /// One EP4TA, or all of them.
    std::optional<std::uint64_t> ep4ta{};
    /// Only what would be used to translate this guest-physical address.
    std::optional<std::uint64_t> guest_physical{};
};

/// What one operation makes invalid. Each function below is one row of the architecture's rules (SDM
/// 3C 29.4.3, and SDM 3A 4.10.4 for the operations that exist without VMX); a row that is absent invalidates
/// nothing.
struct Invalidation {
    std::optional<LinearScope> linear{};
    std::optional<GuestPhysicalScope> guest_physical{};
};

namespace invalidation {

/// VM entry and VM exit with "enable VPID" = 0. With it set they invalidate nothing.
[[nodiscard]] constexpr Invalidation vm_transition_without_vpid() {
    return {.linear = LinearScope{.vpid = 0}};
}

[[nodiscard]] constexpr Invalidation invvpid_address(std::uint16_t vpid, std::uint64_t linear_address) {
    return {.linear = LinearScope{.vpid = vpid, .linear_address = linear_address}};
}
[[nodiscard]] constexpr Invalidation invvpid_single_context(std::uint16_t vpid) {
    return {.linear = LinearScope{.vpid = vpid}};
}
[[nodiscard]] constexpr Invalidation invvpid_all_contexts() {
    return {.linear = LinearScope{.vpids = LinearScope::Vpids::all_but_zero}};
}
[[nodiscard]] constexpr Invalidation invvpid_single_context_retaining_globals(std::uint16_t vpid) {
    return {.linear = LinearScope{.vpid = vpid, .globals = false}};
}

[[nodiscard]] constexpr Invalidation invept_single_context(std::uint64_t ep4ta) {
    return {.linear = LinearScope{.vpids = LinearScope::Vpids::every, .combined_only = true, .ep4ta = ep4ta},
            .guest_physical = GuestPhysicalScope{.ep4ta = ep4ta}};
}
[[nodiscard]] constexpr Invalidation invept_all_contexts() {
    return {.linear = LinearScope{.vpids = LinearScope::Vpids::every, .combined_only = true},
            .guest_physical = GuestPhysicalScope{}};
}

[[nodiscard]] constexpr Invalidation ept_violation(std::uint64_t ep4ta, std::uint64_t guest_physical) {
    return {.guest_physical = GuestPhysicalScope{.ep4ta = ep4ta, .guest_physical = guest_physical}};
}
/// ... whose guest-physical address was the translation of, or met on the way to that of, a linear address.
[[nodiscard]] constexpr Invalidation ept_violation(std::uint64_t ep4ta, std::uint64_t guest_physical,
                                                   std::uint16_t vpid, std::uint16_t pcid,
                                                   std::uint64_t linear_address) {
    return {.linear = LinearScope{.vpid = vpid,
                                  .pcid = pcid,
                                  .combined_only = true,
                                  .ep4ta = ep4ta,
                                  .linear_address = linear_address},
            .guest_physical = GuestPhysicalScope{.ep4ta = ep4ta, .guest_physical = guest_physical}};
}

/// SDM 3A 4.10.4.1: a page fault does not recur for what was cached.
[[nodiscard]] constexpr Invalidation page_fault(std::uint16_t vpid, std::uint16_t pcid,
                                                std::uint64_t linear_address) {
    return {.linear = LinearScope{.vpid = vpid, .pcid = pcid, .linear_address = linear_address}};
}

[[nodiscard]] constexpr Invalidation invlpg(std::uint16_t vpid, std::uint16_t pcid,
                                            std::uint64_t linear_address) {
    return {.linear = LinearScope{
                .vpid = vpid, .pcid = pcid, .linear_address = linear_address, .all_structure_entries = true}};
}

/// MOV to CR3 without bit 63 set under CR4.PCIDE; `pcid` is 000H with CR4.PCIDE = 0.
[[nodiscard]] constexpr Invalidation mov_cr3(std::uint16_t vpid, std::uint16_t pcid) {
    return {.linear = LinearScope{.vpid = vpid, .pcid = pcid, .globals = false}};
}

/// MOV to CR4 that changes PGE or clears PCIDE; MOV to CR0 that clears PG; INVPCID type 2.
[[nodiscard]] constexpr Invalidation everything_of_vpid(std::uint16_t vpid) {
    return {.linear = LinearScope{.vpid = vpid}};
}

/// MOV to CR4 that sets SMEP or changes PAE: at least this.
[[nodiscard]] constexpr Invalidation current_pcid(std::uint16_t vpid, std::uint16_t pcid) {
    return {.linear = LinearScope{.vpid = vpid, .pcid = pcid, .globals = false}};
}

[[nodiscard]] constexpr Invalidation invpcid_address(std::uint16_t vpid, std::uint16_t pcid,
                                                     std::uint64_t linear_address) {
    return {.linear =
                LinearScope{.vpid = vpid, .pcid = pcid, .globals = false, .linear_address = linear_address}};
}
[[nodiscard]] constexpr Invalidation invpcid_single_context(std::uint16_t vpid, std::uint16_t pcid) {
    return {.linear = LinearScope{.vpid = vpid, .pcid = pcid, .globals = false}};
}
[[nodiscard]] constexpr Invalidation invpcid_all_contexts(std::uint16_t vpid) {
    return everything_of_vpid(vpid);
}
[[nodiscard]] constexpr Invalidation invpcid_all_contexts_retaining_globals(std::uint16_t vpid) {
    return {.linear = LinearScope{.vpid = vpid, .globals = false}};
}

}  // namespace invalidation

}  // namespace flatback::machine
