#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
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

/// Which ways of one set were used how recently: the way used last in bits 3:0, the next in 7:4, and so on.
class Recency {
public:
    Recency() = default;
    /// All are empty: the lowest is the first to be taken.
    explicit Recency(unsigned ways) {
        for (unsigned way = 0; way < ways; ++way) order_ = order_ << 4 | way;
    }

    void use(unsigned way) noexcept {
        const unsigned shift = shift_of(way);
        const std::uint64_t more_recent = order_ & ((std::uint64_t{1} << shift) - 1);
        const std::uint64_t less_recent = order_ & ~(((std::uint64_t{1} << shift) - 1) << 4 | 0xF);
        order_ = less_recent | more_recent << 4 | way;
    }
    /// The way is empty: it is the next to be taken.
    void free(unsigned way, unsigned ways) noexcept {
        const unsigned shift = shift_of(way);
        const unsigned last = 4 * (ways - 1);
        const std::uint64_t below = (std::uint64_t{1} << shift) - 1;
        const std::uint64_t upto_last = last == 60 ? ~std::uint64_t{0} : (std::uint64_t{1} << (last + 4)) - 1;
        order_ =
            (order_ & below) | ((order_ & upto_last & ~below) >> 4 & ~below) | std::uint64_t{way} << last;
    }
    /// The least recently used of the allowed ways, of which there is one.
    [[nodiscard]] unsigned oldest(unsigned ways, std::uint32_t allowed) const noexcept {
        unsigned position = ways;
        unsigned way = 0;
        do {
            --position;
            way = static_cast<unsigned>(order_ >> (4 * position)) & 0xF;
        } while ((allowed >> way & 1) == 0 && position != 0);
        return way;
    }

private:
    /// Where the way is; the lowest nibble that equals it.
    [[nodiscard]] unsigned shift_of(unsigned way) const noexcept {
        constexpr std::uint64_t ones = 0x1111'1111'1111'1111;
        const std::uint64_t differs = order_ ^ (ones * way);
        return static_cast<unsigned>(std::countr_zero((differs - ones) & ~differs & (ones << 3))) - 3;
    }

    std::uint64_t order_ = 0;
};

/// Sets of at most 16 ways with least-recently-used replacement. `Payload` is what an entry gives beside its
/// key. Keys, tags and payloads lie apart, as a lookup reads the keys of a set and hardly ever more.
template <typename Payload>
class WayArray {
public:
    static constexpr unsigned most_ways = 16;
    static constexpr std::uint64_t no_key = ~std::uint64_t{0};
    /// Where an entry is: of use until the array changes.
    using Place = std::size_t;
    static constexpr Place nowhere = ~std::size_t{0};

    WayArray() = default;
    explicit WayArray(const ArrayGeometry& geometry)
        : geometry_(geometry),
          recency_(geometry.sets, Recency(geometry.ways)),
          keys_(std::size_t{geometry.sets} * geometry.ways, no_key),
          tags_(keys_.size()),
          payloads_(keys_.size()) {
        if (geometry.ways > most_ways) throw std::invalid_argument("a set has at most 16 ways");
    }

    /// `number` chooses the set; `key` tells entries of the set apart. `nowhere`: a miss.
    [[nodiscard]] Place find(std::uint64_t number, std::uint64_t key, Tag tag, Tag other_tag) noexcept {
        const std::size_t set = set_of(number);
        const Place first = set * geometry_.ways;
        const std::uint64_t* keys = keys_.data() + first;
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            if (keys[way] != key) continue;
            const Tag its = tags_[first + way];
            if (its != tag && its != other_tag) continue;
            recency_[set].use(way);
            return first + way;
        }
        return nowhere;
    }
    [[nodiscard]] bool has(std::uint64_t number, std::uint64_t key, Tag tag) noexcept {
        return find(number, key, tag, tag) != nowhere;
    }
    [[nodiscard]] const Payload& payload(Place place) const noexcept { return payloads_[place]; }
    [[nodiscard]] Tag tag(Place place) const noexcept { return tags_[place]; }

    /// Takes the place of the same entry, of an empty way, or of the least recently used of the allowed ways.
    void insert(std::uint64_t number, std::uint64_t key, Tag tag, const Payload& payload,
                std::uint32_t allowed_ways = ~std::uint32_t{0}) noexcept {
        const Place same = find(number, key, tag, tag);
        if (same != nowhere) {
            payloads_[same] = payload;
        } else {
            insert_new(number, key, tag, payload, allowed_ways);
        }
    }
    /// ... where there is no such entry.
    void insert_new(std::uint64_t number, std::uint64_t key, Tag tag, const Payload& payload,
                    std::uint32_t allowed_ways = ~std::uint32_t{0}) noexcept {
        if (geometry_.ways == 0) return;
        const std::size_t set = set_of(number);
        const unsigned way = recency_[set].oldest(geometry_.ways, allowed_ways);
        recency_[set].use(way);
        const Place place = set * geometry_.ways + way;
        keys_[place] = key;
        tags_[place] = tag;
        payloads_[place] = payload;
    }

    /// `predicate(key, tag, payload)`
    template <typename Predicate>
    void erase_if(Predicate&& predicate) noexcept {
        for (Place place = 0; place < keys_.size(); ++place) {
            if (keys_[place] == no_key || !predicate(keys_[place], tags_[place], payloads_[place])) continue;
            keys_[place] = no_key;
            recency_[place / geometry_.ways].free(static_cast<unsigned>(place % geometry_.ways),
                                                  geometry_.ways);
        }
    }

    void clear() noexcept {
        std::ranges::fill(keys_, no_key);
        std::ranges::fill(recency_, Recency(geometry_.ways));
    }

    [[nodiscard]] std::size_t size() const noexcept {
        return keys_.size() - static_cast<std::size_t>(std::ranges::count(keys_, no_key));
    }
    [[nodiscard]] bool exists() const noexcept { return !keys_.empty(); }

private:
    [[nodiscard]] std::size_t set_of(std::uint64_t number) const noexcept {
        if (geometry_.xor_bits != 0) number ^= number >> geometry_.xor_bits;
        return number & (geometry_.sets - 1);
    }

    ArrayGeometry geometry_{};
    std::vector<Recency> recency_;
    std::vector<std::uint64_t> keys_;
    std::vector<Tag> tags_;
    std::vector<Payload> payloads_;
};

}  // namespace flatback::machine::geometric
