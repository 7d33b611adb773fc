// How many hardware flushes L0 does for one L2 entry, with VPIDs and without.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"

namespace flatback::guests {
namespace {

void bench_one(std::string_view name, const VmcsPlan& plan) {
    const PageScope scope;
    L2 l2{plan};
    run_or_die(l2, reason::cpuid);
    reflect_cpuid(l2);
    CounterInterval interval;
    for (std::uint64_t i = 0; i < bench_iterations; ++i) reflect_cpuid(l2);
    interval.end();
    const std::uint64_t flushes = interval.of(Counter::l2_tag_flushes) + interval.of(Counter::l1_tag_flushes);
    const std::uint64_t entries = interval.of(Counter::l2_entries);
    if (entries == 0) {
        report_error("bare-l1", "L0 counted no entry into L2");
        return;
    }
    report_bench(name, hundredths(flushes, entries));
}

}  // namespace

void bench_flushes() {
    if (!under_flatback()) return;  // only L0 can count them
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    if (capabilities.secondary.may_set(secondary::enable_vpid))
        bench_one("flushes_per_l2_entry_vpid_x100", plan);
    plan.secondary &= ~secondary::enable_vpid;
    plan.vpid = 0;
    bench_one("flushes_per_l2_entry_novpid_x100", plan);
}

}  // namespace flatback::guests
