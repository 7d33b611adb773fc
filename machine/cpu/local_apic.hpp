#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace flatback::machine {

/// The local APIC as far as it decides which external interrupt comes next (SDM 3A 11.8): a request for each
/// vector, what is in service, and the task priority. How software reaches its registers is not modelled:
/// whoever drives the machine writes them.
class LocalApic final {
public:
    /// Sets the vector's bit in IRR; a second request of the same one is the first. Vectors 0 to 15 are
    /// illegal (SDM 3A 11.5.2), and come to nothing.
    void request(std::uint8_t vector) {
        if (vector >= 16) requested_.set(vector);
    }
    /// The vector that the processor is interrupted for: the highest request, where its class (vector / 16)
    /// is above that of the task priority and above that of what is in service (SDM 3A 11.8.3.1).
    [[nodiscard]] std::optional<std::uint8_t> pending() const {
        const auto highest = requested_.highest();
        if (!highest) return std::nullopt;
        const unsigned in_service = in_service_.highest().value_or(0) / 16U;
        const unsigned task = task_priority_ / 16U;
        const unsigned needed = in_service > task ? in_service : task;
        return *highest / 16U > needed ? highest : std::nullopt;
    }
    /// The processor acknowledges: the vector of `pending`, which there must be, goes from IRR to ISR.
    std::uint8_t acknowledge() {
        const std::uint8_t vector = *pending();
        requested_.clear(vector);
        in_service_.set(vector);
        return vector;
    }
    /// A write to EOI: the highest vector in service is done.
    void end_of_interrupt() {
        if (const auto highest = in_service_.highest()) in_service_.clear(*highest);
    }
    void set_task_priority(std::uint8_t value) { task_priority_ = value; }
    /// What only a model of it can do: a vector was acknowledged, and its interrupt was not taken after all.
    void take_back(std::uint8_t vector) {
        in_service_.clear(vector);
        request(vector);
    }

    [[nodiscard]] bool is_requested(std::uint8_t vector) const { return requested_.has(vector); }
    [[nodiscard]] bool is_in_service(std::uint8_t vector) const { return in_service_.has(vector); }

    friend bool operator==(const LocalApic&, const LocalApic&) = default;

private:
    /// IRR or ISR.
    class Vectors {
    public:
        void set(unsigned vector) { words_[vector / 64] |= std::uint64_t{1} << vector % 64; }
        void clear(unsigned vector) { words_[vector / 64] &= ~(std::uint64_t{1} << vector % 64); }
        [[nodiscard]] bool has(unsigned vector) const {
            return (words_[vector / 64] >> vector % 64 & 1) != 0;
        }
        [[nodiscard]] std::optional<std::uint8_t> highest() const {
            for (unsigned vector = 256; vector-- > 0;) {
                if (words_[vector / 64] == 0) {
                    vector -= vector % 64;
                } else if (has(vector)) {
                    return static_cast<std::uint8_t>(vector);
                }
            }
            return std::nullopt;
        }
        friend bool operator==(const Vectors&, const Vectors&) = default;

    private:
        std::array<std::uint64_t, 4> words_{};
    };

    Vectors requested_{};
    Vectors in_service_{};
    std::uint8_t task_priority_ = 0;
};

}  // namespace flatback::machine
