// What L1 is promised: of the processor's capabilities those that the engine implements, and nothing more.
#pragma once

#include <cstdint>

#include "../vmx/capability.hpp"
#include "../vmx/controls.hpp"
#include "../x86/control_registers.hpp"
#include "vmcs/vmcs12.hpp"

namespace flatback::nested {

struct Capabilities {
    vmx::Capabilities promised;  // what L1's capability MSRs say
    unsigned physical_address_width = 36;
    bool vmcs_shadowing = false;  // of the hardware, for L1 and for its guests
    bool tsc_scaling = false;     // of the hardware, for the host's demands
    bool nmi_window = false;      // the hardware has virtual NMIs and NMI-window exiting
    // A processor whose IDT-vectoring information has, where an exit interrupts the delivery of a virtual
    // interrupt, the event before it. The host may know one.
    bool misreports_virtual_interrupts = false;
    FieldSet hardware_fields = FieldSet::all();
    // Fields that L1 has and the processor may lack: those of what the engine does in its place. They are in
    // no VMCS of the hardware's.
    FieldSet emulated_fields;
    // Bits of CR4 that the processor has and L1 was not promised. L0 masks them from L2.
    std::uint64_t unpromised_cr4 = 0;
    // Of CR3: where the processor has linear-address masking, its two bits.
    std::uint64_t unpromised_cr3 = 0;
    // Secondary controls of every L2 for what its processor is to be: EPT is L0's, and instructions that L1
    // was not promised (SGX) exit.
    std::uint32_t l0_secondary = vmx::secondary::enable_ept;
    // Of IA32_DEBUGCTL: the branch trace store writes to memory past EPT.
    std::uint64_t unpromised_debugctl = x86::debugctl::branch_trace_store;
};

// The fields that the engine knows how to offer, of those that the processor has.
constexpr FieldSet offered_fields(const FieldSet& hardware) {
    FieldSet set;
    hardware.for_each([&set](std::size_t index) {
        if (field_handling[index] != FieldHandling::unsupported) set.insert(index);
    });
    return set;
}

// Those that L1 may have: of the processor's or, of what the engine emulates, without it.
constexpr FieldSet fields_of_l1(const Capabilities& capabilities) {
    FieldSet set = offered_fields(capabilities.hardware_fields);
    set.insert_all(capabilities.emulated_fields);
    return set;
}

namespace offered {
// A control is offered only where the engine implements it and nested/tests check it.
inline constexpr std::uint32_t pin_based = vmx::pin::external_interrupt_exiting | vmx::pin::nmi_exiting |
                                           vmx::pin::virtual_nmis | vmx::pin::activate_vmx_preemption_timer;
inline constexpr std::uint32_t primary =
    vmx::primary::interrupt_window_exiting | vmx::primary::use_tsc_offsetting | vmx::primary::hlt_exiting |
    vmx::primary::invlpg_exiting | vmx::primary::mwait_exiting | vmx::primary::rdpmc_exiting |
    vmx::primary::rdtsc_exiting | vmx::primary::cr3_load_exiting | vmx::primary::cr3_store_exiting |
    vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting | vmx::primary::use_tpr_shadow |
    vmx::primary::nmi_window_exiting | vmx::primary::mov_dr_exiting | vmx::primary::unconditional_io_exiting |
    vmx::primary::use_io_bitmaps | vmx::primary::use_msr_bitmaps | vmx::primary::monitor_exiting |
    vmx::primary::pause_exiting | vmx::primary::activate_secondary_controls;
inline constexpr std::uint32_t secondary =
    vmx::secondary::virtualize_apic_accesses | vmx::secondary::enable_ept |
    vmx::secondary::descriptor_table_exiting | vmx::secondary::enable_rdtscp |
    vmx::secondary::virtualize_x2apic_mode | vmx::secondary::wbinvd_exiting |
    vmx::secondary::unrestricted_guest | vmx::secondary::apic_register_virtualization |
    vmx::secondary::virtual_interrupt_delivery | vmx::secondary::pause_loop_exiting |
    vmx::secondary::rdrand_exiting | vmx::secondary::enable_invpcid | vmx::secondary::rdseed_exiting |
    vmx::secondary::enable_pml | vmx::secondary::use_tsc_scaling | vmx::secondary::enable_xsaves_xrstors;
inline constexpr std::uint32_t vm_exit =
    vmx::exit_control::save_debug_controls | vmx::exit_control::host_address_space_size |
    vmx::exit_control::acknowledge_interrupt_on_exit | vmx::exit_control::save_ia32_pat |
    vmx::exit_control::load_ia32_pat | vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer |
    vmx::exit_control::save_vmx_preemption_timer_value;
inline constexpr std::uint32_t vm_entry =
    vmx::entry_control::load_debug_controls | vmx::entry_control::ia32e_mode_guest |
    vmx::entry_control::load_ia32_pat | vmx::entry_control::load_ia32_efer;
inline constexpr std::uint64_t ept =
    vmx::EptVpidCapability::execute_only | vmx::EptVpidCapability::walk_length_4 |
    vmx::EptVpidCapability::uncacheable | vmx::EptVpidCapability::write_back |
    vmx::EptVpidCapability::page_2m | vmx::EptVpidCapability::page_1g | vmx::EptVpidCapability::invept |
    vmx::EptVpidCapability::accessed_dirty | vmx::EptVpidCapability::invept_single_context |
    vmx::EptVpidCapability::invept_all_contexts;
// CR4 up to protection keys, but for 5-level paging and SMX. What L0 would have to switch between guests is
// not offered.
inline constexpr std::uint64_t cr4 = 0x7fffff & ~(x86::cr4::five_level_paging | x86::cr4::smx_enable |
                                                  (std::uint64_t{1} << 15) | (std::uint64_t{1} << 19));
// All four types together or none: old L1s use type 1 without looking at its bit.
inline constexpr std::uint64_t vpid =
    vmx::EptVpidCapability::invvpid | vmx::EptVpidCapability::invvpid_individual_address |
    vmx::EptVpidCapability::invvpid_single_context | vmx::EptVpidCapability::invvpid_all_contexts |
    vmx::EptVpidCapability::invvpid_single_context_retaining_globals;
}  // namespace offered

// Of virtual-interrupt delivery, without which it is not offered.
inline constexpr FieldSet virtual_interrupt_fields =
    FieldSet::of(vmx::field::guest_interrupt_status, vmx::field::eoi_exit_bitmap_0,
                 vmx::field::eoi_exit_bitmap_1, vmx::field::eoi_exit_bitmap_2, vmx::field::eoi_exit_bitmap_3);
inline constexpr FieldSet posted_interrupt_fields = FieldSet::of(
    vmx::field::posted_interrupt_notification_vector, vmx::field::posted_interrupt_descriptor_address);

// ENCLS, which is #UD where the processor has no SGX; with the bitmap of this control all ones. ENCLU and
// ENCLV have no enclave to do anything with where nobody could make one.
inline constexpr std::uint32_t hidden_instructions = vmx::secondary::enable_encls_exiting;

// hardware: the real processor's, read from its MSRs. offer_vpid: "enable VPID", its capability bits and
// INVVPID appear together or not at all. hardware_fields: those whose VMREAD the processor knows.
// unpromised_cr3: see Capabilities. posted_interrupts: the host's Port has end_interrupt(), and L1 gets
// posted interrupts, which the engine processes, where the processor has what they build on.
constexpr Capabilities make_capabilities(const vmx::Capabilities& hardware, unsigned physical_address_width,
                                         bool offer_vpid, const FieldSet& hardware_fields = FieldSet::all(),
                                         std::uint64_t unpromised_cr3 = 0, bool posted_interrupts = false) {
    Capabilities all;
    all.unpromised_cr3 = unpromised_cr3;
    all.l0_secondary |= hardware.secondary_processor_based.allowed1 & hidden_instructions;
    all.hardware_fields = hardware_fields;
    all.physical_address_width = physical_address_width;
    // L0 writes exit information into the shadow VMCS.
    all.vmcs_shadowing = hardware.secondary_processor_based.may_set(vmx::secondary::vmcs_shadowing) &&
                         hardware.misc.may_write_exit_information();
    all.tsc_scaling = hardware.secondary_processor_based.may_set(vmx::secondary::use_tsc_scaling) &&
                      hardware_fields.contains(
                          static_cast<std::size_t>(vmx::dense_index(vmx::field::tsc_multiplier.encoding)));
    all.nmi_window = hardware.pin_based.may_set(vmx::pin::nmi_exiting | vmx::pin::virtual_nmis) &&
                     hardware.primary_processor_based.may_set(vmx::primary::nmi_window_exiting);

    vmx::Capabilities& promised = all.promised;
    promised.basic.value =
        vmcs12_revision | (std::uint64_t{vmcs12_region_size} << vmx::BasicCapability::region_size_shift) |
        (std::uint64_t{6} << vmx::BasicCapability::memory_type_shift) | vmx::BasicCapability::true_controls |
        (hardware.basic.value &
         (vmx::BasicCapability::ins_outs_information | vmx::BasicCapability::any_error_code));
    // Reserved controls that must be 1 stay so; one that need not be 1 in hardware need not be for L1.
    const auto offer = [](vmx::ControlCapability of_hardware, std::uint32_t what) {
        return vmx::ControlCapability{of_hardware.allowed0 & ~what,
                                      of_hardware.allowed1 & (what | of_hardware.allowed0)};
    };
    promised.pin_based = offer(hardware.pin_based, offered::pin_based);
    promised.primary_processor_based = offer(hardware.primary_processor_based, offered::primary);
    const bool delivers_virtual_interrupts = virtual_interrupt_fields.without(hardware_fields).empty();
    promised.secondary_processor_based =
        offer(hardware.secondary_processor_based,
              (offered::secondary &
               ~(delivers_virtual_interrupts ? 0U : vmx::secondary::virtual_interrupt_delivery)) |
                  (offer_vpid ? vmx::secondary::enable_vpid : 0) |
                  (all.vmcs_shadowing ? vmx::secondary::vmcs_shadowing : 0));
    promised.vm_exit = offer(hardware.vm_exit, offered::vm_exit);
    // The processor's own would acknowledge an interrupt that may be the host's, and there are some without.
    if (posted_interrupts &&
        promised.secondary_processor_based.may_set(vmx::secondary::virtual_interrupt_delivery) &&
        promised.vm_exit.may_set(vmx::exit_control::acknowledge_interrupt_on_exit)) {
        promised.pin_based.allowed1 |= vmx::pin::process_posted_interrupts;
        all.emulated_fields = posted_interrupt_fields;
    }
    promised.vm_entry = offer(hardware.vm_entry, offered::vm_entry);
    promised.ept_vpid.value = hardware.ept_vpid.value & (offered::ept | (offer_vpid ? offered::vpid : 0));

    // Activity states hold the processor as they do without L0: until an event, or the end of a host's turn.
    promised.misc.value =
        hardware.misc.value &
        (vmx::MiscCapability::preemption_timer_rate_mask | vmx::MiscCapability::store_efer_lma |
         vmx::MiscCapability::activity_hlt | vmx::MiscCapability::activity_shutdown |
         vmx::MiscCapability::activity_wait_for_sipi |
         (std::uint64_t{0x1ff} << vmx::MiscCapability::cr3_target_count_shift) |
         vmx::MiscCapability::zero_length_injection |
         (all.vmcs_shadowing ? vmx::MiscCapability::vmwrite_any_field : 0));
    promised.cr0 = hardware.cr0;
    promised.cr4 = hardware.cr4;
    promised.cr4.fixed1 &= offered::cr4;
    all.unpromised_cr4 = hardware.cr4.fixed1 & ~promised.cr4.fixed1;
    std::uint64_t highest = 0;
    fields_of_l1(all).for_each([&highest](std::size_t i) {
        const std::uint64_t index = vmx::index(vmx::all_fields[i].encoding);
        if (index > highest) highest = index;
    });
    promised.vmcs_enum = highest << 1;
    return all;
}

}  // namespace flatback::nested
