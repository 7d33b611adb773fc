// What the engine counts, for L1's information leaves and for benchmarks. Plain words: each virtual CPU has
// its own.
#pragma once

#include <array>
#include <cstdint>

#include "../vmx/exit_reason.hpp"

namespace flatback::nested {

using vmx::exit_reason_count;

struct Counters {
    std::uint64_t exits_from_l2 = 0;
    std::uint64_t l2_entries = 0;    // asked for by L1
    std::uint64_t l2_reentries = 0;  // by L0 itself, after an exit that L1 does not see
    std::uint64_t exits_reflected = 0;
    std::uint64_t vmread_exits = 0;
    std::uint64_t vmwrite_exits = 0;
    std::array<std::uint64_t, 4> invvpid{};  // executed by L1, by type
    std::array<std::uint64_t, 3> invept{};   // executed by L1, by type (1, 2)
    std::uint64_t l2_tag_flushes = 0;        // hardware INVVPIDs of a tag of L2's
    std::uint64_t l1_tag_flushes = 0;        // hardware INVVPIDs of vpid01
    std::uint64_t hardware_invepts = 0;
    std::uint64_t vmreads = 0;  // executed by L0
    std::uint64_t vmwrites = 0;
    std::uint64_t vmptrlds = 0;
    std::uint64_t fields_learned = 0;    // that L1 reaches without an exit (nested/vcpu/learn.hpp)
    std::uint64_t fields_forgotten = 0;  // of these
    std::array<std::uint64_t, exit_reason_count> handled_by_l0{};
    std::array<std::uint64_t, exit_reason_count> reflected{};

    // All exits, of L1 and of L2: each was handled by L0 or shown to L1. The host counts L1's that it handles
    // itself.
    [[nodiscard]] constexpr std::uint64_t exits() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < exit_reason_count; ++i) sum += handled_by_l0[i] + reflected[i];
        return sum;
    }
};

}  // namespace flatback::nested
