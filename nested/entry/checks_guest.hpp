// Checks on the guest-state area (SDM 3C 27.3.1). A failure is a VM exit with basic reason 33 and bit 31 set,
// and the exit qualification of exit_qualification_of().
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../x86/msr.hpp"
#include "../../x86/paging.hpp"
#include "checks_non_register.hpp"
#include "checks_rules.hpp"
#include "checks_segments.hpp"

namespace flatback::nested {

// Control registers, debug registers and MSRs (SDM 3C 27.3.1.1).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_control_registers(const View& view,
                                                                   const EntryRules& rules) {
    namespace field = vmx::field;
    namespace entry_control = vmx::entry_control;
    using detail::broken;
    const std::uint64_t cr0 = view.get(field::guest_cr0);
    const std::uint64_t cr4 = view.get(field::guest_cr4);
    const std::uint32_t entry_controls = view.get(field::vm_entry_controls);
    const bool paging = (cr0 & x86::cr0::paging) != 0;
    const bool ia32e_guest = (entry_controls & entry_control::ia32e_mode_guest) != 0;
    const bool load_debug_controls = (entry_controls & entry_control::load_debug_controls) != 0;
    const bool unrestricted_guest =
        (detail::effective_secondary_controls(view) & vmx::secondary::unrestricted_guest) != 0;

    if (!rules.promised.cr0.permits(
            cr0, unrestricted_guest ? x86::cr0::protection_enable | x86::cr0::paging : 0)) {
        return broken(EntryCheck::guest_cr0_fixed_bits);
    }
    if (paging && (cr0 & x86::cr0::protection_enable) == 0)
        return broken(EntryCheck::guest_paging_needs_protection);
    if (!rules.promised.cr4.permits(cr4)) return broken(EntryCheck::guest_cr4_fixed_bits);
    if ((cr4 & x86::cr4::control_flow_enforcement) != 0 && (cr0 & x86::cr0::write_protect) == 0) {
        return broken(EntryCheck::guest_cet_needs_write_protect);
    }
    if (load_debug_controls && (view.get(field::guest_ia32_debugctl) & ~rules.debugctl_bits) != 0) {
        return broken(EntryCheck::guest_debugctl_reserved_bits);
    }
    if (ia32e_guest && !paging) return broken(EntryCheck::ia32e_guest_needs_paging);
    if (ia32e_guest && (cr4 & x86::cr4::physical_address_extension) == 0) {
        return broken(EntryCheck::ia32e_guest_needs_pae);
    }
    if (!ia32e_guest && (cr4 & x86::cr4::pcid_enable) != 0)
        return broken(EntryCheck::guest_pcid_needs_ia32e_guest);
    if (!x86::fits_physical_width(view.get(field::guest_cr3), rules.physical_address_width)) {
        return broken(EntryCheck::guest_cr3_width);
    }
    if (load_debug_controls && view.get(field::guest_dr7) >> 32 != 0)
        return broken(EntryCheck::guest_dr7_high_bits);
    if (!rules.is_canonical(view.get(field::guest_ia32_sysenter_esp))) {
        return broken(EntryCheck::guest_sysenter_esp_canonical);
    }
    if (!rules.is_canonical(view.get(field::guest_ia32_sysenter_eip))) {
        return broken(EntryCheck::guest_sysenter_eip_canonical);
    }
    if ((entry_controls & entry_control::load_ia32_perf_global_ctrl) != 0 &&
        (view.get(field::guest_ia32_perf_global_ctrl) & ~rules.perf_global_ctrl_bits) != 0) {
        return broken(EntryCheck::guest_perf_global_ctrl_reserved_bits);
    }
    if ((entry_controls & entry_control::load_ia32_pat) != 0 &&
        !x86::is_valid_pat(view.get(field::guest_ia32_pat))) {
        return broken(EntryCheck::guest_pat_memory_types);
    }
    if ((entry_controls & entry_control::load_ia32_efer) != 0) {
        const std::uint64_t efer = view.get(field::guest_ia32_efer);
        const bool active = (efer & x86::efer::long_mode_active) != 0;
        const bool enabled = (efer & x86::efer::long_mode_enable) != 0;
        if ((efer & ~rules.efer_bits) != 0) return broken(EntryCheck::guest_efer_reserved_bits);
        if (active != ia32e_guest) return broken(EntryCheck::guest_efer_lma_matches_ia32e_guest);
        if (paging && active != enabled) return broken(EntryCheck::guest_efer_lme_matches_lma);
    }
    if ((entry_controls & entry_control::load_ia32_bndcfgs) != 0) {
        const std::uint64_t bndcfgs = view.get(field::guest_ia32_bndcfgs);
        if ((bndcfgs & 0xffc) != 0) return broken(EntryCheck::guest_bndcfgs_reserved_bits);
        if (!rules.is_canonical(bndcfgs & ~std::uint64_t{0xfff})) {
            return broken(EntryCheck::guest_bndcfgs_base_canonical);
        }
    }
    return {};
}

// Descriptor-table registers (SDM 3C 27.3.1.3).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_descriptor_tables(const View& view,
                                                                   const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    if (!rules.is_canonical(view.get(field::guest_gdtr_base)))
        return broken(EntryCheck::guest_gdtr_base_canonical);
    if (!rules.is_canonical(view.get(field::guest_idtr_base)))
        return broken(EntryCheck::guest_idtr_base_canonical);
    if (view.get(field::guest_gdtr_limit) > 0xffff) return broken(EntryCheck::guest_gdtr_limit);
    if (view.get(field::guest_idtr_limit) > 0xffff) return broken(EntryCheck::guest_idtr_limit);
    return {};
}

// RIP and RFLAGS (SDM 3C 27.3.1.4).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_rip_and_rflags(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint64_t rip = view.get(field::guest_rip);
    const std::uint64_t rflags = view.get(field::guest_rflags);
    const bool ia32e_guest = (view.get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
    const bool long_code = x86::AccessRights{view.get(field::guest_cs_access_rights)}.is_long_mode();

    if (!(ia32e_guest && long_code)) {
        if (rip >> 32 != 0) return broken(EntryCheck::guest_rip_high_bits);
    } else {
        // Bits 63:N must be identical, N being the linear-address width; bit N-1 may differ from them. So RIP
        // need not be canonical: the guest then faults on its first fetch.
        const std::uint64_t upper = rip >> rules.linear_address_width;
        if (upper != 0 && upper != ~std::uint64_t{0} >> rules.linear_address_width) {
            return broken(EntryCheck::guest_rip_linear_width);
        }
    }

    if ((rflags & x86::rflags::reserved_zero) != 0 || (rflags & x86::rflags::fixed_one) == 0) {
        return broken(EntryCheck::guest_rflags_reserved_bits);
    }
    if ((rflags & x86::rflags::virtual_8086) != 0 &&
        (ia32e_guest || (view.get(field::guest_cr0) & x86::cr0::protection_enable) == 0)) {
        return broken(EntryCheck::guest_rflags_virtual_8086);
    }
    const vmx::InterruptionInformation event = detail::injected_event(view);
    if (event.is_valid() && event.type() == vmx::InterruptionType::external_interrupt &&
        (rflags & x86::rflags::interrupt_enable) == 0) {
        return broken(EntryCheck::guest_rflags_interrupt_flag);
    }
    return {};
}

// The page-directory-pointer-table entries of PAE paging (SDM 3C 27.3.1.6): those of the VMCS with EPT, else
// those in memory at CR3.
template <VmcsView View, typename Memory = NoMemory>
[[nodiscard]] constexpr EntryVerdict check_guest_pdptes(const View& view, const EntryRules& rules,
                                                        const Memory& memory = {}) {
    namespace field = vmx::field;
    using detail::broken;
    const bool pae_paging = (view.get(field::guest_cr0) & x86::cr0::paging) != 0 &&
                            (view.get(field::guest_cr4) & x86::cr4::physical_address_extension) != 0 &&
                            (view.get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) == 0;
    if (!pae_paging) return {};
    if ((detail::effective_secondary_controls(view) & vmx::secondary::enable_ept) != 0) {
        for (const auto& pdpte :
             {field::guest_pdpte0, field::guest_pdpte1, field::guest_pdpte2, field::guest_pdpte3}) {
            if (!x86::is_valid_pae_pdpte(view.get(pdpte), rules.physical_address_width)) {
                return broken(EntryCheck::pdpte_reserved_bits);
            }
        }
    } else if constexpr (ReadableMemory<Memory>) {
        // Bits 31:5 of CR3 give the table's address (SDM 3A 4.4.1).
        const std::uint64_t table = view.get(field::guest_cr3) & 0xffff'ffe0;
        for (std::uint64_t offset = 0; offset < 32; offset += 8) {
            if (!x86::is_valid_pae_pdpte(memory.template read<std::uint64_t>(table + offset),
                                         rules.physical_address_width)) {
                return broken(EntryCheck::pdpte_reserved_bits);
            }
        }
    }
    return {};
}

// All of SDM 3C 27.3.1, in its order.
template <VmcsView View, typename Memory = NoMemory>
[[nodiscard]] constexpr EntryVerdict check_guest_state(const View& view, const EntryRules& rules,
                                                       const EntryContext& context = {},
                                                       const Memory& memory = {}) {
    if (EntryVerdict verdict = check_guest_control_registers(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_segments(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_descriptor_tables(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_rip_and_rflags(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_activity_state(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_interruptibility(view, rules, context); !verdict) return verdict;
    if (EntryVerdict verdict = check_guest_pending_debug_exceptions(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_vmcs_link_pointer(view, rules, context, memory); !verdict)
        return verdict;
    return check_guest_pdptes(view, rules, memory);
}

}  // namespace flatback::nested
