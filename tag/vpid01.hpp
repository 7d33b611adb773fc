// The tag under which a virtual CPU's L1 runs, and any L2 that has no tag of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "../x86/address.hpp"
#include "content_mark.hpp"
#include "ept_mark.hpp"
#include "owed_flush.hpp"
#include "vpid_pool.hpp"

namespace flatback::tag {

// One per virtual CPU, alive from its creation to its end. Allocates its tag when constructed; an exhausted
// pool leaves it without one (number() is none), and L1 then runs untagged.
//
// It remembers whose translations the tag may hold. A change of occupant, L1 to an L2 or back, owes a flush
// of the whole tag: that is what VM entry and VM exit with "enable VPID" = 0 do to VPID 0000H (SDM
// 3C 29.4.3.1), and what keeps apart the guests that share the tag because there is no other. Re-entering the
// same occupant owes nothing.
//
// Sharing: ept_context_stale may be called by any CPU; all else only by the CPU that runs the virtual CPU.
class Vpid01 final {
public:
    explicit Vpid01(VpidPool& pool) {
        if (std::optional<Vpid> tag = pool.allocate()) tag_ = std::move(*tag);
    }
    Vpid01(const Vpid01&) = delete;
    Vpid01& operator=(const Vpid01&) = delete;

    [[nodiscard]] TagNumber number() const { return tag_.number(); }

    // Before every VM entry into L1. ept_contexts of the flush: EPT01.
    [[nodiscard]] Entry enter_l1(Cpu cpu) { return enter(occupant_l1, cpu, ept01_); }

    // L0 did for L1 what flushes L1's own translations (it emulated a MOV to CR, an INVLPG): owed before the
    // tag's next use, whoever that is, and by no other tag.
    void invalidate() { invalidate_because(FlushCause::l1_translations_changed); }
    void invalidate_address(x86::LinearAddress linear_address) {
        content_.invalidate(Extent::address, linear_address, FlushCause::l1_translations_changed);
    }

    // EPT01 has lost a translation that a processor may have cached.
    void ept_context_stale() { ept01_.mark_stale(); }

    // For Vpid12Map: an L2 that runs under this tag. ept: the mark of its EPT contexts.
    [[nodiscard]] Entry enter_l2_without_vpid(Cpu cpu, EptMark& ept) {
        return enter(occupant_l2_without_vpid, cpu, ept);
    }
    [[nodiscard]] Entry enter_l2_sharing(Vpid12 vpid12, Cpu cpu, EptMark& ept) {
        return enter(occupant_l2_sharing | static_cast<std::uint32_t>(vpid12), cpu, ept);
    }
    // For Vpid12Map: L1's INVVPID of a vpid12 that has run here. To be run now if this CPU holds the content.
    [[nodiscard]] std::optional<OwedFlush> invalidate_now(Cpu cpu, FlushCause cause) {
        invalidate_because(cause);
        if (number() == TagNumber::none || content_.cpu() != cpu) return std::nullopt;
        return std::optional<OwedFlush>{std::in_place,
                                        FlushTarget{number(), cpu, Extent::single_context, {}, false, cause},
                                        &content_, nullptr};
    }

private:
    friend class Snapshot;

    static constexpr std::uint32_t occupant_l1 = 0;
    static constexpr std::uint32_t occupant_l2_without_vpid = 0x1'0000;
    static constexpr std::uint32_t occupant_l2_sharing = 0x2'0000;  // | vpid12

    void invalidate_because(FlushCause cause) { content_.invalidate(Extent::single_context, {}, cause); }

    // Why a change of occupant flushes.
    [[nodiscard]] static FlushCause cause_of_change(std::uint32_t from, std::uint32_t to) {
        const std::uint32_t l2 = to == occupant_l1 ? from : to;
        if ((l2 & occupant_l2_sharing) != 0) return FlushCause::tag_shared;
        return to == occupant_l1 ? FlushCause::exit_without_vpid : FlushCause::entry_without_vpid;
    }

    [[nodiscard]] Entry enter(std::uint32_t occupant, Cpu cpu, EptMark& ept) {
        const bool shares = occupant != occupant_l1;
        if (occupant == occupant_ && content_.valid_on(cpu) && ept.valid_on(cpu)) [[likely]] {
            return {number(), shares};
        }
        return enter_owing(occupant, cpu, ept);
    }

    [[gnu::noinline]] Entry enter_owing(std::uint32_t occupant, Cpu cpu, EptMark& ept) {
        if (occupant_ != occupant) {
            invalidate_because(cause_of_change(occupant_, occupant));
            occupant_ = occupant;
        }
        return Entry{number(), occupant != occupant_l1, owed_before_entry(number(), cpu, content_, ept)};
    }

    std::uint32_t occupant_ = occupant_l1;
    Vpid tag_;
    ContentMark content_;
    EptMark ept01_;
};

}  // namespace flatback::tag
