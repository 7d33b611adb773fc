// SDM 3C 27.2.2 to 27.2.4: the checks of the host-state area.
#include <array>

#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/registers.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

namespace field = vmx::field;

const char* Machine::check_host_state(const Cpu& cpu, const Vmcs& vmcs) const {
    const std::uint32_t exits = vmcs.get(field::vm_exit_controls);
    const std::uint64_t cr4 = vmcs.get(field::host_cr4);
    const bool host_64_bit = (exits & vmx::exit_control::host_address_space_size) != 0;

    // 27.2.2: control registers and MSRs.
    if (!model_.vmx.cr0.permits(vmcs.get(field::host_cr0))) return "host CR0 (27.2.2)";
    if (!model_.vmx.cr4.permits(cr4)) return "host CR4 (27.2.2)";
    if (!rules::within_width(vmcs.get(field::host_cr3), model_.physical_address_bits)) {
        return "host CR3 (27.2.2)";
    }
    if (!rules::is_canonical(vmcs.get(field::host_ia32_sysenter_esp)) ||
        !rules::is_canonical(vmcs.get(field::host_ia32_sysenter_eip))) {
        return "host IA32_SYSENTER_ESP and _EIP are canonical (27.2.2)";
    }
    if ((exits & vmx::exit_control::load_ia32_pat) != 0 &&
        !rules::is_page_attribute_table(vmcs.get(field::host_ia32_pat))) {
        return "host IA32_PAT (27.2.2)";
    }
    if ((exits & vmx::exit_control::load_ia32_efer) != 0) {
        const std::uint64_t efer = vmcs.get(field::host_ia32_efer);
        if ((efer & ~rules::efer_bits) != 0) return "host IA32_EFER: reserved bits (27.2.2)";
        const bool active = (efer & x86::efer::long_mode_active) != 0;
        const bool enabled = (efer & x86::efer::long_mode_enable) != 0;
        if (active != host_64_bit || enabled != host_64_bit) {
            return "host IA32_EFER: LMA and LME are as host address-space size (27.2.2)";
        }
    }

    // 27.2.3: segment and descriptor-table registers.
    constexpr std::array selectors = {
        field::host_cs_selector, field::host_ss_selector, field::host_ds_selector, field::host_es_selector,
        field::host_fs_selector, field::host_gs_selector, field::host_tr_selector};
    for (const auto selector : selectors) {
        if ((vmcs.get(selector) & 7) != 0) return "host selectors: RPL and TI are 0 (27.2.3)";
    }
    if (vmcs.get(field::host_cs_selector) == 0) return "host CS is not 0000H (27.2.3)";
    if (vmcs.get(field::host_tr_selector) == 0) return "host TR is not 0000H (27.2.3)";
    if (!host_64_bit && vmcs.get(field::host_ss_selector) == 0) return "host SS is not 0000H (27.2.3)";
    constexpr std::array bases = {field::host_fs_base, field::host_gs_base, field::host_gdtr_base,
                                  field::host_idtr_base, field::host_tr_base};
    for (const auto base : bases) {
        if (!rules::is_canonical(vmcs.get(base))) return "host base addresses are canonical (27.2.3)";
    }

    // 27.2.4: address-space size.
    const bool in_long_mode = cpu.registers.in_long_mode();
    const bool guest_long_mode =
        (vmcs.get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
    if (in_long_mode != host_64_bit) return "host address-space size is the processor's mode (27.2.4)";
    if (!in_long_mode && guest_long_mode) return "IA-32e mode guest outside IA-32e mode (27.2.4)";
    if (host_64_bit) {
        if ((cr4 & x86::cr4::physical_address_extension) == 0)
            return "host CR4.PAE with a 64-bit host (27.2.4)";
        if (!rules::is_canonical(vmcs.get(field::host_rip))) return "host RIP is canonical (27.2.4)";
    } else {
        if ((cr4 & x86::cr4::pcid_enable) != 0) return "host CR4.PCIDE with a 32-bit host (27.2.4)";
        if (vmcs.get(field::host_rip) >> 32 != 0) return "host RIP has 32 bits (27.2.4)";
    }
    return nullptr;
}

}  // namespace flatback::machine
