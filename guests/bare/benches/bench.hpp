// Timing in ticks of the TSC.
#pragma once

#include <cstdint>

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

// Repetitions of a bench's body, from the command line.
extern std::uint64_t bench_iterations;

// Ticks of `iterations` runs of the body, loop and body alike.
template <typename Body>
[[gnu::noinline]] std::uint64_t ticks_of(std::uint64_t iterations, Body body) {
    const std::uint64_t begin = read_tsc();
    for (std::uint64_t i = 0; i < iterations; ++i) {
        body();
        asm volatile("" : : : "memory");
    }
    return read_tsc() - begin;
}

// Mean ticks of one run of the body, the loop's own taken off, rounded to the nearest.
template <typename Body>
std::uint64_t mean_ticks(std::uint64_t iterations, Body body) {
    body();  // L0 may do first-time work: that is measured where it is the subject
    const std::uint64_t empty = ticks_of(iterations, [] {});
    const std::uint64_t full = ticks_of(iterations, body);
    return full <= empty ? 0 : (full - empty + iterations / 2) / iterations;
}

// Prints FLATBACK value bare_l1.NAME.
void report_bench(std::string_view name, std::uint64_t value);

}  // namespace flatback::guests
