#include "guests/linux/l0_counters.hpp"

#include <cpuid.h>

namespace flatback::guests {
namespace {

using namespace interface;

constexpr std::uint64_t reads_per_sequence = counter_count + 2 * exit_reason_count;

constexpr std::array<std::string_view, exit_reason_count> reason_names{
    "exception_or_nmi",
    "external_interrupt",
    "triple_fault",
    "init_signal",
    "sipi",
    "io_smi",
    "other_smi",
    "interrupt_window",
    "nmi_window",
    "task_switch",
    "cpuid",
    "getsec",
    "hlt",
    "invd",
    "invlpg",
    "rdpmc",
    "rdtsc",
    "rsm",
    "vmcall",
    "vmclear",
    "vmlaunch",
    "vmptrld",
    "vmptrst",
    "vmread",
    "vmresume",
    "vmwrite",
    "vmxoff",
    "vmxon",
    "control_register_access",
    "mov_dr",
    "io_instruction",
    "rdmsr",
    "wrmsr",
    "entry_failure_guest_state",
    "entry_failure_msr_loading",
    "",
    "mwait",
    "monitor_trap_flag",
    "",
    "monitor",
    "pause",
    "entry_failure_machine_check",
    "",
    "tpr_below_threshold",
    "apic_access",
    "virtualized_eoi",
    "gdtr_or_idtr_access",
    "ldtr_or_tr_access",
    "ept_violation",
    "ept_misconfiguration",
    "invept",
    "rdtscp",
    "vmx_preemption_timer",
    "invvpid",
    "wbinvd",
    "xsetbv",
    "apic_write",
    "rdrand",
    "invpcid",
    "vmfunc",
    "encls",
    "rdseed",
    "page_modification_log_full",
    "xsaves",
    "xrstors",
    "pconfig",
    "spp_related_event",
    "umwait",
    "tpause",
    "loadiwkey",
};

[[nodiscard]] std::uint64_t count_of(const CpuidResult& result) {
    return (std::uint64_t{result.edx} << 32) | result.eax;
}

}  // namespace

CpuidResult hardware_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    CpuidResult result{};
    __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
    return result;
}

std::optional<L0Identity> identify_l0(CpuidFunction cpuid) {
    const CpuidResult base = cpuid(information_leaf, 0);
    if (base.ebx != signature_ebx || base.ecx != signature_ecx || base.edx != signature_edx ||
        base.eax < reflected_leaf) {
        return std::nullopt;
    }
    static constexpr std::array<std::string_view, 3> modes{"mapped", "single", "off"};
    const CpuidResult identity = cpuid(identity_leaf, 0);
    return L0Identity{identity.ebx < modes.size() ? modes[identity.ebx] : "unknown", identity.eax,
                      (identity.ecx & 1) != 0, identity.edx};
}

L0Counters& L0Counters::operator+=(const L0Counters& other) {
    for (std::size_t i = 0; i < counter_count; ++i) {
        counters[i] += other.counters[i];
    }
    for (std::size_t i = 0; i < exit_reason_count; ++i) {
        handled[i] += other.handled[i];
        reflected[i] += other.reflected[i];
    }
    return *this;
}

std::uint64_t read_l0_counter(CpuidFunction cpuid, Counter which) {
    return count_of(cpuid(counter_leaf, static_cast<std::uint32_t>(which)));
}

L0Counters read_l0_counters(CpuidFunction cpuid) {
    L0Counters result;
    std::uint32_t index = 0;
    for (std::uint64_t& counter : result.counters) {
        counter = count_of(cpuid(counter_leaf, index++));
    }
    index = 0;
    for (std::uint64_t& counter : result.handled) {
        counter = count_of(cpuid(handled_leaf, index++));
    }
    index = 0;
    for (std::uint64_t& counter : result.reflected) {
        counter = count_of(cpuid(reflected_leaf, index++));
    }
    return result;
}

L0Counters difference(const L0Counters& before, const L0Counters& after) {
    L0Counters result;
    for (std::size_t i = 0; i < counter_count; ++i) {
        result.counters[i] = after.counters[i] - before.counters[i];
    }
    for (std::size_t i = 0; i < exit_reason_count; ++i) {
        result.handled[i] = after.handled[i] - before.handled[i];
        result.reflected[i] = after.reflected[i] - before.reflected[i];
    }
    const auto leave_out_readings = [](std::uint64_t& counter) {
        counter = counter > reads_per_sequence ? counter - reads_per_sequence : 0;
    };
    leave_out_readings(result.counters[static_cast<std::size_t>(Counter::l0_exits)]);
    leave_out_readings(result.counters[static_cast<std::size_t>(Counter::exits_from_l1)]);
    leave_out_readings(result.handled[cpuid_exit_reason]);
    return result;
}

std::string_view exit_reason_name(std::size_t reason) {
    return reason < reason_names.size() ? reason_names[reason] : std::string_view{};
}

}  // namespace flatback::guests
