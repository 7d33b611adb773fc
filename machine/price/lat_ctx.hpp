#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "machine/geometric/geometric_tlb.hpp"
#include "machine/geometric/geometry.hpp"
#include "machine/translation/access.hpp"

namespace flatback::machine::price {

/// How L0 gives tags to an L1 and its L2s.
enum class Policy : std::uint8_t {
    mapped,  // one tag for L1 and one for each VPID that L1 uses, up to `slots`
    single,  // KVM's first nested VPID (2015): one tag for all L2s, with a memory of one VPID; each exit
             // flushes L1's tag
    shared,  // before it: one tag for L1 and L2s, flushed at each entry into and exit from L2
    bare,    // no L0: L1 is in VMX root operation, and its VPIDs are the processor's
};

inline constexpr std::array all_policies = {Policy::mapped, Policy::single, Policy::shared, Policy::bare};

[[nodiscard]] std::string_view name_of(Policy policy);

/// lmbench's lat_ctx in an L2: `processes` in a ring hand a token through pipes; each sums an array of its
/// own first.
struct Column {
    unsigned processes = 2;
    unsigned kilobytes = 0;
};

inline constexpr std::array<Column, 7> columns = {
    {{2, 0}, {2, 16}, {2, 64}, {8, 16}, {8, 64}, {16, 16}, {16, 64}}};
[[nodiscard]] std::string_view name_of(const Column& column);

/// What the model assumes; every figure can be changed. Pages are of 4 KBytes, and are what one context
/// switch touches.
struct Assumptions {
    unsigned kernel_code = 24;        // L2's kernel: system calls, pipes, scheduler
    unsigned kernel_data = 16;        // shared between processes: run queue, per-CPU areas, file tables
    unsigned kernel_per_process = 4;  // task, kernel stack, pipe
    unsigned user_code = 2;
    unsigned user_data = 2;  // stack and data beside the array
    unsigned l1_code = 24;   // L1's part in handling one exit of its L2
    unsigned l1_data = 24;
    unsigned l0_pages = 3;  // large pages (2 MB) of L0 that handling one exit touches
    unsigned l0_visits_per_exit =
        5;  // exits to L0 for one exit that L1 handles (its own VMX instructions among them)
    double exits_per_switch = 0.02;  // exits that L1 handles, for one context switch of its L2
    unsigned slots = 32;             // `mapped`: VPIDs of L1 with a tag of their own at a time
    unsigned switches_per_turn = 8;  // several L2s: context switches of one before the next has its turn
    PageSize ept_page = PageSize::size_4k;  // pages of the L2s' EPT
    unsigned measured_rounds = 64;          // rings measured, after a quarter as many to warm up
};

/// Per context switch.
struct Price {
    double misses = 0;
    double walk_references = 0;
    double cycles = 0;
};

/// One L2, the ring of `column`.
[[nodiscard]] Price context_switch(const TlbGeometry& geometry, Policy policy, const Column& column,
                                   const Assumptions& assumptions);

/// `l2s` L2s take turns on one virtual CPU of L1, each with the ring 8p/16K.
[[nodiscard]] Price taking_turns(const TlbGeometry& geometry, Policy policy, unsigned l2s,
                                 const Assumptions& assumptions);

inline constexpr std::array<unsigned, 6> l2_counts = {1, 2, 4, 8, 16, 32};

/// What the patch that brought nested VPID to KVM said of itself, in microseconds a context switch (Wanpeng
/// Li, "KVM: nVMX: nested VPID emulation", v2, October 2015): with it, and without ("vanilla").
inline constexpr std::array<double, 7> seed_with_nested_vpid = {1.22, 1.37, 1.45, 4.78, 2.33, 5.60, 2.88};
inline constexpr std::array<double, 7> seed_without = {1.26, 1.43, 1.56, 12.7, 12.9, 3.49, 7.46};

}  // namespace flatback::machine::price
