#include "guests/bare/catalogue.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"

namespace flatback::guests {
namespace {

bool ept() {
    return capabilities.secondary.may_set(secondary::enable_ept) && capabilities.has_invept();
}

bool page_modification_log() {
    return ept() && capabilities.secondary.may_set(secondary::enable_pml) &&
           (capabilities.ept_vpid >> 21 & 1) != 0;
}

bool invalidation() {
    return capabilities.has_invept() || capabilities.has_invvpid();
}

using enum Part::Beside;
constexpr std::string_view alone = "it has the other processors do what it says";

constexpr Part checks[] = {
    {"vmx-operation", check_vmx_operation},
    {"vmcs-pointer", check_vmcs_pointer},
    {"vmcs-access", check_vmcs_access},
    {"vmcs-shadowing", check_vmcs_shadowing},
    {"invalidation", check_invalidation, invalidation, "INVEPT and INVVPID"},
    {"launch", check_launch},
    {"entry-controls", check_entry_controls},
    {"entry-host", check_entry_host},
    {"entry-guest", check_entry_guest},
    {"exits", check_exits},
    {"instruction-controls", check_instruction_controls},
    {"virtual-apic", check_virtual_apic},
    {"virtual-interrupts", check_virtual_interrupts},
    {"io-exits", check_io_exits},
    {"msr-exits", check_msr_exits},
    {"control-registers", check_control_registers},
    {"exceptions", check_exceptions},
    {"injection", check_injection},
    {"interrupts", check_interrupts},
    {"nmi-times", check_nmi_times, nullptr, {}, by_turns, "it has the machine's timer send NMIs"},
    {"windows", check_windows},
    {"timers", check_timers},
    {"ept-violation", check_ept_violation, ept, "EPT"},
    {"ept-memory", check_ept_memory, ept, "EPT"},
    {"page-modification-log", check_page_modification_log, page_modification_log,
     "the page-modification log"},
    {"without-ept", check_without_ept},
    {"stale-linear", check_stale_linear},
    {"stale-physical", check_stale_physical, ept, "EPT"},
    {"stale-own", check_stale_own},
    {"guest-modes", check_guest_modes},
    {"msr-lists", check_msr_lists},
    {"many", check_many, ept, "EPT"},
    {"orders", check_orders},
    {"activity", check_activity},
    {"memory", check_memory},
    {"no-memory", check_no_memory},
    {"trace", check_trace},
    {"processors", check_processors, nullptr, {}, never, alone},
    {"processors-destinations", check_destinations, nullptr, {}, never, alone},
    {"processors-apic-of-l2", check_apic_of_l2, nullptr, {}, never, alone},
    {"processors-destinations-of-l2", check_destinations_of_l2, nullptr, {}, never, alone},
    {"processors-bitmaps", check_bitmaps_elsewhere, nullptr, {}, never, alone},
    {"local-apic",
     check_local_apic,
     nullptr,
     {},
     by_turns,
     "it sends to logical destinations, which others have too"},
    {"x2apic", check_real_x2apic, nullptr, {}, never, alone},
};

constexpr Part trials[] = {
    {"hangs-in-l1", hang_in_l1},
    {"hangs-in-l2", hang_in_l2},
    {"hangs-in-a-halted-l2", hang_in_halted_l2},
    {"hangs-by-an-exception", meet_an_exception},
};

constexpr Part benches[] = {
    {"instructions", bench_instructions},   {"invalidation", bench_invalidation},
    {"operands", bench_operands},           {"launch", bench_launch, ept, "EPT"},
    {"reflected", bench_reflected},         {"flushes", bench_flushes},
    {"two-vcpus", bench_two_vcpus},         {"ept02", bench_ept02, ept, "EPT"},
    {"longest", bench_longest, ept, "EPT"}, {"trace", bench_trace},
};

constexpr Part benches_by_name[] = {{"processors", bench_processors}};

}  // namespace

std::span<const Part> all_checks() {
    return checks;
}
std::span<const Part> hanging_parts() {
    return trials;
}
std::span<const Part> all_benches() {
    return benches;
}
std::span<const Part> named_benches() {
    return benches_by_name;
}

}  // namespace flatback::guests
