// The ring that L0 records into: fixed memory, the oldest event goes first.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "event.hpp"

namespace flatback::trace {

// One writer, and readers only while it does not write.
class Ring final {
public:
    Ring() = default;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    // count: how many events `memory` has room for; the capacity is the power of two that fits, none for 0.
    // cpu: whose events they are.
    void give(Event* memory, std::size_t count, unsigned cpu) {
        cpu_bits_ = make_what({}, cpu, {}, {}, 0, 0);
        const std::size_t capacity = std::bit_floor(count);
        events_ = capacity == 0 ? nullptr : memory;
        mask_ = capacity == 0 ? 0 : capacity - 1;
        written_ = 0;
    }

    [[nodiscard]] std::size_t capacity() const { return events_ == nullptr ? 0 : mask_ + 1; }
    // How many were recorded since the last clear(), those that are overwritten too.
    [[nodiscard]] std::uint64_t written() const { return written_; }
    [[nodiscard]] std::uint64_t kept() const { return written_ < capacity() ? written_ : capacity(); }
    void clear() { written_ = 0; }

    // Room for the next event, which the caller fills. Only where there is capacity.
    [[nodiscard, gnu::always_inline]] Event& next() { return events_[written_++ & mask_]; }

    // What every event of this ring has in Event::what: ready, as a shift is an instruction.
    [[nodiscard]] std::uint64_t cpu_bits() const { return cpu_bits_; }

    // What stands in a place of the ring: event n is in place n mod capacity. null where nothing was
    // recorded.
    [[nodiscard]] const Event* at(std::uint64_t place) const {
        return place < kept() ? &events_[place] : nullptr;
    }
    // The event before the `back`th from the end: 0 is the newest.
    [[nodiscard]] const Event* newest(std::uint64_t back) const {
        return back < kept() ? &events_[(written_ - 1 - back) & mask_] : nullptr;
    }

private:
    Event* events_ = nullptr;
    std::size_t mask_ = 0;
    std::uint64_t written_ = 0;
    std::uint64_t cpu_bits_ = 0;
};

}  // namespace flatback::trace
