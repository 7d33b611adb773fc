// What a guest may know of Flatback: CPUID leaves 4000_0000H to 4000_0005H (docs/counters.md).
#pragma once

#include <cstdint>

namespace flatback::interface {

inline constexpr std::uint32_t information_leaf = 0x40000000;  // the last leaf, and the signature
inline constexpr std::uint32_t identity_leaf = information_leaf + 1;
inline constexpr std::uint32_t counter_leaf = information_leaf + 2;    // by CX: Counter
inline constexpr std::uint32_t handled_leaf = information_leaf + 3;    // by CX: basic exit reason
inline constexpr std::uint32_t reflected_leaf = information_leaf + 4;  // by CX: basic exit reason

// Of these three, the upper half of ECX: of which processor.
inline constexpr std::uint32_t of_this_processor = 0;
inline constexpr std::uint32_t of_all_processors = 0xFFFF;                  // their sum
[[nodiscard]] constexpr std::uint32_t of_processor(std::uint32_t number) {  // as L0 numbers them, from 0 on
    return number + 1;
}
[[nodiscard]] constexpr std::uint32_t counter_of(std::uint32_t whose, std::uint32_t what) {
    return whose << 16 | what;
}

// "FlatbackFlat" in EBX, ECX and EDX: each register holds four characters, the first in its low byte.
inline constexpr std::uint32_t signature_ebx = 0x74616C46;  // "Flat"
inline constexpr std::uint32_t signature_ecx = 0x6B636162;  // "back"
inline constexpr std::uint32_t signature_edx = 0x74616C46;  // "Flat"

// Users' own tools read these numbers: new ones go to the end.
enum class Counter : std::uint32_t {
    l0_exits = 0,
    l2_entries = 1,
    l2_reentries = 2,
    exits_from_l1 = 3,
    exits_from_l2 = 4,
    exits_reflected_to_l1 = 5,
    exits_of_l2_handled = 6,
    vmread_exits = 7,
    vmwrite_exits = 8,
    invvpid_address = 9,
    invvpid_single = 10,
    invvpid_all = 11,
    invvpid_single_retaining_globals = 12,
    invept_single = 13,
    invept_all = 14,
    tag_hits = 15,
    tag_misses = 16,
    tag_evictions = 17,
    l2_tag_flushes = 18,
    l1_tag_flushes = 19,
    hardware_invepts = 20,
    ept02_leaves_filled = 21,
    ept02_pages = 22,
    vmreads_by_l0 = 23,
    vmwrites_by_l0 = 24,
    vmptrlds_by_l0 = 25,
    fields_learned = 26,
    fields_forgotten = 27,
};
inline constexpr std::uint32_t counter_count = 28;

}  // namespace flatback::interface
