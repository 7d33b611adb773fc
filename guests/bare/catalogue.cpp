#include "guests/bare/catalogue.hpp"

namespace flatback::guests {
namespace {

constexpr Part checks[] = {
    {"vmx-operation", check_vmx_operation},
    {"vmcs-pointer", check_vmcs_pointer},
    {"vmcs-access", check_vmcs_access},
    {"invalidation", check_invalidation},
    {"launch", check_launch},
    {"entry-controls", check_entry_controls},
    {"entry-host", check_entry_host},
    {"entry-guest", check_entry_guest},
    {"exits", check_exits},
    {"instruction-controls", check_instruction_controls},
    {"virtual-apic", check_virtual_apic},
    {"io-exits", check_io_exits},
    {"msr-exits", check_msr_exits},
    {"control-registers", check_control_registers},
    {"exceptions", check_exceptions},
    {"injection", check_injection},
    {"interrupts", check_interrupts},
    {"windows", check_windows},
    {"timers", check_timers},
    {"ept-violation", check_ept_violation},
    {"ept-memory", check_ept_memory},
    {"without-ept", check_without_ept},
    {"guest-modes", check_guest_modes},
    {"msr-lists", check_msr_lists},
    {"many", check_many},
    {"activity", check_activity},
    {"memory", check_memory},
    {"trace", check_trace},
    {"local-apic", check_local_apic},
};

constexpr Part benches[] = {
    {"instructions", bench_instructions}, {"invalidation", bench_invalidation},
    {"operands", bench_operands},         {"launch", bench_launch},
    {"reflected", bench_reflected},       {"flushes", bench_flushes},
    {"two-vcpus", bench_two_vcpus},       {"ept02", bench_ept02},
    {"longest", bench_longest},           {"trace", bench_trace},
};

}  // namespace

std::span<const Part> all_checks() {
    return checks;
}
std::span<const Part> all_benches() {
    return benches;
}

}  // namespace flatback::guests
