// What a new L2 costs: filling its VMCS, and its first entry.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/part.hpp"

namespace flatback::guests {

void bench_launch() {
    constexpr std::uint64_t launches = 8;
    std::uint64_t fill = 0;
    std::uint64_t launch = 0;
    for (std::uint64_t i = 0; i < launches; ++i) {
        const PageScope scope;
        // A hierarchy that L0 has not seen, as for a new virtual machine.
        Ept12 hierarchy;
        hierarchy.map_identity(0, 64 << 20, EptLevel::page_2m);
        const InvalidationDescriptor descriptor{hierarchy.pointer(), 0};
        invept(invept_type::single_context, descriptor);
        const VmcsPlan plan = usual_plan(physical(l2_vmcall_loop), hierarchy.pointer());
        L2 l2{plan};
        fill += ticks_of(1, [&] { fill_vmcs(plan); });
        launch += ticks_of(1, [&] { enter_l2(&l2.registers, true); });
        if (read(field::exit_reason) != reason::vmcall) {
            leave_part("first_vmlaunch: an exit of another reason");
        }
    }
    report_bench("vmcs_setup", fill / launches);
    report_bench("first_vmlaunch", launch / launches);
}

}  // namespace flatback::guests
