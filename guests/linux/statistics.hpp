#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

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

/// The sums of each `size` samples in a row; a rest that fills no group is left out. `size` is not 0.
[[nodiscard]] inline std::vector<std::uint64_t> sums_of_groups(std::span<const std::uint64_t> samples,
                                                               std::size_t size) {
    std::vector<std::uint64_t> sums;
    for (; samples.size() >= size; samples = samples.subspan(size)) {
        const auto group = samples.first(size);
        sums.push_back(std::accumulate(group.begin(), group.end(), std::uint64_t{0}));
    }
    return sums;
}

}  // namespace flatback::guests
