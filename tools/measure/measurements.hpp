// What `flatback run` measures, by the guests' own keys, and the rule that nothing may be missing.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/transcript.hpp"

namespace flatback::tools {

inline constexpr std::array<std::string_view, 3> modes{"mapped", "single", "off"};

// Of each mode, under modes.MODE.
inline constexpr std::array<std::string_view, 7> mode_values{
    "l1_cpuid_ticks",
    "l2_cpuid_reflected_ticks",
    "l2_io_ticks",
    "alternating_vpid12_ticks",
    "per_l2_entry.l0_exits",
    "per_l2_entry.l2_tag_flushes",
    "per_l2_entry.l1_tag_flushes",
};

// Of the bare L1, under bare_l1, in ticks.
inline constexpr std::array<std::string_view, 43> bare_values{
    "l1_cpuid",
    "l1_vmcall",
    "l1_rdmsr_vmx_basic",
    "vmread",
    "vmwrite",
    "vmread_other",
    "vmwrite_other",
    "vmptrst",
    "vmptrld",
    "vmptrld_two",
    "vmclear",
    "invept_single",
    "invept_all",
    "invvpid_address",
    "invvpid_single",
    "invvpid_all",
    "invvpid_single_retaining_globals",
    "operand_4k",
    "operand_user_4k",
    "operand_user_2m",
    "operand_user_1g",
    "first_vmlaunch",
    "vmcs_setup",
    "l2_vmcall_resume_only",
    "l2_cpuid_reflected",
    "l2_cpuid_reflected_invvpid",
    "l2_cpuid_reflected_alternating",
    "l2_cpuid_reflected_all_loaded",
    "l2_cpuid_reflected_nothing_loaded",
    "l2_cpuid_reflected_bitmaps",
    "l2_cpuid_reflected_bitmaps_all_loaded",
    "two_l2_vcpus",
    "ept02_fill",
    "retouch64",
    "retouch64_after_invept",
    "longest_ept_violation",
    "longest_invept",
    "longest_vmptrld",
    "longest_vmclear",
    "longest_apic_switch",
    "longest_msr_list_at_entry",
    "longest_msr_list_at_entry_vmcs",
    "longest_msr_lists_at_exit",
};

// Of the bare L1, under bare_l1, in hundredths of a count for each reflected exit.
inline constexpr std::array<std::string_view, 5> bare_counts{
    "per_reflected.l0_exits",         "per_reflected.vmreads",          "per_reflected.vmwrites",
    "per_alternating.l2_tag_flushes", "per_alternating.l1_tag_flushes",
};

// Of the bare L1 with trace=on, under bare_l1: what one event of L0's trace costs in hundredths of a tick, by
// what is traced.
inline constexpr std::array<std::string_view, 3> trace_values{
    "trace.per_event_l1_cpuid_x100",
    "trace.per_event_l2_cpuid_reflected_x100",
    "trace.per_event_l2_without_vpid_x100",
};

// The values of one run, and what it says of itself in text.
class RunValues final {
public:
    RunValues() = default;
    explicit RunValues(const Transcript& transcript)
        : values_{transcript.values()}, texts_{transcript.texts()} {}

    // The number that the run printed for the key, as it was printed.
    [[nodiscard]] std::optional<std::string> number(std::string_view key) const;
    [[nodiscard]] std::optional<double> value(std::string_view key) const;
    [[nodiscard]] std::optional<std::string> text(std::string_view key) const;

    // The texts whose keys begin with `prefix`, by the rest of the key.
    [[nodiscard]] std::map<std::string, std::string> texts_under(std::string_view prefix) const;

private:
    std::map<std::string, std::string> values_;
    std::map<std::string, std::string> texts_;
};

struct Measurements {
    std::map<std::string, RunValues, std::less<>> linux_by_mode;
    RunValues bare;            // mapped, shadow VMCS on
    RunValues bare_no_shadow;  // mapped, shadow VMCS off
    RunValues bare_trace;      // mapped, shadow VMCS on, trace=on: what an event costs

    [[nodiscard]] const RunValues& of_mode(std::string_view mode) const;
};

// The words of L1's CPU flags.
[[nodiscard]] std::vector<std::string> words_of(std::string_view text);

// Every value that the report needs and a run has not printed, by a name that says which.
[[nodiscard]] std::vector<std::string> missing_values(const Measurements& measurements);

}  // namespace flatback::tools
