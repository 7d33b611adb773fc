// The map from the VPIDs that a guest hypervisor uses to real tags.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "../x86/address.hpp"
#include "content_mark.hpp"
#include "ept_mark.hpp"
#include "owed_flush.hpp"
#include "vpid01.hpp"
#include "vpid_pool.hpp"

namespace flatback::tag {

enum class Policy : std::uint8_t {
    mapped,  // every vpid12 its own tag, as far as the slots go
    single,  // one tag for all; a change of vpid12 flushes it
    off,     // not offered to L1: an L2 always runs under vpid01
};

struct MapStatistics {
    std::uint64_t hits = 0;       // entries whose vpid12 had a slot
    std::uint64_t misses = 0;     // entries whose vpid12 had none
    std::uint64_t evictions = 0;  // misses that took another vpid12's slot
    std::uint64_t shared = 0;     // misses that had to share vpid01
};

// One per L1 virtual CPU. Tags are allocated at the first entry of a vpid12 that finds no slot, and kept
// until reset() or the end of the map. Neither INVVPID nor a change of vpid12 allocates.
//
// Of a tag's content it believes only what an OwedFlush that was paid has made true. An INVVPID of L1's that
// concerns the whole context runs nothing: the flush is owed at the next entry of that vpid12, so that many
// make one. An individual address is flushed at once, as putting it off would cost the whole context.
//
// It does not check L1's operands (that comes first, hit or miss, in the engine), and does not know which EPT
// contexts an L2 uses: a flush with ept_contexts is to reach all that this virtual CPU's L2s have, EPT01 too
// where an L2 runs on it.
//
// Sharing: ept_contexts_stale may be called by any CPU; all else only by the CPU that runs the virtual CPU.
// The statistics may be read from anywhere, and may then be a moment old.
template <std::size_t SlotCount>
class Vpid12Map final {
    static_assert(SlotCount >= 1 && SlotCount <= 256);

public:
    Vpid12Map(VpidPool& pool, Vpid01& vpid01, Policy policy = Policy::mapped)
        : pool_(pool),
          vpid01_(vpid01),
          capacity_(policy == Policy::mapped   ? SlotCount
                    : policy == Policy::single ? 1
                                               : 0) {}
    Vpid12Map(const Vpid12Map&) = delete;
    Vpid12Map& operator=(const Vpid12Map&) = delete;

    // Before every VM entry into an L2 whose VMCS has "enable VPID" = 1, L0's own re-entries included.
    // The tag may be another than last time for the same vpid12. vpid12 = 0 is taken for an L2 without VPID.
    [[nodiscard]] Entry enter(Vpid12 vpid12, Cpu cpu) {
        Slot& slot = slots_[hints_[hint_of(vpid12)]];
        // A slot that was never used is valid nowhere, so vpid12 = 0 does not hit it.
        if (slot.vpid12 == vpid12 && slot.content.valid_on(cpu) && ept02_.valid_on(cpu)) [[likely]] {
            slot.last_used = ++clock_;
            ++statistics_.hits;
            return {slot.tag.number(), false};
        }
        return enter_slowly(vpid12, cpu);
    }

    // Before every VM entry into an L2 whose VMCS has "enable VPID" = 0.
    [[nodiscard]] Entry enter_without_vpid(Cpu cpu) { return vpid01_.enter_l2_without_vpid(cpu, ept02_); }

    // INVVPID of L1's, one function a type. The operands are checked already: vpid12 is not 0. Also for what
    // L0 does for an L2 that flushes its own translations. Each returns what is to be run now; the rest stays
    // owed. No type ever names a tag of another virtual CPU.
    // Inlined, so that a flush which runs at once lives in registers.
    [[nodiscard, gnu::always_inline]] inline std::optional<OwedFlush> invvpid_address(
        Vpid12 vpid12, x86::LinearAddress linear_address, Cpu cpu) {
        Slot* slot = find(vpid12);
        if (slot == nullptr) return flush_shared(cpu, FlushCause::l1_invvpid_address);
        if (!slot->content.valid_on(cpu)) [[unlikely]] {
            // A flush that is owed anyway takes the address with it.
            slot->content.invalidate(Extent::address, linear_address, FlushCause::l1_invvpid_address);
            return std::nullopt;
        }
        slot->content.invalidate_first(linear_address);
        return std::optional<OwedFlush>{
            std::in_place,
            FlushTarget{slot->tag.number(), cpu, Extent::address, linear_address, false,
                        FlushCause::l1_invvpid_address, FlushCause::unknown, vpid12},
            &slot->content, nullptr};
    }
    [[nodiscard]] std::optional<OwedFlush> invvpid_single(Vpid12 vpid12, Cpu cpu) {
        return invalidate_context(vpid12, Extent::single_context, FlushCause::l1_invvpid_single_context, cpu);
    }
    [[nodiscard]] std::optional<OwedFlush> invvpid_single_retaining_globals(Vpid12 vpid12, Cpu cpu) {
        return invalidate_context(vpid12, Extent::single_context_retaining_globals,
                                  FlushCause::l1_invvpid_retaining_globals, cpu);
    }
    // The processor ignores the descriptor's VPID for this type, so it is not asked for. VPID 0000H, L1's
    // own, is not among "all contexts".
    [[nodiscard]] std::optional<OwedFlush> invvpid_all(Cpu cpu) {
        for (std::size_t i = 0; i < used_; ++i) {
            slots_[i].content.invalidate(Extent::single_context, {}, FlushCause::l1_invvpid_all_contexts);
        }
        return flush_shared(cpu, FlushCause::l1_invvpid_all_contexts);
    }

    // L0 has taken something from what the EPT contexts of this virtual CPU may hold: every one of them, of
    // L1 and of all L2s, owes a flush before its next entry.
    void ept_contexts_stale() {
        ept02_contexts_stale();
        vpid01_.ept_context_stale();
    }
    // The same of the L2s' contexts only: for L1's INVEPT where ept02_cpu() is not this CPU.
    void ept02_contexts_stale() { ept02_.mark_stale(); }
    // The one CPU that may hold usable translations of the L2s' EPT contexts. Cpu::none: no CPU does.
    [[nodiscard]] Cpu ept02_cpu() const { return ept02_.cpu(); }

    // VMXOFF, and the reset of the virtual CPU: every tag is given back, every vpid12 forgotten.
    void reset() {
        for (std::size_t i = 0; i < used_; ++i) {
            slots_[i].content.forget();
            slots_[i].tag.release();
            slots_[i].vpid12 = Vpid12::none;
        }
        used_ = 0;
        shares_ = false;
        ept02_.mark_stale();
    }

    // How many vpid12 can have a tag at once: 0 where VPIDs are not offered.
    [[nodiscard]] std::size_t capacity() const { return capacity_; }
    [[nodiscard]] std::size_t used() const { return used_; }
    [[nodiscard]] const MapStatistics& statistics() const { return statistics_; }

private:
    friend class Snapshot;

    struct Slot {
        [[no_unique_address]] ContentMark content;  // its padding holds vpid12
        Vpid12 vpid12 = Vpid12::none;
        std::uint64_t last_used = 0;
        Vpid tag;
    };
    static_assert(sizeof(Slot) == 64, "a slot is a cache line");

    // Guest hypervisors number their VPIDs from 1 up, so the low bits tell them apart. A hint may be wrong.
    static constexpr std::size_t hint_count = std::max<std::size_t>(64, std::bit_ceil(4 * SlotCount));
    static constexpr std::size_t hint_of(Vpid12 vpid12) {
        return static_cast<std::size_t>(vpid12) % hint_count;
    }

    [[gnu::noinline]] Entry enter_slowly(Vpid12 vpid12, Cpu cpu) {
        if (capacity_ == 0 || vpid12 == Vpid12::none) return enter_without_vpid(cpu);
        Slot* slot = find(vpid12);
        if (slot != nullptr) {
            ++statistics_.hits;
        } else {
            ++statistics_.misses;
            slot = claim();
            if (slot == nullptr) {
                ++statistics_.shared;
                shares_ = true;
                return vpid01_.enter_l2_sharing(vpid12, cpu, ept02_);
            }
            slot->vpid12 = vpid12;
        }
        slot->last_used = ++clock_;
        hints_[hint_of(vpid12)] = static_cast<std::uint8_t>(slot - slots_.data());
        return Entry{slot->tag.number(), false,
                     owed_before_entry(slot->tag.number(), cpu, slot->content, ept02_, vpid12)};
    }

    // vpid12 is not 0, which marks a slot that is not in use.
    [[nodiscard]] Slot* find(Vpid12 vpid12) {
        Slot& hinted = slots_[hints_[hint_of(vpid12)]];
        if (hinted.vpid12 == vpid12) [[likely]]
            return &hinted;
        for (std::size_t i = 0; i < used_; ++i) {
            if (slots_[i].vpid12 == vpid12) return &slots_[i];
        }
        return nullptr;
    }

    // A slot with a tag of unknown content: a new one, else the least recently used. nullptr: no slot and no
    // tag.
    [[nodiscard]] Slot* claim() {
        if (used_ < capacity_) {
            if (std::optional<Vpid> tag = pool_.allocate()) {
                Slot& slot = slots_[used_++];
                slot.tag = std::move(*tag);
                slot.content.forget();
                return &slot;
            }
        }
        if (used_ == 0) return nullptr;
        Slot* oldest = &slots_[0];
        for (std::size_t i = 1; i < used_; ++i) {
            if (slots_[i].last_used < oldest->last_used) oldest = &slots_[i];
        }
        oldest->content.forget();
        ++statistics_.evictions;
        return oldest;
    }

    std::optional<OwedFlush> invalidate_context(Vpid12 vpid12, Extent extent, FlushCause cause, Cpu cpu) {
        Slot* slot = find(vpid12);
        if (slot == nullptr) return flush_shared(cpu, cause);
        slot->content.invalidate(extent, {}, cause);
        return std::nullopt;
    }

    // A vpid12 without a slot can have left nothing, unless it ran under vpid01.
    std::optional<OwedFlush> flush_shared(Cpu cpu, FlushCause cause) {
        if (!shares_) return std::nullopt;
        return vpid01_.invalidate_now(cpu, cause);
    }

    VpidPool& pool_;
    Vpid01& vpid01_;
    const std::size_t capacity_;
    std::size_t used_ = 0;
    std::uint64_t clock_ = 0;
    bool shares_ = false;
    MapStatistics statistics_;
    EptMark ept02_;
    std::array<std::uint8_t, hint_count> hints_{};
    alignas(64) std::array<Slot, SlotCount> slots_{};
};

}  // namespace flatback::tag
