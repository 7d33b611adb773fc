// What each VM entry and exit of one of L1's VMCSs has to do besides, as L1's controls have it (Slot::work).
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../vmcs/vmcs12.hpp"
#include "compose.hpp"

namespace flatback::nested {

namespace detail {
enum Work : std::uint32_t {
    inherit_debug = 1U << 0,  // not loaded: L2 gets what L1 has
    inherit_pat = 1U << 1,
    inherit_efer = 1U << 2,
    rewrite_debug = 1U << 3,  // loaded but not saved: vmcs02's saved value is not what to load
    rewrite_pat = 1U << 4,
    rewrite_efer = 1U << 5,
    pass_on_pat = 1U << 6,  // the exit does not load it: L1 gets what L2 had
    pass_on_efer = 1U << 7,
    msr_bitmap = 1U << 8,
    entry_msr_list = 1U << 9,
    exit_store_list = 1U << 10,
    exit_load_list = 1U << 11,
    paging_without_ept = 1U << 12,
    timer = 1U << 13,            // the preemption timer, of L1 or of the host's turns or of both, starts
    inherit_saved = 1U << 14,    // what is inherited is saved by exits: L1's word may be newest in vmcs02
    saves_timer = 1U << 15,      // the exit leaves its value where L1's VMREAD finds it
    no_virtual_apic = 1U << 16,  // L1's address leads to no memory
    io_bitmaps = 1U << 17,       // to be merged, and not with every stale MSR bitmap
    demanded = 1U << 18,         // the host's demands change fields that are otherwise L1's
    shows_vmcs = 1U << 19,       // VMCS shadowing: what the link pointer names is L2's
    learned_fields = 1U << 20,   // L1 reaches more fields without an exit than the field sheet has it
};

constexpr std::uint32_t work_of(const Vmcs12& vmcs12) {
    namespace entry = vmx::entry_control;
    namespace exit = vmx::exit_control;
    const std::uint32_t in = vmcs12.get(vmx::field::vm_entry_controls);
    const std::uint32_t out = vmcs12.get(vmx::field::vm_exit_controls);
    std::uint32_t work = 0;
    const auto one = [&](std::uint32_t load, std::uint32_t save, Work inherit, Work rewrite) {
        if ((in & load) == 0) {
            work |= inherit | ((out & save) != 0 ? inherit_saved : 0U);
        } else if ((out & save) == 0) {
            work |= rewrite;
        }
    };
    one(entry::load_debug_controls, exit::save_debug_controls, inherit_debug, rewrite_debug);
    one(entry::load_ia32_pat, exit::save_ia32_pat, inherit_pat, rewrite_pat);
    one(entry::load_ia32_efer, exit::save_ia32_efer, inherit_efer, rewrite_efer);
    if ((out & exit::load_ia32_pat) == 0) work |= pass_on_pat;
    if ((out & exit::load_ia32_efer) == 0) work |= pass_on_efer;
    const std::uint32_t primary = vmcs12.get(vmx::field::primary_processor_based_vm_execution_controls);
    if ((primary & vmx::primary::use_msr_bitmaps) != 0) work |= msr_bitmap;
    const std::uint32_t secondary = secondary_controls_of(vmcs12);
    if ((secondary & vmx::secondary::enable_ept) == 0) work |= paging_without_ept;
    if ((secondary & vmx::secondary::vmcs_shadowing) != 0) work |= shows_vmcs;
    const std::uint32_t pin = vmcs12.get(vmx::field::pin_based_vm_execution_controls);
    if ((pin & vmx::pin::activate_vmx_preemption_timer) != 0) {
        work |= timer | ((out & exit::save_vmx_preemption_timer_value) != 0 ? saves_timer : 0U);
    }
    if (vmcs12.get(vmx::field::vm_entry_msr_load_count) != 0) work |= entry_msr_list;
    if (vmcs12.get(vmx::field::vm_exit_msr_store_count) != 0) work |= exit_store_list;
    if (vmcs12.get(vmx::field::vm_exit_msr_load_count) != 0) work |= exit_load_list;
    return work;
}

}  // namespace detail

}  // namespace flatback::nested
