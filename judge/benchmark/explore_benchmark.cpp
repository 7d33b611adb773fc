// How fast every state is visited.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "judge/explore/search.hpp"

namespace flatback::machine {
namespace {

void explore_states(benchmark::State& state) {
    explore::Options options;
    options.depth = static_cast<unsigned>(state.range(0));
    std::int64_t states = 0;
    for (auto _ : state) states += static_cast<std::int64_t>(explore::explore(options).states);
    state.SetItemsProcessed(states);
}
BENCHMARK(explore_states)->Name("explore/states/depth")->Arg(5)->Arg(6)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace flatback::machine
