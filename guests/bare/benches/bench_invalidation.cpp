// What INVVPID and INVEPT cost L1.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"

namespace flatback::guests {
namespace {

void bench_invvpid(std::string_view name, std::uint64_t type) {
    if (!capabilities.has_invvpid() || !capabilities.has_invvpid_type(static_cast<unsigned>(type))) return;
    const InvalidationDescriptor descriptor{1, 0x1000};
    report_bench(name, mean_ticks(bench_iterations, [&] { invvpid(type, descriptor); }));
}

void bench_invept(std::string_view name, std::uint64_t type) {
    if (!capabilities.has_invept() || !capabilities.has_invept_type(static_cast<unsigned>(type))) return;
    const InvalidationDescriptor descriptor{usual_ept().pointer(), 0};
    report_bench(name, mean_ticks(bench_iterations, [&] { invept(type, descriptor); }));
}

}  // namespace

void bench_invalidation() {
    const PageScope scope;
    // The VPID and the EPTP are ones that L2 has run with.
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    run_or_die(l2, reason::vmcall);
    bench_invept("invept_single", invept_type::single_context);
    bench_invept("invept_all", invept_type::all_contexts);
    bench_invvpid("invvpid_address", invvpid_type::individual_address);
    bench_invvpid("invvpid_single", invvpid_type::single_context);
    bench_invvpid("invvpid_all", invvpid_type::all_contexts);
    bench_invvpid("invvpid_single_retaining_globals", invvpid_type::single_context_retaining_globals);
}

}  // namespace flatback::guests
