// How fast the machine with the retentive TLB makes a program's steps.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"

namespace flatback::machine {
namespace {

constexpr std::uint64_t base = 0x4000'0000;
constexpr unsigned pages = 32;

/// Two L2s with EPT and VPIDs 1 and 2 take turns: each touches its pages, changes CR3, meets an INVLPG and
/// exits.
Program set_up() {
    Scenario scenario;
    for (unsigned page = 0; page < pages; ++page) {
        for (const unsigned tables : {1U, 2U}) {
            scenario.edit().map(tables, base + page * 0x1000ULL, layout::data_page(page));
        }
        scenario.ept_map(0, layout::data_page(page), layout::data_page(page));
        scenario.ept_map(1, layout::data_page(page), layout::data_page(page));
    }
    scenario.l1().vmxon();
    scenario.prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
    scenario.l2().vmcall();
    scenario.l1().prepare(layout::vmcs_region(1), {.vpid = 2, .ept = 1, .tables = 2}).vmlaunch();
    scenario.l2().vmcall();
    return scenario.program();
}

Program turns() {
    Scenario scenario;
    for (const unsigned guest : {0U, 1U}) {
        scenario.l1().vmptrld(layout::vmcs_region(guest)).vmresume();
        scenario.l2();
        for (unsigned page = 0; page < pages; ++page) {
            const std::uint64_t address = base + page * 0x1000ULL;
            if (page % 4 == 0) {
                scenario.store(address, page);
            } else {
                scenario.load(address);
            }
        }
        scenario.mov_to_cr3(layout::page_root(1 + guest));
        for (unsigned page = 0; page < 8; ++page) scenario.load(base + page * 0x1000ULL);
        scenario.invlpg(base).load(base).vmcall();
    }
    scenario.edit().map(1, base + 0x1F000, layout::data_page(1));
    scenario.l1().invvpid_address(1, base + 0x1F000);
    return scenario.program();
}

void program_steps(benchmark::State& state) {
    BareWorld world;
    Runner runner(world);
    runner.run(set_up());
    const Program program = turns();
    for (auto _ : state) {
        for (const Step& step : program.steps) benchmark::DoNotOptimize(runner.step(step));
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(program.steps.size()));
}
BENCHMARK(program_steps)->Name("retentive/program_steps");

void repeated_loads(benchmark::State& state) {
    BareWorld world;
    Runner runner(world);
    runner.run(set_up());
    Scenario scenario;
    scenario.l1().vmptrld(layout::vmcs_region(0)).vmresume();
    runner.run(scenario.program());
    Scenario loads;
    loads.l2();
    for (unsigned page = 0; page < pages; ++page) loads.load(base + page * 0x1000ULL);
    for (auto _ : state) {
        for (const Step& step : loads.program().steps) benchmark::DoNotOptimize(runner.step(step));
    }
    state.SetItemsProcessed(state.iterations() * pages);
}
BENCHMARK(repeated_loads)->Name("retentive/repeated_loads");

void permitted_outcomes(benchmark::State& state) {
    BareWorld world;
    Runner runner(world);
    runner.run(set_up());
    Scenario scenario;
    scenario.l1().vmptrld(layout::vmcs_region(0)).vmresume();
    for (const unsigned page : {1U, 2U, 3U}) {
        scenario.l2().load(base);
        scenario.edit().map(1, base, layout::data_page(page));
    }
    runner.run(scenario.program());
    for (auto _ : state) benchmark::DoNotOptimize(world.permitted(0, 0, base, {}));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(permitted_outcomes)->Name("retentive/permitted_outcomes");

}  // namespace
}  // namespace flatback::machine

BENCHMARK_MAIN();
