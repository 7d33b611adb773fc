#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace flatback::machine {

/// A multimap from 64-bit keys to values by open addressing with linear probing. One key may hold several
/// values (what memory said at different times), never the same value twice. Not a key: ~0.
template <typename Value>
class EntryStore {
public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    /// Calls `visit(value)` for every value of `key`.
    template <typename Visitor>
    void for_key(std::uint64_t key, Visitor&& visit) const {
        if (size_ == 0) return;
        for (std::size_t place = home(key); slots_[place].key != no_key; place = next(place)) {
            if (slots_[place].key == key) visit(slots_[place].value);
        }
    }

    template <typename Visitor>
    void for_each(Visitor&& visit) const {
        for (const Slot& slot : slots_) {
            if (slot.key != no_key) visit(slot.key, slot.value);
        }
    }

    /// False if `key` holds an equal value already.
    bool insert(std::uint64_t key, const Value& value) {
        if (4 * (size_ + 1) > 3 * slots_.size()) grow();
        std::size_t place = home(key);
        for (; slots_[place].key != no_key; place = next(place)) {
            if (slots_[place].key == key && slots_[place].value == value) return false;
        }
        slots_[place] = {key, value};
        ++size_;
        return true;
    }

    /// Removes the values of `key` for which `predicate(value)` holds; returns how many.
    template <typename Predicate>
    std::size_t erase_key(std::uint64_t key, Predicate&& predicate) {
        if (size_ == 0) return 0;
        std::size_t removed = 0;
        std::size_t place = home(key);
        while (slots_[place].key != no_key) {
            if (slots_[place].key == key && predicate(slots_[place].value)) {
                close_gap(place);  // another entry may now be here
                --size_;
                ++removed;
            } else {
                place = next(place);
            }
        }
        return removed;
    }
    std::size_t erase_key(std::uint64_t key) {
        return erase_key(key, [](const Value&) { return true; });
    }

    /// Removes every entry for which `predicate(key, value)` holds; returns how many.
    template <typename Predicate>
    std::size_t erase_if(Predicate&& predicate) {
        if (size_ == 0) return 0;
        const std::size_t before = size_;
        std::vector<Slot> old(slots_.size());
        old.swap(slots_);
        size_ = 0;
        for (const Slot& slot : old) {
            if (slot.key != no_key && !predicate(slot.key, slot.value)) insert(slot.key, slot.value);
        }
        return before - size_;
    }

    std::size_t clear() noexcept {
        const std::size_t removed = size_;
        if (removed != 0) {
            for (Slot& slot : slots_) slot.key = no_key;
            size_ = 0;
        }
        return removed;
    }

private:
    static constexpr std::uint64_t no_key = ~std::uint64_t{0};

    struct Slot {
        std::uint64_t key = no_key;
        Value value{};
    };

    [[nodiscard]] std::size_t home(std::uint64_t key) const noexcept {
        return static_cast<std::size_t>((key * 0x9E37'79B9'7F4A'7C15ULL) >> 32) & (slots_.size() - 1);
    }
    [[nodiscard]] std::size_t next(std::size_t place) const noexcept {
        return (place + 1) & (slots_.size() - 1);
    }

    void grow() {
        std::vector<Slot> old(slots_.empty() ? 8 : 2 * slots_.size());
        old.swap(slots_);
        for (const Slot& slot : old) {
            if (slot.key == no_key) continue;
            std::size_t place = home(slot.key);
            while (slots_[place].key != no_key) place = next(place);
            slots_[place] = slot;
        }
    }

    /// Empties `gap` and moves back what was pushed past it, so that probing still finds everything.
    void close_gap(std::size_t gap) noexcept {
        std::size_t place = next(gap);
        while (slots_[place].key != no_key) {
            const std::size_t wanted = home(slots_[place].key);
            // The entry may move to the gap if the gap is not before its home, going around.
            const bool movable =
                ((place - wanted) & (slots_.size() - 1)) >= ((place - gap) & (slots_.size() - 1));
            if (movable) {
                slots_[gap] = slots_[place];
                gap = place;
            }
            place = next(place);
        }
        slots_[gap].key = no_key;
    }

    std::vector<Slot> slots_;
    std::size_t size_ = 0;
};

}  // namespace flatback::machine
