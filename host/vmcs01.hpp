// The VMCS under which L1 runs: L1's interrupts, ports and instructions are its own; L0 keeps to itself
// memory (by EPT), MSRs (by the bitmap), the ports of I/O bitmaps where it has any, and the bits of CR0 and
// CR4 that VMX operation holds.
//
// The engine relies on what is set here: docs/porting.md, "vmcs01".
#pragma once

#include <cstdint>

#include "../nested/capabilities.hpp"
#include "../tag/numbers.hpp"
#include "../vmx/capability.hpp"
#include "../vmx/controls.hpp"
#include "../vmx/ept.hpp"
#include "../vmx/field.hpp"
#include "../x86/address.hpp"
#include "../x86/expected.hpp"
#include "control_registers.hpp"
#include "l1_state.hpp"

namespace flatback::host {

// Controls that the processor does not have: `name` is the field's, `controls` its bits.
struct MissingControls {
    const char* name;
    std::uint32_t controls;
};

// What vmcs01 points to, and the tag of L1: NestedVcpu::vpid01().
struct Vmcs01Places {
    vmx::Eptp ept01_pointer;
    x86::Hpa msr_bitmap;
    tag::TagNumber tag = tag::TagNumber::none;
    bool io_bitmaps = false;  // there are, at the addresses that Port::write_host_state() wrote
    bool takes_nmis = false;  // nested::Configuration::host_takes_nmis
};

namespace detail {

// needed: without it L1 cannot run. wanted: lets L1 use what CPUID shows it.
[[nodiscard]] constexpr Expected<std::uint32_t, MissingControls> control(const char* name,
                                                                         vmx::ControlCapability capability,
                                                                         std::uint32_t needed,
                                                                         std::uint32_t wanted = 0) {
    const std::uint32_t value = capability.adjust(needed | (wanted & capability.allowed1));
    if ((value & needed) != needed) return Unexpected{MissingControls{name, needed & ~value}};
    return value;
}

// Every instruction that CPUID shows works in L1, and what it does not show (PCONFIG, SGX's) is #UD.
inline constexpr std::uint32_t l1_instructions =
    vmx::secondary::enable_rdtscp | vmx::secondary::enable_invpcid | vmx::secondary::enable_xsaves_xrstors |
    vmx::secondary::enable_user_wait_and_pause | nested::hidden_instructions;

template <typename V>
void put_l1_state(V& vmcs, const L1State& state) {
    namespace field = vmx::field;
    vmcs.put(field::cr0_guest_host_mask, held_cr0);
    vmcs.put(field::cr0_read_shadow, state.cr0);
    vmcs.put(field::guest_cr0, state.cr0 | held_cr0);
    vmcs.put(field::cr4_guest_host_mask, held_cr4 | ~nested::offered::cr4);
    vmcs.put(field::cr4_read_shadow, state.cr4);
    vmcs.put(field::guest_cr4, state.cr4 | held_cr4);
    vmcs.put(field::guest_cr3, state.cr3);
    vmcs.put(field::guest_ia32_efer, state.efer);
    vmcs.put(field::guest_ia32_pat, state.pat);
    vmcs.put(field::guest_ia32_debugctl, 0);
    vmcs.put(field::guest_dr7, state.dr7);
    vmcs.put(field::guest_rip, state.rip);
    vmcs.put(field::guest_rsp, state.rsp);
    vmcs.put(field::guest_rflags, state.rflags);
    vmcs.put(field::guest_interruptibility_state, 0);
    vmcs.put(field::guest_activity_state, 0);
    vmcs.put(field::guest_pending_debug_exceptions, 0);
    vmcs.put(field::guest_ia32_sysenter_cs, 0);
    vmcs.put(field::guest_ia32_sysenter_esp, 0);
    vmcs.put(field::guest_ia32_sysenter_eip, 0);
    for (std::uint32_t number = 0; number < state.segments.size(); ++number) {  // two encodings apart
        const L1Segment& segment = state.segments[number];
        vmcs.put_encoded(field::guest_es_selector.encoding + 2 * number, segment.selector);
        vmcs.put_encoded(field::guest_es_base.encoding + 2 * number, segment.base);
        vmcs.put_encoded(field::guest_es_limit.encoding + 2 * number, segment.limit);
        vmcs.put_encoded(field::guest_es_access_rights.encoding + 2 * number, segment.access_rights);
    }
    vmcs.put(field::guest_gdtr_base, state.gdtr.base);
    vmcs.put(field::guest_gdtr_limit, state.gdtr.limit);
    vmcs.put(field::guest_idtr_base, state.idtr.base);
    vmcs.put(field::guest_idtr_limit, state.idtr.limit);
}

}  // namespace detail

// Everything of vmcs01, which is current, but the host-state area (Port::write_host_state). vmcs: a
// nested::CurrentVmcs, or what has its put functions. processor: the real one's capabilities.
template <typename V>
[[nodiscard]] Expected<void, MissingControls> set_up_vmcs01(V& vmcs, const vmx::Capabilities& processor,
                                                            const Vmcs01Places& places,
                                                            const L1State& start) {
    namespace field = vmx::field;
    const bool long_mode = (start.efer & x86::efer::long_mode_active) != 0;
    const bool tagged = places.tag != tag::TagNumber::none;
    const auto pin = detail::control("pin-based controls", processor.pin_based,
                                     places.takes_nmis ? vmx::pin::nmi_exiting | vmx::pin::virtual_nmis : 0);
    const auto primary =
        detail::control("primary processor-based controls", processor.primary_processor_based,
                        vmx::primary::use_msr_bitmaps | vmx::primary::activate_secondary_controls |
                            (places.io_bitmaps ? vmx::primary::use_io_bitmaps : 0));
    const auto secondary =
        detail::control("secondary processor-based controls", processor.secondary_processor_based,
                        vmx::secondary::enable_ept | vmx::secondary::unrestricted_guest |
                            (tagged ? vmx::secondary::enable_vpid : 0),
                        detail::l1_instructions);
    // The engine keeps L1's EFER, PAT and debug controls in vmcs01 while L2 runs.
    const auto exit =
        detail::control("VM-exit controls", processor.vm_exit,
                        vmx::exit_control::host_address_space_size | vmx::exit_control::save_debug_controls |
                            vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                            vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer);
    const auto entry = detail::control(
        "VM-entry controls", processor.vm_entry,
        vmx::entry_control::load_debug_controls | vmx::entry_control::load_ia32_pat |
            vmx::entry_control::load_ia32_efer | (long_mode ? vmx::entry_control::ia32e_mode_guest : 0));
    for (const auto* each : {&pin, &primary, &secondary, &exit, &entry}) {
        if (!*each) return Unexpected{each->error()};
    }
    vmcs.put(field::pin_based_vm_execution_controls, *pin);
    vmcs.put(field::primary_processor_based_vm_execution_controls, *primary);
    vmcs.put(field::secondary_processor_based_vm_execution_controls, *secondary);
    vmcs.put(field::vm_exit_controls, *exit);
    vmcs.put(field::vm_entry_controls, *entry);
    if (processor.secondary_processor_based.may_set(vmx::secondary::enable_vpid))
        vmcs.put(field::virtual_processor_identifier, tag::raw(places.tag));
    vmcs.put(field::ept_pointer, places.ept01_pointer.value);
    vmcs.put(field::address_of_msr_bitmaps, places.msr_bitmap.value());
    vmcs.put(field::vmcs_link_pointer, ~std::uint64_t{0});
    if (processor.secondary_processor_based.may_set(vmx::secondary::enable_xsaves_xrstors))
        vmcs.put(field::xss_exiting_bitmap, 0);
    if ((*secondary & vmx::secondary::enable_encls_exiting) != 0)
        vmcs.put(field::encls_exiting_bitmap, ~std::uint64_t{0});
    vmcs.put(field::exception_bitmap, 0);
    vmcs.put(field::page_fault_error_code_mask, 0);
    vmcs.put(field::page_fault_error_code_match, 0);
    vmcs.put(field::cr3_target_count, 0);
    vmcs.put(field::vm_exit_msr_store_count, 0);
    vmcs.put(field::vm_exit_msr_load_count, 0);
    vmcs.put(field::vm_entry_msr_load_count, 0);
    vmcs.put(field::vm_entry_interruption_information, 0);
    detail::put_l1_state(vmcs, start);
    return {};
}

}  // namespace flatback::host
