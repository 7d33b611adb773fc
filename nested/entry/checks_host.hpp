// Checks on the host-state area (SDM 3C 27.2.2 to 27.2.4). A failure is VMfailValid with error 8.
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../x86/msr.hpp"
#include "../../x86/segment.hpp"
#include "checks_rules.hpp"

namespace flatback::nested {

// Control registers and MSRs (SDM 3C 27.2.2).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_host_control_registers(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint64_t cr0 = view.get(field::host_cr0);
    const std::uint64_t cr4 = view.get(field::host_cr4);
    const std::uint32_t exit_controls = view.get(field::vm_exit_controls);

    if (!rules.promised.cr0.permits(cr0)) return broken(EntryCheck::host_cr0_fixed_bits);
    if (!rules.promised.cr4.permits(cr4)) return broken(EntryCheck::host_cr4_fixed_bits);
    if ((cr4 & x86::cr4::control_flow_enforcement) != 0 && (cr0 & x86::cr0::write_protect) == 0) {
        return broken(EntryCheck::host_cet_needs_write_protect);
    }
    if (!x86::fits_physical_width(view.get(field::host_cr3), rules.physical_address_width)) {
        return broken(EntryCheck::host_cr3_width);
    }
    if (!rules.is_canonical(view.get(field::host_ia32_sysenter_esp))) {
        return broken(EntryCheck::host_sysenter_esp_canonical);
    }
    if (!rules.is_canonical(view.get(field::host_ia32_sysenter_eip))) {
        return broken(EntryCheck::host_sysenter_eip_canonical);
    }
    if ((exit_controls & vmx::exit_control::load_ia32_perf_global_ctrl) != 0 &&
        (view.get(field::host_ia32_perf_global_ctrl) & ~rules.perf_global_ctrl_bits) != 0) {
        return broken(EntryCheck::host_perf_global_ctrl_reserved_bits);
    }
    if ((exit_controls & vmx::exit_control::load_ia32_pat) != 0 &&
        !x86::is_valid_pat(view.get(field::host_ia32_pat))) {
        return broken(EntryCheck::host_pat_memory_types);
    }
    if ((exit_controls & vmx::exit_control::load_ia32_efer) != 0) {
        const std::uint64_t efer = view.get(field::host_ia32_efer);
        if ((efer & ~rules.efer_bits) != 0) return broken(EntryCheck::host_efer_reserved_bits);
        constexpr std::uint64_t long_mode = x86::efer::long_mode_active | x86::efer::long_mode_enable;
        const bool host_64_bit = (exit_controls & vmx::exit_control::host_address_space_size) != 0;
        if ((efer & long_mode) != (host_64_bit ? long_mode : 0)) {
            return broken(EntryCheck::host_efer_matches_address_space_size);
        }
    }
    return {};
}

// Segment and descriptor-table registers (SDM 3C 27.2.3).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_host_segments(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint16_t cs = view.get(field::host_cs_selector);
    const std::uint16_t ss = view.get(field::host_ss_selector);
    const std::uint16_t tr = view.get(field::host_tr_selector);
    const int all = view.get(field::host_es_selector) | cs | ss | view.get(field::host_ds_selector) |
                    view.get(field::host_fs_selector) | view.get(field::host_gs_selector) | tr;

    if ((all & (x86::selector::requested_privilege_level | x86::selector::table_indicator)) != 0) {
        return broken(EntryCheck::host_selector_rpl_and_ti);
    }
    if (cs == 0) return broken(EntryCheck::host_cs_selector_not_null);
    if (tr == 0) return broken(EntryCheck::host_tr_selector_not_null);
    if (ss == 0 && (view.get(field::vm_exit_controls) & vmx::exit_control::host_address_space_size) == 0) {
        return broken(EntryCheck::host_ss_selector_not_null);
    }
    if (!rules.is_canonical(view.get(field::host_fs_base))) return broken(EntryCheck::host_fs_base_canonical);
    if (!rules.is_canonical(view.get(field::host_gs_base))) return broken(EntryCheck::host_gs_base_canonical);
    if (!rules.is_canonical(view.get(field::host_gdtr_base)))
        return broken(EntryCheck::host_gdtr_base_canonical);
    if (!rules.is_canonical(view.get(field::host_idtr_base)))
        return broken(EntryCheck::host_idtr_base_canonical);
    if (!rules.is_canonical(view.get(field::host_tr_base))) return broken(EntryCheck::host_tr_base_canonical);
    return {};
}

// The address-space size (SDM 3C 27.2.4).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_host_address_space_size(const View& view, const EntryRules& rules,
                                                                   const EntryContext& context) {
    namespace field = vmx::field;
    using detail::broken;
    const bool host_64_bit =
        (view.get(field::vm_exit_controls) & vmx::exit_control::host_address_space_size) != 0;
    const bool ia32e_guest = (view.get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
    const std::uint64_t cr4 = view.get(field::host_cr4);
    const std::uint64_t rip = view.get(field::host_rip);

    if (!context.ia32e_mode && ia32e_guest) return broken(EntryCheck::ia32e_guest_needs_ia32e_processor);
    if (context.ia32e_mode != host_64_bit)
        return broken(EntryCheck::host_address_space_size_matches_processor);
    if (host_64_bit) {
        if ((cr4 & x86::cr4::physical_address_extension) == 0)
            return broken(EntryCheck::host_64_bit_needs_pae);
        if (!rules.is_canonical(rip)) return broken(EntryCheck::host_rip_canonical);
        return {};
    }
    // That the guest is not in IA-32e mode either follows from the two rules above.
    if ((cr4 & x86::cr4::pcid_enable) != 0) return broken(EntryCheck::host_pcid_needs_64_bit_host);
    if (rip >> 32 != 0) return broken(EntryCheck::host_rip_high_bits);
    return {};
}

// All of SDM 3C 27.2.2 to 27.2.4, in that order.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_host_state(const View& view, const EntryRules& rules,
                                                      const EntryContext& context = {}) {
    if (EntryVerdict verdict = check_host_control_registers(view, rules); !verdict) return verdict;
    if (EntryVerdict verdict = check_host_segments(view, rules); !verdict) return verdict;
    return check_host_address_space_size(view, rules, context);
}

}  // namespace flatback::nested
