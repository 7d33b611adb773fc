#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "machine/geometric/geometry.hpp"

namespace flatback::machine::geometric {

/// The tag of an entry: VPID in bits 15:0, PCID (1000H: global) in bits 28:16, a number for the EP4TA in bits
/// 63:32 (0: EPT not in use). Guest-physical entries have the EP4TA's number alone.
using Tag = std::uint64_t;

inline constexpr std::uint64_t global_pcid = 0x1000;

[[nodiscard]] constexpr Tag make_tag(std::uint16_t vpid, std::uint64_t pcid, std::uint64_t ept_number) {
    return vpid | pcid << 16 | ept_number << 32;
}
[[nodiscard]] constexpr std::uint16_t vpid_of(Tag tag) {
    return static_cast<std::uint16_t>(tag);
}
[[nodiscard]] constexpr std::uint64_t pcid_of(Tag tag) {
    return tag >> 16 & 0x1FFF;
}
[[nodiscard]] constexpr std::uint64_t ept_number_of(Tag tag) {
    return tag >> 32;
}

/// Sets of ways with least-recently-used replacement. `Payload` is what an entry gives beside its key.
template <typename Payload>
class WayArray {
public:
    struct Entry {
        std::uint64_t key = no_key;
        Tag tag = 0;
        std::uint64_t used = 0;
        Payload payload{};
    };

    static constexpr std::uint64_t no_key = ~std::uint64_t{0};

    WayArray() = default;
    explicit WayArray(const ArrayGeometry& geometry)
        : geometry_(geometry), entries_(std::size_t{geometry.sets} * geometry.ways) {}

    /// `number` chooses the set; `key` tells entries of the set apart. Null: a miss.
    [[nodiscard]] Entry* find(std::uint64_t number, std::uint64_t key, Tag tag, Tag other_tag) noexcept {
        Entry* entry = set_of(number);
        for (unsigned way = 0; way < geometry_.ways; ++way, ++entry) {
            if (entry->key == key && (entry->tag == tag || entry->tag == other_tag)) {
                entry->used = ++clock_;
                return entry;
            }
        }
        return nullptr;
    }

    /// Takes the place of the same entry, of an empty way, or of the least recently used of the allowed ways.
    void insert(std::uint64_t number, std::uint64_t key, Tag tag, const Payload& payload,
                std::uint32_t allowed_ways = ~std::uint32_t{0}) noexcept {
        Entry* const set = set_of(number);
        Entry* victim = nullptr;
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            Entry& entry = set[way];
            if (entry.key == key && entry.tag == tag) {
                victim = &entry;
                break;
            }
            if ((allowed_ways >> way & 1) == 0) continue;
            const std::uint64_t age = entry.key == no_key ? 0 : entry.used;
            const std::uint64_t oldest = victim == nullptr || victim->key == no_key ? 0 : victim->used;
            if (victim == nullptr || age < oldest) victim = &entry;
        }
        if (victim != nullptr) *victim = {key, tag, ++clock_, payload};
    }

    template <typename Predicate>
    void erase_if(Predicate&& predicate) noexcept {
        for (Entry& entry : entries_) {
            if (entry.key != no_key && predicate(entry)) entry.key = no_key;
        }
    }

    void clear() noexcept {
        for (Entry& entry : entries_) entry.key = no_key;
    }

    [[nodiscard]] std::size_t size() const noexcept {
        std::size_t count = 0;
        for (const Entry& entry : entries_) count += entry.key != no_key ? 1 : 0;
        return count;
    }
    [[nodiscard]] bool exists() const noexcept { return !entries_.empty(); }

private:
    [[nodiscard]] Entry* set_of(std::uint64_t number) noexcept {
        if (geometry_.xor_bits != 0) number ^= number >> geometry_.xor_bits;
        return entries_.data() + (number & (geometry_.sets - 1)) * geometry_.ways;
    }

    ArrayGeometry geometry_{};
    std::vector<Entry> entries_;
    std::uint64_t clock_ = 0;
};

}  // namespace flatback::machine::geometric
