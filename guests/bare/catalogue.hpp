// Every check and bench of this guest, by the name that `only=` takes.
#pragma once

#include <span>

#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/part.hpp"

namespace flatback::guests {

std::span<const Part> all_checks();
std::span<const Part> all_benches();
// Only where the command line names one.
std::span<const Part> named_benches();

// Those that fail on purpose, and only where they are named.
std::span<const Part> hanging_parts();

// check_*.cpp
void check_processors();
void check_apic_of_l2();
void check_destinations();
void check_destinations_of_l2();
void check_bitmaps_elsewhere();
void check_vmx_operation();
void check_vmcs_pointer();
void check_vmcs_access();
void check_vmcs_shadowing();
void check_invalidation();
void check_launch();
void check_entry_controls();
void check_entry_host();
void check_entry_guest();
void check_exits();
void check_instruction_controls();
void check_virtual_apic();
void check_virtual_interrupts();
void check_io_exits();
void check_msr_exits();
void check_control_registers();
void check_exceptions();
void check_injection();
void check_interrupts();
void check_nmi_times();
void check_windows();
void check_timers();
void check_ept_violation();
void check_ept_memory();
void check_page_modification_log();
void check_without_ept();
void check_stale_linear();
void check_stale_physical();
void check_stale_own();
void check_guest_modes();
void check_msr_lists();
void check_many();
void check_orders();
void check_activity();
void check_memory();
void check_no_memory();
void check_trace();
void check_local_apic();
void check_real_x2apic();

// trial_broken.cpp
std::span<const Part> broken_parts();

// trial_l0_stops.cpp
std::span<const Part> l0_stopping_parts();

// trial_second_processor.cpp
std::span<const Part> second_processor_parts();

// trial_hangs.cpp
void hang_in_l1();
void hang_in_l2();
void hang_in_halted_l2();
void meet_an_exception();

// bench_*.cpp
void bench_instructions();
void bench_invalidation();
void bench_operands();
void bench_launch();
void bench_reflected();
void bench_flushes();
void bench_two_vcpus();
void bench_ept02();
void bench_longest();
void bench_trace();
void bench_processors();

}  // namespace flatback::guests
