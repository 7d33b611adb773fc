#include "guests/bare/benches/bench.hpp"

namespace flatback::guests {

std::uint64_t bench_iterations = 1000;

void report_bench(std::string_view name, std::uint64_t value) {
    Line key;
    report_value((key << "bare_l1." << name).text(), value);
}

}  // namespace flatback::guests
