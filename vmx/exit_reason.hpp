// Basic exit reasons (SDM 3D appendix C) and the exit-reason field (SDM 3C table 25-18).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flatback::vmx {

// clang-format off
enum class ExitReason : std::uint32_t {
    exception_or_nmi                  = 0,
    external_interrupt                = 1,
    triple_fault                      = 2,
    init_signal                       = 3,
    startup_ipi                       = 4,
    io_smi                            = 5,
    other_smi                         = 6,
    interrupt_window                  = 7,
    nmi_window                        = 8,
    task_switch                       = 9,
    cpuid                             = 10,
    getsec                            = 11,
    hlt                               = 12,
    invd                              = 13,
    invlpg                            = 14,
    rdpmc                             = 15,
    rdtsc                             = 16,
    rsm                               = 17,
    vmcall                            = 18,
    vmclear                           = 19,
    vmlaunch                          = 20,
    vmptrld                           = 21,
    vmptrst                           = 22,
    vmread                            = 23,
    vmresume                          = 24,
    vmwrite                           = 25,
    vmxoff                            = 26,
    vmxon                             = 27,
    control_register_access           = 28,
    mov_dr                            = 29,
    io_instruction                    = 30,
    rdmsr                             = 31,
    wrmsr                             = 32,
    entry_failure_guest_state         = 33,
    entry_failure_msr_loading         = 34,
    mwait                             = 36,
    monitor_trap_flag                 = 37,
    monitor                           = 39,
    pause                             = 40,
    entry_failure_machine_check       = 41,
    tpr_below_threshold               = 43,
    apic_access                       = 44,
    virtualized_eoi                   = 45,
    gdtr_or_idtr_access               = 46,
    ldtr_or_tr_access                 = 47,
    ept_violation                     = 48,
    ept_misconfiguration              = 49,
    invept                            = 50,
    rdtscp                            = 51,
    vmx_preemption_timer_expired      = 52,
    invvpid                           = 53,
    wbinvd_or_wbnoinvd                = 54,
    xsetbv                            = 55,
    apic_write                        = 56,
    rdrand                            = 57,
    invpcid                           = 58,
    vmfunc                            = 59,
    encls                             = 60,
    rdseed                            = 61,
    page_modification_log_full        = 62,
    xsaves                            = 63,
    xrstors                           = 64,
    pconfig                           = 65,
    spp_related_event                 = 66,
    umwait                            = 67,
    tpause                            = 68,
    loadiwkey                         = 69,
};
// clang-format on

// One past the highest basic reason above; for arrays indexed by reason.
inline constexpr std::size_t exit_reason_count = 70;

// An instruction of VMX (SDM 3C chapter 31) that exits unconditionally in VMX non-root operation, so that
// whoever nests VMX carries it out: all but VMFUNC.
[[nodiscard]] constexpr bool is_vmx_instruction(ExitReason reason) {
    return (reason >= ExitReason::vmcall && reason <= ExitReason::vmxon) || reason == ExitReason::invept ||
           reason == ExitReason::invvpid;
}

// A value of the exit-reason field.
struct ExitReasonField {
    std::uint32_t value = 0;

    static constexpr std::uint32_t basic_mask = 0xffff;
    static constexpr std::uint32_t entry_failure_bit = 1u << 31;

    [[nodiscard]] constexpr ExitReason basic() const { return static_cast<ExitReason>(value & basic_mask); }
    // The guest was never entered: guest state or MSR loading failed.
    [[nodiscard]] constexpr bool is_entry_failure() const { return (value & entry_failure_bit) != 0; }

    [[nodiscard]] static constexpr ExitReasonField entry_failure(ExitReason reason) {
        return {static_cast<std::uint32_t>(reason) | entry_failure_bit};
    }
    friend constexpr bool operator==(ExitReasonField, ExitReasonField) = default;
};

namespace detail {
// clang-format off
inline constexpr std::array<std::string_view, exit_reason_count> exit_reason_names = {
    "exception or NMI", "external interrupt", "triple fault", "INIT signal", "start-up IPI",
    "I/O SMI", "other SMI", "interrupt window", "NMI window", "task switch",
    "CPUID", "GETSEC", "HLT", "INVD", "INVLPG",
    "RDPMC", "RDTSC", "RSM", "VMCALL", "VMCLEAR",
    "VMLAUNCH", "VMPTRLD", "VMPTRST", "VMREAD", "VMRESUME",
    "VMWRITE", "VMXOFF", "VMXON", "control-register access", "MOV DR",
    "I/O instruction", "RDMSR", "WRMSR", "entry failure: guest state", "entry failure: MSR loading",
    "", "MWAIT", "monitor trap flag", "", "MONITOR",
    "PAUSE", "entry failure: machine check", "", "TPR below threshold", "APIC access",
    "virtualized EOI", "access to GDTR or IDTR", "access to LDTR or TR", "EPT violation", "EPT misconfiguration",
    "INVEPT", "RDTSCP", "VMX-preemption timer expired", "INVVPID", "WBINVD or WBNOINVD",
    "XSETBV", "APIC write", "RDRAND", "INVPCID", "VMFUNC",
    "ENCLS", "RDSEED", "page-modification log full", "XSAVES", "XRSTORS",
    "PCONFIG", "SPP-related event", "UMWAIT", "TPAUSE", "LOADIWKEY",
};
// clang-format on
}  // namespace detail

// "?" for a number that is no basic reason.
[[nodiscard]] constexpr std::string_view name_of(ExitReason reason) {
    const auto number = static_cast<std::size_t>(reason);
    if (number >= exit_reason_count || detail::exit_reason_names[number].empty()) return "?";
    return detail::exit_reason_names[number];
}

}  // namespace flatback::vmx
