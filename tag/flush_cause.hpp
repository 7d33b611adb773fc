// Why a flush runs: for logs and traces, never for a decision.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flatback::tag {

// The numbers are an interface (docs/trace.md): new ones go to the end.
enum class FlushCause : std::uint8_t {
    unknown = 0,
    tag_handed_out = 1,
    cpu_changed = 2,
    l1_invvpid_address = 3,
    l1_invvpid_single_context = 4,
    l1_invvpid_all_contexts = 5,
    l1_invvpid_retaining_globals = 6,
    entry_without_vpid = 7,
    exit_without_vpid = 8,
    tag_shared = 9,
    l1_translations_changed = 10,
    ept_contexts_new = 11,
    ept_contexts_stale = 12,
    l1_invept_single_context = 13,
    l1_invept_all_contexts = 14,
    ept_context_replaced = 15,
    ept_context_flags_changed = 16,
    ept_memory_out = 17,
    ept_translation_dropped = 18,
};

inline constexpr std::array<std::string_view, 19> flush_cause_names = {
    "unknown",
    "tag handed out",
    "virtual CPU moved",
    "L1 executed INVVPID individual-address",
    "L1 executed INVVPID single-context",
    "L1 executed INVVPID all-contexts",
    "L1 executed INVVPID single-context-retaining-globals",
    "no VPID: VM entry",
    "no VPID: VM exit",
    "no tag left: L2 shares L1's",
    "L1 changed CR0 or CR4",
    "first use of the EPT contexts",
    "an EPT context became stale",
    "L1 executed INVEPT single-context",
    "L1 executed INVEPT all-contexts",
    "EPT context given to another EPTP",
    "EPTP's accessed and dirty flags changed",
    "memory for EPT02 was out",
    "EPT violation shown to L1",
};

// Empty for a number that is no cause.
[[nodiscard]] constexpr std::string_view name_of(FlushCause cause) {
    const auto number = static_cast<std::size_t>(cause);
    return number < flush_cause_names.size() ? flush_cause_names[number] : std::string_view{};
}

}  // namespace flatback::tag
