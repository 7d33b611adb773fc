// What the emulator is known to have wrong, so that an L0 that has it right differs from it. Each is set
// aside by the step that would meet it; which, and how often, is printed at the end.
#pragma once

#include <cstdint>

namespace flatback::guests {

enum class Deviation : std::uint8_t {
    resume_flag_of_fault,
    resume_flag_cleared_early,
    nmi_while_blocked,
    virtual_nmi_blocking_left,
    nmi_blocking_after_failure,
    single_step_while_blocking,
    stack_privilege,
    code_selector_privilege,
    long_mode_without_paging,
    paging_turned_off,
    invalidation_reads_first,
    invalidation_type_of_32_bits,
    null_stack_segment,
    error_code_without_protection,
    error_code_in_real_mode,
};
constexpr unsigned deviations = 15;

void set_aside(Deviation deviation);

// "FLATBACK text random.set_aside.NAME TIMES SECTION: RULE; the emulator: WHAT" of each that was met.
void report_deviations();

}  // namespace flatback::guests
