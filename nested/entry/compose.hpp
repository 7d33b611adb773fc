// vmcs02's controls: L1's, with what its host needs of every L2 besides, and what it demands. Pure: a
// function of sets of controls.
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/exit_qualification.hpp"
#include "../../vmx/field.hpp"
#include "../../x86/control_registers.hpp"
#include "../demands.hpp"
#include "../vmcs/vmcs12.hpp"

namespace flatback::nested {

// What the engine's host needs of every L2, whatever L1 asked for: MSRs, EPT violations and the few ports
// that a host may keep exit. What it wants besides it demands (nested/demands.hpp).
struct HostControls {
    std::uint32_t pin_based = 0;
    std::uint32_t primary = vmx::primary::activate_secondary_controls;
    std::uint32_t secondary = vmx::secondary::enable_ept;
    // A 64-bit host, and each of these registers known to it.
    std::uint32_t exit = vmx::exit_control::host_address_space_size | vmx::exit_control::save_debug_controls |
                         vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                         vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer;
    std::uint32_t entry = vmx::entry_control::load_debug_controls | vmx::entry_control::load_ia32_pat |
                          vmx::entry_control::load_ia32_efer;
    // Bits that L2 finds clear, and faults when it sets them, but where L1's own mask comes first.
    std::uint64_t hidden_cr4 = 0;
    // The host has I/O bitmaps of its own. Where all I/O of L2's exits, they add nothing.
    bool keeps_ports = false;
};

struct ComposedControls {
    std::uint32_t pin_based = 0;
    std::uint32_t primary = 0;
    std::uint32_t secondary = 0;  // but for "enable VPID", which goes with the tag
    std::uint32_t exit = 0;
    std::uint32_t entry = 0;
    std::uint64_t cr4_guest_host_mask = 0;
    std::uint64_t cr4_read_shadow = 0;
    bool l1_uses_vpid = false;
    bool l1_uses_ept = false;
    bool l1_logs_writes = false;

    friend constexpr bool operator==(const ComposedControls&, const ComposedControls&) = default;
};

// L1's secondary controls as the processor sees them: all zero where they are not activated.
[[nodiscard]] constexpr std::uint32_t secondary_controls_of(const Vmcs12& vmcs12) {
    return (vmcs12.get(vmx::field::primary_processor_based_vm_execution_controls) &
            vmx::primary::activate_secondary_controls) != 0
               ? vmcs12.get(vmx::field::secondary_processor_based_vm_execution_controls)
               : 0;
}

// vmcs12: with the newest values, and found good. Without demands. (Inlined, as an entry with other controls
// waits for it.)
[[nodiscard, gnu::always_inline]] constexpr ComposedControls compose(const Vmcs12& vmcs12,
                                                                     const HostControls& host) {
    namespace field = vmx::field;
    ComposedControls composed;
    const std::uint32_t secondary12 = secondary_controls_of(vmcs12);
    composed.l1_uses_vpid = (secondary12 & vmx::secondary::enable_vpid) != 0;
    composed.l1_uses_ept = (secondary12 & vmx::secondary::enable_ept) != 0;
    composed.l1_logs_writes = (secondary12 & vmx::secondary::enable_pml) != 0;
    // Posted interrupts the engine processes itself (nested/vcpu/posted_interrupts.hpp).
    composed.pin_based =
        (vmcs12.get(field::pin_based_vm_execution_controls) & ~vmx::pin::process_posted_interrupts) |
        host.pin_based;
    composed.primary = vmcs12.get(field::primary_processor_based_vm_execution_controls) | host.primary;
    if (host.keeps_ports && (composed.primary & vmx::primary::unconditional_io_exiting) == 0)
        composed.primary |= vmx::primary::use_io_bitmaps;
    // L1's page-modification log is kept by L0 (nested/ept/page_modification_log.hpp).
    constexpr std::uint32_t not_the_processors = vmx::secondary::enable_vpid | vmx::secondary::enable_pml;
    composed.secondary = (secondary12 & ~not_the_processors) | host.secondary;
    // The timer goes on where it stood when the host took an exit for itself.
    const bool timer = (composed.pin_based & vmx::pin::activate_vmx_preemption_timer) != 0;
    composed.exit = vmcs12.get(field::vm_exit_controls) | host.exit |
                    (timer ? vmx::exit_control::save_vmx_preemption_timer_value : 0);
    composed.entry = vmcs12.get(field::vm_entry_controls) | host.entry;
    const std::uint64_t mask12 = vmcs12.get(field::cr4_guest_host_mask);
    composed.cr4_guest_host_mask = mask12 | host.hidden_cr4;
    composed.cr4_read_shadow = vmcs12.get(field::cr4_read_shadow) & ~(host.hidden_cr4 & ~mask12);
    return composed;
}

// The same with the host's demands, which the processor can meet.
[[nodiscard]] constexpr ComposedControls with_demands(ComposedControls composed, const Demands& demands) {
    namespace exit = vmx::exit_control;
    namespace primary = vmx::primary;
    if (demands.external_interrupts) {
        composed.pin_based |= vmx::pin::external_interrupt_exiting;
        composed.exit &= ~exit::acknowledge_interrupt_on_exit;
        if (demands.acknowledge_interrupts) composed.exit |= exit::acknowledge_interrupt_on_exit;
    }
    if (demands.nmis) composed.pin_based |= vmx::pin::nmi_exiting | vmx::pin::virtual_nmis;
    if (demands.turn_ends) {
        composed.pin_based |= vmx::pin::activate_vmx_preemption_timer;
        composed.exit |= exit::save_vmx_preemption_timer_value;
    }
    std::uint32_t instructions = demands.instructions;
    // CR8 is L1's memory then, and no TPR.
    if ((composed.primary & primary::use_tpr_shadow) != 0)
        instructions &= ~(primary::cr8_load_exiting | primary::cr8_store_exiting);
    // Where each PAUSE exits the processor counts no loops (SDM 3C 26.1.3).
    if ((composed.secondary & vmx::secondary::pause_loop_exiting) != 0)
        instructions &= ~primary::pause_exiting;
    composed.primary |= instructions;
    // The bitmaps would come before it (SDM 3C table 25-6).
    if (demands.all_ports)
        composed.primary = (composed.primary | primary::unconditional_io_exiting) & ~primary::use_io_bitmaps;
    composed.secondary |= demands.secondary_instructions;
    const bool scales = demands.tsc_multiplier != Demands::same_rate;
    if (demands.tsc_offset != 0 || scales) {
        // What L1 multiplies by counts only where it has an offset (SDM 3C 25.6.5).
        if ((composed.primary & primary::use_tsc_offsetting) == 0)
            composed.secondary &= ~vmx::secondary::use_tsc_scaling;
        composed.primary |= primary::use_tsc_offsetting;
        if (scales) composed.secondary |= vmx::secondary::use_tsc_scaling;
    }
    return composed;
}

// Of the fields that vmcs02 has as L1 wrote them: what it has with the host's demands.
struct DemandedFields {
    std::uint32_t exception_bitmap = 0;
    std::uint32_t page_fault_error_code_mask = 0;
    std::uint32_t page_fault_error_code_match = 0;
    std::uint32_t cr3_target_count = 0;
    std::uint64_t tsc_offset = 0;
    std::uint64_t tsc_multiplier = Demands::same_rate;  // where vmcs02 has "use TSC scaling"

    friend constexpr bool operator==(const DemandedFields&, const DemandedFields&) = default;
};

// What the processor makes of a time-stamp counter (SDM 3C 26.3).
[[nodiscard]] constexpr std::uint64_t scaled_tsc(std::uint64_t counter, std::uint64_t multiplier) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>(Wide{counter} * multiplier >> 48);
}
// The same of the distance between two.
[[nodiscard]] constexpr std::uint64_t scaled_tsc_offset(std::uint64_t offset, std::uint64_t multiplier) {
    const bool negative = static_cast<std::int64_t>(offset) < 0;
    const std::uint64_t scaled = scaled_tsc(negative ? 0 - offset : offset, multiplier);
    return negative ? 0 - scaled : scaled;
}

// L2's guest/host masks and read shadows of CR0 and CR4 with the host's demands. without: as vmcs02 has them
// otherwise; real: the guest's register.
struct DemandedMask {
    std::uint64_t mask = 0;
    std::uint64_t shadow = 0;

    friend constexpr bool operator==(const DemandedMask&, const DemandedMask&) = default;
};
[[nodiscard]] constexpr DemandedMask mask_with_demands(DemandedMask without, std::uint64_t demanded,
                                                       std::uint64_t real) {
    const std::uint64_t hosts_alone = demanded & ~without.mask;
    return {.mask = without.mask | demanded,
            .shadow = (without.shadow & ~hosts_alone) | (real & hosts_alone)};
}

// Whether this access to CR0 or CR4 exits by the mask (SDM 3C 26.1.3). value: that a MOV writes.
[[nodiscard]] constexpr bool exits_by(DemandedMask masked, vmx::ControlRegisterAccess access,
                                      std::uint64_t value) {
    using enum vmx::ControlRegisterAccess::Kind;
    switch (access.kind) {
        case mov_to:
            return ((value ^ masked.shadow) & masked.mask) != 0;
        case clts:
            return (masked.mask & masked.shadow & x86::cr0::task_switched) != 0;
        case lmsw: {
            // It sets PE and does not clear it.
            const std::uint64_t others = 0xe;
            const std::uint64_t source = access.lmsw_source;
            return ((source ^ masked.shadow) & masked.mask & others) != 0 ||
                   (source & ~masked.shadow & masked.mask & x86::cr0::protection_enable) != 0;
        }
        case mov_from:
            break;
    }
    return false;
}

inline constexpr FieldSet demanded_fields =
    FieldSet::of(vmx::field::cr0_guest_host_mask, vmx::field::cr0_read_shadow, vmx::field::exception_bitmap,
                 vmx::field::page_fault_error_code_mask, vmx::field::page_fault_error_code_match,
                 vmx::field::cr3_target_count, vmx::field::tsc_offset);

[[nodiscard]] constexpr bool changes_fields(const Demands& demands) {
    return demands.exceptions != 0 || demands.tsc_offset != 0 ||
           demands.tsc_multiplier != Demands::same_rate || (demands.cr0_mask | demands.cr4_mask) != 0 ||
           (demands.instructions & vmx::primary::cr3_load_exiting) != 0;
}

// most_cr3_targets: of the processor (SDM 3D A.6).
[[nodiscard]] constexpr DemandedFields fields_with_demands(const Vmcs12& vmcs12, const Demands& demands,
                                                           std::uint32_t most_cr3_targets) {
    namespace field = vmx::field;
    DemandedFields fields{.exception_bitmap = vmcs12.get(field::exception_bitmap) | demands.exceptions,
                          .page_fault_error_code_mask = vmcs12.get(field::page_fault_error_code_mask),
                          .page_fault_error_code_match = vmcs12.get(field::page_fault_error_code_match),
                          .cr3_target_count = vmcs12.get(field::cr3_target_count),
                          .tsc_offset = demands.tsc_offset,
                          .tsc_multiplier = demands.tsc_multiplier};
    constexpr std::uint32_t page_fault = 1U << static_cast<unsigned>(x86::Vector::page_fault);
    // Every one matches then (SDM 3C 25.6.3); which of them L1 wants, routing tells.
    if ((demands.exceptions & page_fault) != 0)
        fields.page_fault_error_code_mask = fields.page_fault_error_code_match = 0;
    // Too many stay, for the processor to refuse.
    if ((demands.instructions & vmx::primary::cr3_load_exiting) != 0 &&
        fields.cr3_target_count <= most_cr3_targets)
        fields.cr3_target_count = 0;
    // L2 reads the counter of L1's, multiplied by what L1 says, plus L1's offset. (The product of two
    // multipliers is rounded: less than one part in 2^48.)
    if ((vmcs12.get(field::primary_processor_based_vm_execution_controls) &
         vmx::primary::use_tsc_offsetting) == 0)
        return fields;
    if ((secondary_controls_of(vmcs12) & vmx::secondary::use_tsc_scaling) != 0) {
        const std::uint64_t l1s = vmcs12.get(field::tsc_multiplier);
        const std::uint64_t both = scaled_tsc(fields.tsc_multiplier, l1s);
        fields.tsc_multiplier = both != 0 ? both : 1;  // what the processor takes (SDM 3C 27.2.1.1)
        fields.tsc_offset = scaled_tsc_offset(fields.tsc_offset, l1s);
    }
    fields.tsc_offset += vmcs12.get(field::tsc_offset);
    return fields;
}

}  // namespace flatback::nested
