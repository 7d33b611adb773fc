#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>

namespace flatback::guests {

/// The median of the samples divided by `operations`, rounded to the nearest integer: one sample is the
/// ticks of a batch of that many operations. The median leaves out the batches that a timer interrupt of
/// L1 fell into. Reorders the samples. `samples` is not empty and `operations` not 0.
[[nodiscard]] inline std::uint64_t median_per_operation(std::span<std::uint64_t> samples,
                                                        std::uint64_t operations) {
    const std::size_t middle = samples.size() / 2;
    std::ranges::nth_element(samples, samples.begin() + static_cast<std::ptrdiff_t>(middle));
    return (samples[middle] + operations / 2) / operations;
}

/// The mean, rounded to the nearest integer. `samples` is not empty.
[[nodiscard]] inline std::uint64_t mean(std::span<const std::uint64_t> samples) {
    const std::uint64_t sum = std::accumulate(samples.begin(), samples.end(), std::uint64_t{0});
    return (sum + samples.size() / 2) / samples.size();
}

}  // namespace flatback::guests
