// What the host itself wants of L2: intercepts, a TSC offset, the end of the virtual CPU's turn. A value that
// it sets for a virtual CPU (NestedVcpu::set_demands), whose L2s then run under L1's controls and these.
#pragma once

#include <cstdint>
#include <optional>

#include "../vmx/controls.hpp"
#include "../x86/exception.hpp"
#include "capabilities.hpp"

namespace flatback::nested {

struct Demands {
    // Each external interrupt that comes while L2 runs is the host's: L1 and L2 get what the host gives them
    // (SDM 3C table 25-5).
    bool external_interrupts = false;
    // With it: the processor acknowledges the interrupt, whose vector is then in the exit's interruption
    // information (SDM 3C table 25-13). What L1 has there counts only for exits that L1 is shown.
    bool acknowledge_interrupts = false;
    // Each NMI that comes while L2 runs goes to the host, by Port::return_nmi(), which gives the guest its
    // own by NestedVcpu::deliver(). As Configuration::host_takes_nmis, but for as long as it is asked.
    bool nmis = false;
    // Instructions, by their bits of the primary processor-based controls: of demandable::instructions.
    // MOV to and from CR8 only in an L2 whose CR8 is no TPR shadow of L1's. PAUSE, where L1 uses pause-loop
    // exiting, only when that exits.
    std::uint32_t instructions = 0;
    // The same of the secondary controls: of demandable::secondary_instructions (WBINVD and WBNOINVD, the
    // descriptor-table registers, RDRAND, RDSEED).
    std::uint32_t secondary_instructions = 0;
    // Bit n: exception n (SDM 3C 25.6.3), of demandable::exceptions. #PF: each, whatever its error code.
    std::uint32_t exceptions = 0;
    // Bits of CR0 and CR4: MOV, CLTS and LMSW exit where they would change one. L2 reads them as they are.
    // The host that does the instruction writes the guest's register in L2's VMCS.
    std::uint64_t cr0_mask = 0;
    std::uint64_t cr4_mask = 0;
    // IN, INS, OUT, OUTS at any port.
    bool all_ports = false;
    // ... at the ports of Port::l0_io_bitmap(), which without this go to Port::handle_io().
    bool kept_ports = false;
    // RDMSR and WRMSR of the MSRs of Port::l0_msr_bitmap(), which without this go to Port::read_l1_msr() and
    // write_l1_msr().
    bool kept_msrs = false;
    // By how much the time-stamp counter of L1's runs faster than the processor's: fixed point, with 48 bits
    // behind the point (SDM 3C 25.6.5, 26.3). Needs "use TSC scaling". L1's own is the host's affair in
    // vmcs01.
    std::uint64_t tsc_multiplier = same_rate;
    static constexpr std::uint64_t same_rate = std::uint64_t{1} << 48;
    // In TSC ticks, modulo 2^64: what L1's time-stamp counter is ahead of the processor's, multiplied. L2
    // reads the sum with what L1 makes of it for its guests: multiplied by L1's multiplier, plus L1's offset
    // (SDM 3C 26.3). L1's own is the host's affair in vmcs01.
    std::uint64_t tsc_offset = 0;
    // The processor's time-stamp counter at which L2 exits to the host, by the VMX-preemption timer (SDM
    // 3C 26.5.1): not before it, and at most one unit of the timer and an instruction behind it. In the past:
    // at once. Needs Port::time_stamp_counter(). L1's own timer runs on meanwhile, by the same counter.
    std::optional<std::uint64_t> turn_ends{};

    friend constexpr bool operator==(const Demands&, const Demands&) = default;
};

namespace demandable {
inline constexpr std::uint32_t instructions =
    vmx::primary::hlt_exiting | vmx::primary::invlpg_exiting | vmx::primary::mwait_exiting |
    vmx::primary::rdpmc_exiting | vmx::primary::rdtsc_exiting | vmx::primary::cr3_load_exiting |
    vmx::primary::cr3_store_exiting | vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting |
    vmx::primary::mov_dr_exiting | vmx::primary::monitor_exiting | vmx::primary::pause_exiting;
inline constexpr std::uint32_t secondary_instructions =
    vmx::secondary::wbinvd_exiting | vmx::secondary::descriptor_table_exiting |
    vmx::secondary::rdrand_exiting | vmx::secondary::rdseed_exiting;
// Not #DB, which may be a trap, and for which DR6 and DR7 would have to be written; not vector 2.
inline constexpr std::uint32_t exceptions = 0x3fff'ffff & ~(1U << static_cast<unsigned>(x86::Vector::debug) |
                                                            1U << static_cast<unsigned>(x86::Vector::nmi));
}  // namespace demandable

// Whether this processor can do it.
[[nodiscard]] constexpr bool can_meet(const Demands& demands, const Capabilities& capabilities) {
    const vmx::Capabilities& has = capabilities.promised;  // of these controls all that the processor has
    std::uint32_t pin = demands.external_interrupts ? vmx::pin::external_interrupt_exiting : 0;
    if (demands.nmis) pin |= vmx::pin::nmi_exiting | vmx::pin::virtual_nmis;
    if (demands.turn_ends) pin |= vmx::pin::activate_vmx_preemption_timer;
    std::uint32_t primary = demands.instructions;
    if (demands.all_ports) primary |= vmx::primary::unconditional_io_exiting;
    if (demands.kept_ports) primary |= vmx::primary::use_io_bitmaps;
    const bool scales = demands.tsc_multiplier != Demands::same_rate;
    if (demands.tsc_offset != 0 || scales) primary |= vmx::primary::use_tsc_offsetting;
    std::uint32_t exit =
        demands.acknowledge_interrupts ? vmx::exit_control::acknowledge_interrupt_on_exit : 0;
    if (demands.turn_ends) exit |= vmx::exit_control::save_vmx_preemption_timer_value;
    return (demands.instructions & ~demandable::instructions) == 0 &&
           (demands.secondary_instructions & ~demandable::secondary_instructions) == 0 &&
           (demands.exceptions & ~demandable::exceptions) == 0 &&
           has.secondary_processor_based.may_set(demands.secondary_instructions) &&
           (!scales || (capabilities.tsc_scaling && demands.tsc_multiplier != 0)) &&
           (!demands.acknowledge_interrupts || demands.external_interrupts) && has.pin_based.may_set(pin) &&
           has.primary_processor_based.may_set(primary) && has.vm_exit.may_set(exit);
}

}  // namespace flatback::nested
