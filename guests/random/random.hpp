// Numbers from a seed: the same ones on every machine, under an L0 or without one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace flatback::guests {

// SplitMix64: one addition and a mix, so that any two seeds give unrelated sequences.
class Random final {
public:
    constexpr explicit Random(std::uint64_t seed) : state_{seed} {}

    // The sequence of step `step` of case `number`: what one step draws changes no other step, so that steps
    // can be left out.
    constexpr Random(std::uint64_t seed, std::uint64_t number, std::uint64_t step)
        : state_{Random{Random{seed}.bits() ^ number}.bits() ^ (step + 1) * 0xD1342543DE82EF95} {}

    constexpr std::uint64_t bits() {
        state_ += 0x9E3779B97F4A7C15;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
        return mixed ^ mixed >> 31;
    }

    // A number from 0 to end - 1.
    constexpr std::uint64_t below(std::uint64_t end) { return (bits() >> 32) * end >> 32; }

    // True once in `times`.
    constexpr bool one_in(std::uint64_t times) { return below(times) == 0; }

    template <typename T, std::size_t N>
    constexpr T of(const T (&choices)[N]) {
        return choices[below(N)];
    }

    constexpr std::uint64_t number(std::initializer_list<std::uint64_t> choices) {
        return choices.begin()[below(choices.size())];
    }

    // Each of the bits in `candidates` with probability one half.
    constexpr std::uint64_t some_of(std::uint64_t candidates) { return bits() & candidates; }

    // One bit of `candidates`, which is not 0.
    constexpr std::uint64_t bit_of(std::uint64_t candidates) {
        std::uint64_t count = 0;
        for (std::uint64_t left = candidates; left != 0; left &= left - 1) ++count;
        for (std::uint64_t nth = below(count); nth > 0; --nth) candidates &= candidates - 1;
        return candidates & ~(candidates - 1);
    }

private:
    std::uint64_t state_;
};

}  // namespace flatback::guests
