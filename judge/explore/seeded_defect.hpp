#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace flatback::machine::explore {

/// What an L0 may do wrong with what the tag manager tells it. The manager itself stays as it is. Where one
/// of `flatback machine mutants` does the same, the name is the same.
enum class SeededDefect : std::uint8_t {
    none,
    drops_invvpid,
    drops_invept,
    drops_address,
    drops_retaining_globals,
    flushes_vpid01,
    address_for_context,
    retains_globals_always,
    neighbour_of_address,
    invvpid_on_processor_0,
    invept_on_processor_0,
    lost_with_failed_entry,
    one_vpid12_over_vmxoff,
    evicted_tag_not_flushed,
    on_processor_0,
    taken_page_not_told,
    ignores_type_0,
    ignores_type_1,
    ignores_type_2,
    ignores_type_3,
    invept_elsewhere_forgotten,
    occupant_not_flushed,
    given_back_tag_not_flushed,
    // Of an L0 whose L1 has two virtual CPUs.
    call_lost,
    call_answered_late,
    call_not_made,
    one_mark_for_both_cpus,
    one_mark_of_ept_contexts_for_both_cpus,
    invvpid_after_a_move_forgotten,
    arrival_not_flushed,
    // Of an L0 that has two VMs.
    turn_without_flushes,
    count,
    first_of_two_cpus = call_lost,
    first_of_two_vms = turn_without_flushes,
};

[[nodiscard]] constexpr bool needs_two_cpus(SeededDefect defect) {
    return defect >= SeededDefect::first_of_two_cpus && defect < SeededDefect::first_of_two_vms;
}
[[nodiscard]] constexpr bool needs_two_vms(SeededDefect defect) {
    return defect >= SeededDefect::first_of_two_vms;
}

[[nodiscard]] std::string_view name_of(SeededDefect defect);
[[nodiscard]] std::optional<SeededDefect> find_defect(std::string_view name);

}  // namespace flatback::machine::explore
