// Which fields of one of L1's VMCSs L1 reaches without an exit beside those that the field sheet chose for
// all: it is seen to use them, entry by entry. What an L1 may cost L0 so has bounds that are not its own.
//
// Bookkeeping alone. What of it is in bitmaps and in the shadow VMCS: nested/vcpu/learn.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../../vmx/field_table.hpp"
#include "vmcs12.hpp"

namespace flatback::nested {

// An access that exits costs as much as looking at a learned field at some twenty exits and entries
// (docs/engine.md).
struct LearningRule {
    // So many uses, each with a VM entry of L1's in between, and no more than `within` entries from the first
    // to the last. 0 uses: nothing is learned.
    std::uint8_t uses = 4;
    std::uint32_t within = 64;
    // Every so many entries one learned field, each in its turn, must show again that L1 uses it.
    std::uint32_t trial_every = 256;
};

class LearnedFields final {
public:
    // Of one VMCS. Each takes a VMREAD at the entry and one at the exit.
    static constexpr unsigned most = 32;

    // A field, as the loops of an entry and an exit need it.
    struct Place {
        std::uint32_t encoding;
        std::uint32_t index;
    };
    class Places final {
    public:
        [[nodiscard]] const Place* begin() const { return places_.data(); }
        [[nodiscard]] const Place* end() const { return places_.data() + count_; }

    private:
        friend class LearnedFields;
        void fill(const FieldSet& fields) {
            count_ = 0;
            fields.for_each([this](std::size_t index) {
                places_[count_++] = {vmx::all_fields[index].encoding, static_cast<std::uint32_t>(index)};
            });
        }
        std::array<Place, most> places_{};
        unsigned count_ = 0;
    };

    [[nodiscard]] bool any() const { return count_ != 0; }
    [[nodiscard]] unsigned count() const { return count_; }
    // L1 reads them without an exit. The shadow VMCS has the newest value of each.
    [[nodiscard]] const FieldSet& read() const { return read_; }
    [[nodiscard]] bool contains(std::size_t index) const { return read_.contains(index); }
    // It writes them so too: a part of those.
    [[nodiscard]] const FieldSet& written() const { return written_; }
    [[nodiscard]] const Places& places_written() const { return places_written_; }
    // L0 brings them to the shadow VMCS at every exit: a part of `read`.
    [[nodiscard]] const FieldSet& saved() const { return saved_; }
    [[nodiscard]] const Places& places_saved() const { return places_saved_; }

    // Whether a use of the field by an exit is one to be noted. entries: how many VM entries L1 has made by
    // now, of whatever VMCS.
    [[nodiscard, gnu::always_inline]] bool counts(std::size_t index, std::uint64_t entries) const {
        return entries != counted_at_ || !counted_.contains(index);
    }
    // Notes it. True: the field is to be learned.
    [[nodiscard]] bool note_use(const LearningRule& rule, std::size_t index, std::uint64_t entries) {
        if (rule.uses == 0 || !counts(index, entries)) return false;
        if (entries != counted_at_) {
            if (!counting_ || entries - since_ > rule.within) begin_counting(entries);
            counted_at_ = entries;
            counted_.clear();
        }
        counted_.insert(index);
        if (++uses_[index] < rule.uses) return false;
        uses_[index] = 0;
        return contains(index) || count_ < most;
    }

    // saved: exits change it, and nothing else brings it to the shadow VMCS.
    void learn(std::size_t index, bool written, bool saved) {
        if (!contains(index)) ++count_;
        read_.insert(index);
        if (written) written_.insert(index);
        if (saved) saved_.insert(index);
        fill_places();
    }
    void forget(std::size_t index) {
        if (!contains(index)) return;
        --count_;
        read_.erase(index);
        written_.erase(index);
        saved_.erase(index);
        fill_places();
    }

    // One more entry of this VMCS: the field whose turn it is to be tried, and to be forgotten for that. Its
    // next use, if that comes soon, has it learned again.
    [[nodiscard]] std::optional<std::size_t> next_to_try(const LearningRule& rule, std::uint64_t entries) {
        if (++entries_since_trial_ < rule.trial_every) [[likely]]
            return std::nullopt;
        entries_since_trial_ = 0;
        for (std::size_t i = 0; i < vmx::field_count; ++i) {
            next_tried_ = (next_tried_ + 1) % vmx::field_count;
            if (!contains(next_tried_)) continue;
            begin_counting(entries);
            uses_[next_tried_] = static_cast<std::uint8_t>(rule.uses - 1);
            return next_tried_;
        }
        return std::nullopt;
    }

    // Another VMCS of L1's has the place. Nothing is learned, and what was counted does not count.
    void begin() {
        counting_ = false;
        counted_at_ = never;
    }

private:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    void begin_counting(std::uint64_t entries) {
        counting_ = true;
        since_ = entries;
        uses_.fill(0);
    }
    void fill_places() {
        places_written_.fill(written_);
        places_saved_.fill(saved_);
    }

    FieldSet read_;
    FieldSet written_;
    FieldSet saved_;
    unsigned count_ = 0;
    std::uint32_t entries_since_trial_ = 0;
    std::size_t next_tried_ = 0;
    // By L1's entries.
    bool counting_ = false;
    std::uint64_t since_ = 0;  // `uses_` was begun
    std::uint64_t counted_at_ = never;
    FieldSet counted_;  // since then
    std::array<std::uint8_t, vmx::field_count> uses_{};
    Places places_written_;
    Places places_saved_;
};

}  // namespace flatback::nested
