// The state of the tag manager as a value: for tools that visit its states in any order. L0 does not use it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../x86/address.hpp"
#include "content_mark.hpp"
#include "cpu.hpp"
#include "ept_mark.hpp"
#include "vpid01.hpp"
#include "vpid12_map.hpp"
#include "vpid_pool.hpp"

namespace flatback::tag {

// Takes what decides the future of an object, and puts it back into an object of the same kind. Generations
// are only ever compared for equality, and clocks for order, so these two are what is taken of them; tickets
// need not be, as no OwedFlush may be alive at the time. Statistics are not taken.
//
// Putting back is done to all objects of one manager, the pool first, and gives no tag back to the pool.
class Snapshot final {
public:
    struct Content {
        Cpu cpu = Cpu::none;
        bool owes = true;
        Extent owed = Extent::single_context;
        x86::LinearAddress owed_address;  // has a meaning where `owed` is an address
        bool operator==(const Content&) const = default;
    };
    struct Ept {
        Cpu cpu = Cpu::none;
        bool stale = true;
        bool operator==(const Ept&) const = default;
    };
    struct Slot {
        Vpid12 vpid12{0};
        TagNumber tag = TagNumber::none;
        Content content;
        std::size_t uses_before = 0;  // the slots that were used before it: 0 for the least recent
        bool operator==(const Slot&) const = default;
    };
    // Whose translations vpid01 holds: 0 L1, 1 an L2 without VPID, 2 an L2 that shares it.
    struct Occupant {
        std::uint8_t kind = 0;
        Vpid12 vpid12{0};
        bool operator==(const Occupant&) const = default;
    };
    struct OfVpid01 {
        Occupant occupant;
        TagNumber tag = TagNumber::none;
        Content content;
        Ept ept01;
        bool operator==(const OfVpid01&) const = default;
    };
    template <std::size_t SlotCount>
    struct OfMap {
        std::size_t used = 0;
        bool shares = false;
        Ept ept02;
        std::array<Slot, SlotCount> slots{};
        bool operator==(const OfMap&) const = default;
    };

    [[nodiscard]] static Content take(const ContentMark& mark) {
        return {mark.cpu_, mark.owes(), mark.owed_,
                mark.owed_ == Extent::address ? mark.owed_address_ : x86::LinearAddress{}};
    }
    static void put(ContentMark& mark, const Content& content) {
        mark.valid_ = 1;
        mark.content_ = content.owes ? 2 : 1;
        mark.cpu_ = content.cpu;
        mark.ticket_ = 0;
        mark.owed_address_ = content.owed_address;
        mark.owed_ = content.owed;
    }

    [[nodiscard]] static Ept take(const EptMark& mark) {
        return {mark.cpu_, mark.valid_ != mark.content_.load(std::memory_order_relaxed)};
    }
    static void put(EptMark& mark, const Ept& ept) {
        mark.valid_ = 1;
        mark.content_.store(ept.stale ? 2 : 1, std::memory_order_relaxed);
        mark.cpu_ = ept.cpu;
        mark.ticket_ = 0;
    }

    [[nodiscard]] static OfVpid01 take(const Vpid01& vpid01) {
        Occupant occupant;
        if (vpid01.occupant_ == Vpid01::occupant_l2_without_vpid) {
            occupant.kind = 1;
        } else if (vpid01.occupant_ != Vpid01::occupant_l1) {
            occupant = {2, Vpid12{static_cast<std::uint16_t>(vpid01.occupant_)}};
        }
        return {occupant, vpid01.number(), take(vpid01.content_), take(vpid01.ept01_)};
    }
    static void put(Vpid01& vpid01, const OfVpid01& state, VpidPool& pool) {
        vpid01.occupant_ = state.occupant.kind == 0   ? Vpid01::occupant_l1
                           : state.occupant.kind == 1 ? Vpid01::occupant_l2_without_vpid
                                                      : Vpid01::occupant_l2_sharing |
                                                            static_cast<std::uint32_t>(state.occupant.vpid12);
        put(vpid01.tag_, state.tag, pool);
        put(vpid01.content_, state.content);
        put(vpid01.ept01_, state.ept01);
    }

    template <std::size_t SlotCount>
    [[nodiscard]] static OfMap<SlotCount> take(const Vpid12Map<SlotCount>& map) {
        OfMap<SlotCount> state{map.used_, map.shares_, take(map.ept02_), {}};
        for (std::size_t i = 0; i < map.used_; ++i) {
            const auto& slot = map.slots_[i];
            std::size_t before = 0;
            for (std::size_t other = 0; other < map.used_; ++other) {
                if (map.slots_[other].last_used < slot.last_used) ++before;
            }
            state.slots[i] = {slot.vpid12, slot.tag.number(), take(slot.content), before};
        }
        return state;
    }
    // Hints are put back by set_hint; until then they are what they were.
    template <std::size_t SlotCount>
    static void put(Vpid12Map<SlotCount>& map, const OfMap<SlotCount>& state, VpidPool& pool) {
        map.used_ = state.used;
        map.shares_ = state.shares;
        map.clock_ = SlotCount;
        put(map.ept02_, state.ept02);
        for (std::size_t i = 0; i < SlotCount; ++i) {
            auto& slot = map.slots_[i];
            slot.vpid12 = state.slots[i].vpid12;
            slot.last_used = state.slots[i].uses_before + 1;
            put(slot.tag, state.slots[i].tag, pool);
            put(slot.content, state.slots[i].content);
        }
    }
    // Which slot an entry of this vpid12 looks at first.
    template <std::size_t SlotCount>
    [[nodiscard]] static std::uint8_t hint(const Vpid12Map<SlotCount>& map, Vpid12 vpid12) {
        return map.hints_[map.hint_of(vpid12)];
    }
    template <std::size_t SlotCount>
    static void set_hint(Vpid12Map<SlotCount>& map, Vpid12 vpid12, std::uint8_t slot) {
        map.hints_[map.hint_of(vpid12)] = slot;
    }

    // Tags that were handed out at least once: 1 up to this number.
    [[nodiscard]] static std::uint32_t tags_used(const VpidPool& pool) {
        return pool.fresh_.load(std::memory_order_relaxed);
    }
    // The tags that were released, the next to be handed out first, as far as `numbers` goes; how many.
    static std::size_t take_released(VpidPool& pool, std::span<TagNumber> numbers) {
        const std::uint64_t head = pool.head_.load(std::memory_order_relaxed);
        const std::uint64_t count = pool.tail_.load(std::memory_order_relaxed) - head;
        for (std::uint64_t i = 0; i < count && i < numbers.size(); ++i) {
            numbers[i] = TagNumber{VpidPool::tag_of(pool.cell(head + i).load(std::memory_order_relaxed))};
        }
        return count;
    }
    static void put(VpidPool& pool, std::uint32_t tags_used, std::span<const TagNumber> released) {
        const std::uint64_t end = pool.tail_.load(std::memory_order_relaxed);
        for (std::uint64_t i = 0; i < end && i < VpidPool::cells; ++i) {
            pool.ring_[i].store(0, std::memory_order_relaxed);
        }
        for (std::size_t i = 0; i < released.size(); ++i) {
            pool.ring_[i].store(raw(released[i]), std::memory_order_relaxed);
        }
        pool.head_.store(0, std::memory_order_relaxed);
        pool.tail_.store(released.size(), std::memory_order_relaxed);
        pool.fresh_.store(tags_used, std::memory_order_relaxed);
        pool.owned_.store(tags_used - static_cast<std::uint32_t>(released.size()), std::memory_order_relaxed);
    }

private:
    static void put(Vpid& handle, TagNumber number, VpidPool& pool) {
        handle.pool_ = number == TagNumber::none ? nullptr : &pool;
        handle.number_ = number;
    }
};

}  // namespace flatback::tag
