#pragma once

#include <emmintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <vector>

#include "machine/geometric/geometry.hpp"

namespace flatback::machine::geometric {

/// Storage as its type wants it. (Clang 14 in C++23 mode makes std::allocator forget an alignment beyond
/// new's.)
template <typename T>
struct OwnAlignment {
    using value_type = T;
    OwnAlignment() = default;
    template <typename Other>
    explicit OwnAlignment(const OwnAlignment<Other>&) noexcept {}
    [[nodiscard]] T* allocate(std::size_t count) {
        return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{alignof(T)}));
    }
    void deallocate(T* storage, std::size_t) noexcept {
        ::operator delete (storage, std::align_val_t{alignof(T)});
    }
    bool operator==(const OwnAlignment&) const = default;
};

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
        if ((order_ & 0xF) == way) return;
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
    /// The least recently used way, which is used now.
    [[nodiscard]] unsigned take_oldest(unsigned ways) noexcept {
        const unsigned last = 4 * (ways - 1);
        const auto way = static_cast<unsigned>(order_ >> last);
        order_ = (order_ ^ std::uint64_t{way} << last) << 4 | way;
        return way;
    }
    [[nodiscard]] unsigned newest() const noexcept { return static_cast<unsigned>(order_ & 0xF); }
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

/// Which of 16 numbers equal `wanted`, as a set of bits.
[[nodiscard]] inline std::uint32_t matching(const std::array<std::uint32_t, 16>& numbers,
                                            std::uint32_t wanted) noexcept {
    const __m128i all = _mm_set1_epi32(static_cast<int>(wanted));
    const auto four = [&](std::size_t index) {
        return _mm_cmpeq_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(numbers.data() + index)), all);
    };
    const __m128i low = _mm_packs_epi32(four(0), four(4));
    const __m128i high = _mm_packs_epi32(four(8), four(12));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
}

/// What an entry is looked for by: its key, under either of two tags.
struct Name {
    Name(std::uint64_t its_key, Tag its_tag, Tag its_other_tag)
        : key(its_key), tag(its_tag), other_tag(its_other_tag), signature(signature_of(key, tag)) {}

    std::uint64_t key;
    Tag tag;
    Tag other_tag;
    std::uint32_t signature;

private:
    /// The same for a global entry and one of any PCID.
    [[nodiscard]] static std::uint32_t signature_of(std::uint64_t key, Tag tag) noexcept {
        const std::uint64_t owner = tag & ~(std::uint64_t{0x1FFF} << 16);
        return static_cast<std::uint32_t>(
            (key ^ owner * 0x9E37'79B9'7F4A'7C15ULL) * 0xD6E8'FEB8'6659'FD93ULL >> 32);
    }
};

/// Sets of at most 16 ways with least-recently-used replacement. `Payload` is what an entry gives beside its
/// key. The signatures of a set are one cache line, and a miss reads no more than that.
template <typename Payload>
class WayArray {
public:
    static constexpr unsigned most_ways = 16;
    static constexpr std::uint64_t no_key = ~std::uint64_t{0};
    static constexpr std::uint32_t every_way = ~std::uint32_t{0};

    struct Entry {
        std::uint64_t key = no_key;
        Tag tag = 0;
        [[no_unique_address]] Payload payload{};
    };

    WayArray() = default;
    explicit WayArray(const ArrayGeometry& geometry)
        : geometry_(geometry), all_ways_((std::uint32_t{1} << geometry.ways) - 1) {
        if (geometry.ways > most_ways) throw std::invalid_argument("a set has at most 16 ways");
        if (geometry.ways == 0) return;
        signatures_.resize(geometry.sets);
        recency_.resize(geometry.sets);
        entries_.resize(std::size_t{geometry.sets} * geometry.ways);
        clear();
    }

    /// `number` chooses the set; the name's key tells entries of the set apart. Null: a miss.
    [[nodiscard]] const Entry* find(std::uint64_t number, const Name& name) noexcept {
        if (signatures_.empty()) return nullptr;
        const std::size_t set = set_number(number);
        for (std::uint32_t ways = matching(signatures_[set].of_way, name.signature); ways != 0;
             ways &= ways - 1) {
            const auto way = static_cast<unsigned>(std::countr_zero(ways));
            if (way >= geometry_.ways) break;
            const Entry& entry = entries_[set * geometry_.ways + way];
            if (entry.key != name.key || (entry.tag != name.tag && entry.tag != name.other_tag)) continue;
            recency_[set].use(way);
            return &entry;
        }
        return nullptr;
    }
    /// The set will be looked at soon.
    void expect(std::uint64_t number) const noexcept {
        if (!signatures_.empty()) __builtin_prefetch(&signatures_[set_number(number)]);
    }

    /// Under the name's first tag. Takes the place of the same entry, of an empty way, or of the least
    /// recently used of the allowed ways.
    void insert(std::uint64_t number, const Name& name, const Payload& payload,
                std::uint32_t allowed_ways = every_way) noexcept {
        if (find(number, name) != nullptr) {
            const std::size_t set = set_number(number);
            entries_[set * geometry_.ways + recency_[set].newest()].payload = payload;
        } else {
            insert_new(number, name, payload, allowed_ways);
        }
    }
    /// ... where there is no such entry.
    void insert_new(std::uint64_t number, const Name& name, const Payload& payload,
                    std::uint32_t allowed_ways = every_way) noexcept {
        if (signatures_.empty()) return;
        const std::size_t set = set_number(number);
        unsigned way = 0;
        if ((~allowed_ways & all_ways_) == 0) {
            way = recency_[set].take_oldest(geometry_.ways);
        } else {
            way = recency_[set].oldest(geometry_.ways, allowed_ways);
            recency_[set].use(way);
        }
        signatures_[set].of_way[way] = name.signature;
        entries_[set * geometry_.ways + way] = {name.key, name.tag, payload};
    }

    /// `predicate(entry)`
    template <typename Predicate>
    void erase_if(Predicate&& predicate) noexcept {
        for (std::size_t place = 0; place < entries_.size(); ++place) {
            Entry& entry = entries_[place];
            if (entry.key == no_key || !predicate(entry)) continue;
            entry.key = no_key;
            recency_[place / geometry_.ways].free(static_cast<unsigned>(place % geometry_.ways),
                                                  geometry_.ways);
        }
    }

    void clear() noexcept {
        std::ranges::fill(recency_, Recency(geometry_.ways));
        for (Entry& entry : entries_) entry.key = no_key;
    }

    [[nodiscard]] std::size_t size() const noexcept {
        return static_cast<std::size_t>(
            std::ranges::count_if(entries_, [](const Entry& entry) { return entry.key != no_key; }));
    }

private:
    /// Of the entries of one set, by way; equal ones need not be the same.
    struct alignas(64) Signatures {
        std::array<std::uint32_t, most_ways> of_way{};
    };

    [[nodiscard]] std::size_t set_number(std::uint64_t number) const noexcept {
        if (geometry_.xor_bits != 0) number ^= number >> geometry_.xor_bits;
        return number & (geometry_.sets - 1);
    }

    ArrayGeometry geometry_{};
    std::uint32_t all_ways_ = 0;
    std::vector<Signatures, OwnAlignment<Signatures>> signatures_;
    std::vector<Recency> recency_;
    std::vector<Entry> entries_;
};

}  // namespace flatback::machine::geometric
