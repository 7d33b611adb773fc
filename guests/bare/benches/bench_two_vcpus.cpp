// Two L2 virtual CPUs that take turns on this one L1 CPU.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/part.hpp"

namespace flatback::guests {

void bench_two_vcpus() {
    const PageScope scope;
    VmcsPlan plan = usual_plan(physical(l2_vmcall_loop), usual_ept().pointer());
    L2 first{plan};
    run_or_die(first, reason::vmcall);
    plan.vpid = 2;
    L2 second{plan};
    run_or_die(second, reason::vmcall);
    // One turn: VMPTRLD, two VMWRITE, VMRESUME, exit.
    const auto turn = [&](L2& l2, const std::uint64_t& address) {
        vmptrld(address);
        write(field::guest_rip, plan.rip);
        write(field::guest_rsp, 0);
        enter_l2(&l2.registers, false);
    };
    const std::uint64_t first_address = first.vmcs_address();
    const std::uint64_t second_address = second.vmcs_address();
    const std::uint64_t pair = mean_ticks(bench_iterations, [&] {
        turn(first, first_address);
        turn(second, second_address);
    });
    if (read(field::exit_reason) != reason::vmcall) {
        leave_part("two_l2_vcpus: an exit of another reason");
    }
    report_bench("two_l2_vcpus", pair / 2);
}

}  // namespace flatback::guests
