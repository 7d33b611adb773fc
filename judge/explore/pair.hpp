// The state where there are two virtual CPUs: of one L1, which run at the same time, each on a processor of
// its own; or of two VMs, which are on a processor each, or by turns on one.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/state.hpp"

namespace flatback::machine::explore {

inline constexpr unsigned l1_cpu_count = 2;

/// Virtual CPU N is on processor N, but that both may be on processor 0 where they are of two VMs: what is
/// told of processors is told anew when that changes. Tags are named by their use: those of virtual CPU 0
/// first, as in its State, then those of 1, then the released ones. An owner of entries is a guest, with
/// Guest::of_other_cpu where it is virtual CPU 1's.
struct PairState {
    EntriesOfTags entries;  // by processor
    /// Each says "here" of the processor that it is on. What is said for both is 0: tags_used, foreign, and,
    /// but where they are of two VMs, guest-physical mappings of EPT01.
    std::array<VirtualCpu, l1_cpu_count> cpus;
    /// Mappings of EPT01, which the virtual CPUs of one L1 both have; a bit a processor.
    std::uint8_t ept01_fresh : 4;
    std::uint8_t ept01_dead : 4;
    std::uint8_t tags_used : 7;
    std::uint8_t of_two_vms : 1;
    /// Two bits an L2: the virtual CPU plus one on which its VMCS is active, or 0. In the upper bits, of two
    /// VMs that are on one processor: which of them has it, as well; else 0.
    std::uint8_t places;
    /// What defects remember: the same, of where each L2 ran last; in the upper bits, where any did.
    std::uint8_t memory;

    friend bool operator==(const PairState& a, const PairState& b) { return compare_bytes(a, b) == 0; }
};
static_assert(std::is_trivially_copyable_v<PairState>);
static_assert(sizeof(PairState) == 108, "no padding: states are compared as bytes");

/// Two bits of `places` or `memory`, by Guest.
[[nodiscard]] constexpr unsigned place_of(std::uint8_t places, unsigned index) {
    return std::uint32_t{places} >> (2 * index) & 3U;
}
constexpr void set_place(std::uint8_t& places, unsigned index, unsigned place) {
    places = static_cast<std::uint8_t>((places & ~(3U << (2 * index))) | place << (2 * index));
}
/// In `memory`: of whichever L2.
inline constexpr unsigned any_l2 = 3;
/// In `places`: who has the processor.
inline constexpr unsigned shared_processor = 3;

[[nodiscard]] constexpr bool share_a_processor(const PairState& pair) {
    return place_of(pair.places, shared_processor) != 0;
}
[[nodiscard]] constexpr unsigned processor_of(const PairState& pair, unsigned cpu) {
    return share_a_processor(pair) ? 0 : cpu;
}
/// The names of the two processors for each other.
void exchange_processor_names(PairState& pair);

/// What one virtual CPU has to do with, as if it were alone: the other's tags and entries are another
/// owner's.
[[nodiscard]] State view_of(const PairState& pair, unsigned cpu);
/// After a step in which it went on there.
void put_back(PairState& pair, unsigned cpu, const State& view);

/// The tag of the PairState that a view calls so, and the reverse.
[[nodiscard]] unsigned tag_of_pair(const PairState& pair, unsigned cpu, unsigned tag);
[[nodiscard]] unsigned tag_of_view(const PairState& pair, unsigned cpu, unsigned tag);

/// Forgets what can decide nothing any more.
void forget_the_irrelevant(PairState& pair);
/// The same state under the names that sort first: of vpid12s, EPTPs, and L1's virtual CPUs.
[[nodiscard]] PairState canonical(const PairState& pair, const Alphabet& alphabet);

}  // namespace flatback::machine::explore
