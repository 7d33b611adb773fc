#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "judge/explore/alphabet.hpp"

namespace flatback::machine::explore {

inline constexpr unsigned most_tags = 6;
inline constexpr unsigned most_tags_of_one_cpu = 3;
inline constexpr unsigned cpu_count = 2;
inline constexpr unsigned here = 0;  // the processor that the virtual CPU is on; the other one is "there"

/// The keys of an L2's combined mappings, as a set of bits: page 0 under PCID 0 and 1, and page 1, which is
/// global; under EPTP x, and the same under y. docs/explore.md says how these sets stand for a TLB.
using Keys = std::uint32_t;
inline constexpr unsigned keys_of_eptp = 3;
inline constexpr Keys all_keys = 0x3F;
inline constexpr Keys global_keys = 0x24;

[[nodiscard]] constexpr Keys keys_of(unsigned eptp) {
    return 7U << (keys_of_eptp * eptp);
}
[[nodiscard]] constexpr Keys keys_of_page(unsigned page) {
    return page == 0 ? 0x1BU : global_keys;
}
[[nodiscard]] constexpr Keys keys_of_pcid(unsigned pcid) {
    return 0x09U << pcid;
}
[[nodiscard]] constexpr Keys key_of(unsigned eptp, unsigned pcid, unsigned page) {
    return 1U << (keys_of_eptp * eptp + (page == 0 ? pcid : 2));
}

/// What one (processor, tag) may hold: for every key the worst entry that may be there. `fresh`: what memory
/// says now. `old_ept`: an EPT12 entry was edited since, and the bare processor may still have the old one.
/// `old`: the paging structures were edited since, and the bare processor may still have the same entry.
/// `dead`: the bare processor cannot have it any more.
struct Entries {
    std::uint32_t fresh : 6;
    std::uint32_t old_ept : 6;
    std::uint32_t old : 6;
    std::uint32_t dead : 6;
    std::uint32_t owner : 8;

    [[nodiscard]] constexpr Keys present() const { return fresh | old_ept | old | dead; }
    [[nodiscard]] constexpr Guest guest() const { return static_cast<Guest>(owner); }
    constexpr void drop(Keys keys) {
        fresh &= ~keys & all_keys;
        old_ept &= ~keys & all_keys;
        old &= ~keys & all_keys;
        dead &= ~keys & all_keys;
        if (present() == 0) owner = 0;
    }
    constexpr void kill(Keys keys) {
        keys &= present();
        drop_but_owner(keys);
        dead |= keys & all_keys;
    }
    /// A worse entry hides a better one under the same key: both go at the same flushes, and whatever makes
    /// the better one dead has made the worse one so.
    constexpr void keep_worst() {
        old &= ~dead & all_keys;
        old_ept &= ~(dead | old) & all_keys;
        fresh &= ~(dead | old | old_ept) & all_keys;
    }

private:
    constexpr void drop_but_owner(Keys keys) {
        fresh &= ~keys & all_keys;
        old_ept &= ~keys & all_keys;
        old &= ~keys & all_keys;
    }
};

/// Guest-physical mappings of one processor: bit 2 * EPTP + page; and those of EPT01.
struct GuestPhysical {
    std::uint32_t fresh : 4;
    std::uint32_t old_ept : 4;
    std::uint32_t dead : 4;
    std::uint32_t l1_fresh : 1;
    std::uint32_t l1_dead : 1;
    std::uint32_t unused : 18;
};

/// A mark's extent: no flush is owed.
inline constexpr std::uint8_t no_flush = 4;

/// A mark of the tag manager (ContentMark), or one of EPT contexts (EptMark).
struct Mark {
    std::uint8_t cpu : 2;  // here, there, or 2: nowhere
    std::uint8_t owes : 1;
    std::uint8_t extent : 3;  // INVVPID's type, or no_flush
    std::uint8_t page : 1;
    std::uint8_t unused : 1;
};

/// The tag manager, all of it. Tags are named by their use: vpid01 first, then those of the slots, the other
/// VM's, then the released ones in the order of their next use.
struct Manager {
    std::uint8_t occupant;  // of vpid01: a Guest
    Mark vpid01;
    Mark ept01;
    Mark ept02;
    Mark other_vpid01;
    Mark other_ept01;
    std::array<Mark, 2> slots;
    std::array<std::uint8_t, 2> slot_guests;
    std::uint8_t used : 2;
    std::uint8_t newest : 1;  // the slot that was used last
    std::uint8_t shares : 1;
    std::uint8_t hint_1 : 1;
    std::uint8_t hint_2 : 1;
    std::uint8_t other : 1;  // the other VM is there, with a tag
    std::uint8_t unused : 1;
    std::uint8_t tags_used;
};

/// Which of two sorts first, as memcmp says: their bytes are all that they are.
template <typename T>
[[nodiscard]] int compare_bytes(const T& a, const T& b) {
    static_assert(std::is_trivially_copyable_v<T>);
    return std::memcmp(std::as_bytes(std::span(&a, 1)).data(), std::as_bytes(std::span(&b, 1)).data(),
                       sizeof(T));
}

/// What is of one virtual CPU alone.
struct VirtualCpu {
    std::array<GuestPhysical, cpu_count> guest_physical;
    /// Keys for which the bare processor has cached what memory says now, of each L2.
    std::array<std::uint8_t, 4> bare;  // the last is not used
    std::uint32_t bare_guest_physical : 4;
    /// EPT02, which is software's: what of EPT12 it has, as bits of 2 * EPTP + page.
    std::uint32_t ept02_fresh : 4;
    std::uint32_t ept02_old : 4;
    std::uint32_t guest : 4;  // who runs
    std::uint32_t eptp : 1;
    std::uint32_t pcid : 1;
    std::uint32_t moved : 1;   // "here" is processor 1; kept for defects that tell the processors apart
    std::uint32_t memory : 3;  // what a defect remembers: a Guest
    /// Tags that the other virtual CPU has: they come behind those of this one.
    std::uint32_t foreign : 2;
    std::uint32_t unused : 8;
    Manager manager;

    [[nodiscard]] Guest running() const { return static_cast<Guest>(guest); }
};

using EntriesOfTags = std::array<std::array<Entries, most_tags>, cpu_count>;

/// Everything that decides what a virtual CPU may see later. Two that are equal have the same future.
struct State : VirtualCpu {
    EntriesOfTags entries;

    friend bool operator==(const State& a, const State& b) { return compare_bytes(a, b) == 0; }
};
static_assert(std::is_trivially_copyable_v<State> && sizeof(State) % 4 == 0);
static_assert(sizeof(State) == 76, "no padding: states are compared as bytes");

/// The same as it is kept, where L1 has one virtual CPU: without the tags that there cannot be.
struct KeptState {
    VirtualCpu cpu;
    std::array<std::array<Entries, most_tags_of_one_cpu>, cpu_count> entries;
};
static_assert(std::is_trivially_copyable_v<KeptState> && sizeof(KeptState) == 52);

[[nodiscard]] KeptState keep(const State& state);
[[nodiscard]] State restored(const KeptState& kept);

[[nodiscard]] constexpr unsigned bare_index(Guest guest) {
    return static_cast<unsigned>(guest) - static_cast<unsigned>(Guest::vpid_1);
}

/// Two names for each other.
void exchange_vpids(VirtualCpu& cpu);
void exchange_vpids(EntriesOfTags& entries);
void exchange_eptps(VirtualCpu& cpu);
void exchange_eptps(EntriesOfTags& entries);

/// The same state under the names that sort first: what vpid12 1 and 2, or EPTP x and y, are called decides
/// nothing.
[[nodiscard]] State canonical(const State& state, const Alphabet& alphabet);

}  // namespace flatback::machine::explore
