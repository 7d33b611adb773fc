// What is known of the content of one tag: which generation of it is wanted, and where that is all there can
// be.
#pragma once

#include <cstdint>

#include "../x86/address.hpp"
#include "cpu.hpp"
#include "flush_cause.hpp"

namespace flatback::tag {

// How much of a tag a flush takes. The values are INVVPID's types (SDM 3C, INVVPID).
enum class Extent : std::uint8_t {
    address = 0,                           // one linear address, in all PCIDs and EPT contexts
    single_context = 1,                    // everything under the tag
    single_context_retaining_globals = 3,  // global translations may stay
    nothing = 0xff,                        // no INVVPID
};

// The least single flush that does both. An address takes global translations too, so that and "retaining
// globals" make a whole context; so do two addresses, as a mark remembers one.
[[nodiscard]] constexpr Extent both(Extent first, x86::LinearAddress first_address, Extent second,
                                    x86::LinearAddress second_address) {
    if (first == Extent::nothing) return second;
    if (second == Extent::nothing) return first;
    const bool same = first == second && (first != Extent::address ||
                                          first_address.page_number() == second_address.page_number());
    return same ? first : Extent::single_context;
}

class Snapshot;

// The mark of one tag: a content generation, and the one CPU on which the tag was last made to hold nothing
// but a stated generation. Where the two generations differ a flush is owed on that CPU, and `owed` says how
// much; on every other CPU, and everywhere for a tag that was just handed out, the whole context is owed.
//
// Valid is only what a commit made so, and a commit comes after the flush ran. A receipt says which flush
// that was: only the last one taken commits, so a flush that was overtaken by a move or by a new use of the
// tag marks nothing.
//
// Sharing: none. Only the CPU that runs the virtual CPU touches its marks.
class ContentMark final {
public:
    struct Debt {
        Extent extent = Extent::nothing;
        x86::LinearAddress linear_address;
        FlushCause cause = FlushCause::unknown;
    };
    struct Receipt {
        std::uint64_t generation;
        std::uint32_t ticket;
    };

    ContentMark() = default;
    ContentMark(const ContentMark&) = delete;
    ContentMark& operator=(const ContentMark&) = delete;

    // Nothing is owed before the tag is used on this CPU.
    [[nodiscard]] bool valid_on(Cpu cpu) const { return cpu_ == cpu && valid_ == content_; }
    // Where it was last flushed, and so the only CPU whose content of the tag may be used.
    [[nodiscard]] Cpu cpu() const { return cpu_; }
    [[nodiscard]] bool owes() const { return valid_ != content_; }

    [[nodiscard]] Debt debt_on(Cpu cpu) const {
        if (cpu_ != cpu) {
            const bool moved = cpu_ != Cpu::none;
            return {Extent::single_context, {}, moved ? FlushCause::cpu_changed : FlushCause::tag_handed_out};
        }
        if (!owes()) return {};
        return {owed_, owed_address_, cause_};
    }

    // The owner wants this much gone before the tag's next use. Of several causes the last is told.
    void invalidate(Extent extent, x86::LinearAddress linear_address = {},
                    FlushCause cause = FlushCause::unknown) {
        cause_ = cause;
        owed_ = both(owed_, owed_address_, extent, linear_address);
        owed_address_ = linear_address;
        ++content_;
    }

    // The same for one address, where nothing was owed before and the flush is run at once: it keeps no
    // cause.
    void invalidate_first(x86::LinearAddress linear_address) {
        owed_ = Extent::address;
        owed_address_ = linear_address;
        ++content_;
    }

    // A new owner, or a new use: nothing is known of the content, on any CPU.
    void forget() {
        cpu_ = Cpu::none;
        owed_ = Extent::single_context;
        ++content_;
        ++ticket_;
    }

    [[nodiscard]] Receipt take() { return {content_, ++ticket_}; }

    // The flush that take() announced has run on this CPU.
    void commit(Receipt receipt, Cpu cpu) {
        if (receipt.ticket != ticket_) return;
        cpu_ = cpu;
        valid_ = receipt.generation;
        if (!owes()) owed_ = Extent::nothing;
    }

private:
    friend class Snapshot;

    std::uint64_t content_ = 1;
    std::uint64_t valid_ = 0;
    Cpu cpu_ = Cpu::none;
    std::uint32_t ticket_ = 0;
    x86::LinearAddress owed_address_;
    Extent owed_ = Extent::single_context;
    FlushCause cause_ = FlushCause::unknown;  // of what is owed; decides nothing
};

}  // namespace flatback::tag
