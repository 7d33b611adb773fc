// What one event of L0's trace costs: the same work while it records and while it does not.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/trace_reader.hpp"

namespace flatback::guests {
namespace {

// Reports hundredths of a tick: a mean over both events of a world switch is rarely whole.
template <typename Body>
void bench_events(std::string_view name, Body body) {
    body();
    trace_reader::stop();
    const std::uint64_t without = ticks_of(bench_iterations, body);
    trace_reader::start();
    const std::uint64_t with = ticks_of(bench_iterations, body);
    trace_reader::stop();
    // But for the exit that stopped it, which was recorded after the end.
    const std::uint64_t events = trace_reader::written() - 1;
    Line key;
    key << "trace." << name << "_x100";
    report_bench(key.text(), ((with - without) * 100 + events / 2) / events);
}

}  // namespace

void bench_trace() {
    if (!trace_reader::available()) {
        report_text("bare_l1.not_offered", "L0's trace (trace=on)");
        return;
    }
    const PageScope scope;
    bench_events("per_event_l1_cpuid", [] { cpuid(0); });
    {
        L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
        run_or_die(l2, reason::cpuid);
        bench_events("per_event_l2_cpuid_reflected", [&] { reflect_cpuid(l2); });
    }
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    plan.secondary &= ~secondary::enable_vpid;
    plan.vpid = 0;
    L2 l2{plan};
    run_or_die(l2, reason::cpuid);
    // Two of its six events are flushes.
    bench_events("per_event_l2_without_vpid", [&] { reflect_cpuid(l2); });
    trace_reader::start();
}

}  // namespace flatback::guests
