// What a host has for one virtual CPU and its guests have not taken yet: one queue for all kinds of events.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "event_gate.hpp"

namespace flatback::nested {

// Belongs to the host, and is no more than a value: of NMIs, INIT signals, start-up IPIs and machine checks
// one each, as a processor keeps them, of external interrupts one a vector. NestedVcpu::deliver() takes out
// what the guest takes. Sharing: none; what comes from other processors comes by a request.
class PendingEvents final {
public:
    constexpr void add(const Event& event) {
        kinds_ |= bit(event.kind);
        if (event.kind == EventKind::start_up) start_up_page_ = event.vector;
        if (event.kind != EventKind::external_interrupt) return;
        if (event.unacknowledged) {
            unacknowledged_ = true;
        } else {
            vectors_[event.vector / 64] |= std::uint64_t{1} << event.vector % 64;
        }
    }
    // Taken, or withdrawn: an interrupt line that is low again.
    constexpr void remove(const Event& event) {
        if (event.kind != EventKind::external_interrupt) {
            kinds_ &= static_cast<std::uint8_t>(~bit(event.kind));
            return;
        }
        if (event.unacknowledged) {
            unacknowledged_ = false;
        } else {
            vectors_[event.vector / 64] &= ~(std::uint64_t{1} << event.vector % 64);
        }
        const std::uint64_t any = vectors_[0] | vectors_[1] | vectors_[2] | vectors_[3];
        if (any == 0 && !unacknowledged_) kinds_ &= static_cast<std::uint8_t>(~bit(event.kind));
    }
    constexpr void clear() { *this = {}; }

    [[nodiscard]] constexpr bool empty() const { return kinds_ == 0; }
    [[nodiscard]] constexpr bool has(EventKind kind) const { return (kinds_ & bit(kind)) != 0; }
    // The one of a kind that comes first: of external interrupts the highest vector that is acknowledged,
    // since the interrupt controller has let it through already, and then what is still to be acknowledged.
    [[nodiscard]] constexpr std::optional<Event> first(EventKind kind) const {
        if (!has(kind)) return std::nullopt;
        if (kind == EventKind::start_up) return Event::start_up(start_up_page_);
        if (kind != EventKind::external_interrupt) return Event{kind};
        for (unsigned word = 4; word-- > 0;) {
            if (vectors_[word] == 0) continue;
            const auto highest = 63U - static_cast<unsigned>(__builtin_clzll(vectors_[word]));
            return Event::interrupt(static_cast<std::uint8_t>(word * 64 + highest));
        }
        return Event::interrupt_to_acknowledge();
    }

    friend constexpr bool operator==(const PendingEvents&, const PendingEvents&) = default;

private:
    [[nodiscard]] static constexpr std::uint8_t bit(EventKind kind) {
        return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
    }

    std::uint8_t kinds_ = 0;
    std::uint8_t start_up_page_ = 0;
    bool unacknowledged_ = false;
    std::array<std::uint64_t, 4> vectors_{};
};

}  // namespace flatback::nested
