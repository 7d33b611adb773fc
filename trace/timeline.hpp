// The newest events of several processors' rings, in the order of their times.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ring.hpp"

namespace flatback::trace {

// Nobody writes to the rings meanwhile. Within a ring its own order stands, whatever its times say.
template <std::size_t most_rings>
class Timeline final {
public:
    // The newest `most` of all.
    Timeline(std::span<const Ring* const> rings, std::uint64_t most) {
        for (const Ring* const ring : rings) {
            if (count_ == most_rings) break;
            rings_[count_++] = ring;
        }
        for (std::uint64_t number = 0; number < most; ++number) {
            std::size_t newest = most_rings;
            for (std::size_t i = 0; i < count_; ++i) {
                const Event* const event = rings_[i]->newest(left_[i]);
                if (event == nullptr) continue;
                if (newest == most_rings || event->tsc > rings_[newest]->newest(left_[newest])->tsc)
                    newest = i;
            }
            if (newest == most_rings) break;
            ++left_[newest];
        }
    }

    // From the oldest on; null behind the last.
    [[nodiscard]] const Event* next() {
        std::size_t oldest = most_rings;
        for (std::size_t i = 0; i < count_; ++i) {
            if (left_[i] == 0) continue;
            if (oldest == most_rings || first(i)->tsc < first(oldest)->tsc) oldest = i;
        }
        if (oldest == most_rings) return nullptr;
        const Event* const event = first(oldest);
        --left_[oldest];
        return event;
    }

private:
    [[nodiscard]] const Event* first(std::size_t ring) const { return rings_[ring]->newest(left_[ring] - 1); }

    std::array<const Ring*, most_rings> rings_{};
    std::array<std::uint64_t, most_rings> left_{};  // of each ring's newest: so many are still to come
    std::size_t count_ = 0;
};

}  // namespace flatback::trace
