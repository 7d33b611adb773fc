// Each rule of SDM 3C 27.3.1, broken alone.
#include "tests/nested_entry_checks/broken_rules.hpp"

namespace flatback::nested::testing_entry {
namespace {

using Check = EntryCheck;
namespace interruptibility = vmx::interruptibility;

template <auto Field, std::uint64_t Value>
void set(Attempt& a) {
    a.vmcs.set(Field, static_cast<typename decltype(Field)::Value>(Value));
}
template <auto Field, std::uint64_t Bits>
void raise(Attempt& a) {
    a.vmcs.raise(Field, static_cast<typename decltype(Field)::Value>(Bits));
}
template <auto Field, std::uint64_t Bits>
void lower(Attempt& a) {
    a.vmcs.lower(Field, static_cast<typename decltype(Field)::Value>(Bits));
}
template <auto Start, auto Change>
Attempt after() {
    Attempt a = Start();
    Change(a);
    return a;
}
constexpr std::uint32_t external_interrupt = 0x8000'0020;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t machine_check = 0x8000'0312;
constexpr std::uint32_t invalid_opcode = 0x8000'0306;

constexpr auto inject_external_interrupt = set<field::vm_entry_interruption_information, external_interrupt>;
constexpr auto inject_nmi = set<field::vm_entry_interruption_information, nmi>;
constexpr auto block_by_sti = set<field::guest_interruptibility_state, interruptibility::blocking_by_sti>;
constexpr auto block_by_mov_ss =
    set<field::guest_interruptibility_state, interruptibility::blocking_by_mov_ss>;
constexpr auto clear_interrupt_flag = lower<field::guest_rflags, x86::rflags::interrupt_enable>;
constexpr auto halt = set<field::guest_activity_state, 1>;
constexpr auto shut_down = set<field::guest_activity_state, 2>;
constexpr auto wait_for_sipi = set<field::guest_activity_state, 3>;

Attempt blocked_stepping() {
    Attempt a = after<long_mode, block_by_mov_ss>();
    a.vmcs.raise(field::guest_rflags, x86::rflags::trap);
    a.vmcs.set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
    return a;
}
Attempt in_transaction() {
    Attempt a = long_mode();
    a.vmcs.set(field::guest_pending_debug_exceptions, 0x1'1000);
    return a;
}
Attempt smm_wait_for_sipi() {
    Attempt a = long_mode();
    a.context.in_smm = true;
    a.vmcs.set(field::guest_activity_state, 3);
    a.vmcs.set(field::guest_interruptibility_state, interruptibility::blocking_by_smi);
    return a;
}
Attempt virtual_nmis() {
    Attempt a = long_mode();
    a.vmcs.raise(field::pin_based_vm_execution_controls, pin::nmi_exiting | pin::virtual_nmis);
    a.vmcs.set(field::guest_interruptibility_state, interruptibility::blocking_by_nmi);
    return a;
}
Attempt pae_paging_with_ept() {
    Attempt a = pae_paging();
    use_ept(a.vmcs);
    for (const auto& pdpte :
         {field::guest_pdpte0, field::guest_pdpte1, field::guest_pdpte2, field::guest_pdpte3}) {
        a.vmcs.set(pdpte, 0x4001);
    }
    return a;
}
// protected_mode's CS is at level 3; this is the kernel of it.
Attempt protected_kernel() {
    Attempt a = protected_mode();
    set_segment(a.vmcs, detail::cs, 0x8, 0, 0xffff'ffff, 0xc09b);
    set_segment(a.vmcs, detail::ss, 0x10, 0, 0xffff'ffff, 0xc093);
    return a;
}
Attempt unrestricted_protected() {
    Attempt a = protected_mode();
    use_ept(a.vmcs);
    a.vmcs.raise(field::secondary_processor_based_vm_execution_controls, secondary::unrestricted_guest);
    return a;
}
Attempt unrestricted_virtual_8086() {
    Attempt a = virtual_8086();
    use_ept(a.vmcs);
    a.vmcs.raise(field::secondary_processor_based_vm_execution_controls, secondary::unrestricted_guest);
    return a;
}
Attempt cs_as_data() {
    Attempt a = unrestricted_protected();
    set_segment(a.vmcs, detail::cs, 0x8, 0, 0xffff'ffff, 0xc093);
    set_segment(a.vmcs, detail::ss, 0x10, 0, 0xffff'ffff, 0xc093);
    return a;
}

const std::vector<BrokenRule> rules = {
    // Control registers, debug registers and MSRs.
    {Check::guest_cr0_fixed_bits, long_mode, lower<field::guest_cr0, 0x20>},
    {Check::guest_cr0_fixed_bits, protected_mode, lower<field::guest_cr0, 0x8000'0001>},
    {Check::guest_cr0_fixed_bits, real_mode, lower<field::guest_cr0, 0x20>},
    {Check::guest_cr0_fixed_bits, long_mode, raise<field::guest_cr0, 1ULL << 32>},
    {Check::guest_paging_needs_protection, real_mode, raise<field::guest_cr0, 0x8000'0000>},
    {Check::guest_cr4_fixed_bits, long_mode, lower<field::guest_cr4, 0x2000>},
    {Check::guest_cr4_fixed_bits, long_mode, raise<field::guest_cr4, 1ULL << 15>},
    {Check::guest_cet_needs_write_protect,
     after<long_mode, raise<field::guest_cr4, x86::cr4::control_flow_enforcement>>,
     lower<field::guest_cr0, x86::cr0::write_protect>},
    {Check::guest_debugctl_reserved_bits, all_features, raise<field::guest_ia32_debugctl, 1ULL << 16>},
    {Check::guest_debugctl_reserved_bits, all_features, raise<field::guest_ia32_debugctl, 1ULL << 3>},
    {Check::ia32e_guest_needs_paging, all_features, lower<field::guest_cr0, x86::cr0::paging>},
    {Check::ia32e_guest_needs_pae, long_mode, lower<field::guest_cr4, x86::cr4::physical_address_extension>},
    {Check::guest_pcid_needs_ia32e_guest, protected_mode, raise<field::guest_cr4, x86::cr4::pcid_enable>},
    {Check::guest_cr3_width, long_mode, raise<field::guest_cr3, beyond_width>},
    {Check::guest_cr3_width, long_mode, raise<field::guest_cr3, 1ULL << 63>},
    {Check::guest_dr7_high_bits, all_features, raise<field::guest_dr7, 1ULL << 32>},
    {Check::guest_sysenter_esp_canonical, long_mode, set<field::guest_ia32_sysenter_esp, non_canonical>},
    {Check::guest_sysenter_eip_canonical, long_mode, set<field::guest_ia32_sysenter_eip, non_canonical>},
    {Check::guest_perf_global_ctrl_reserved_bits, all_features,
     raise<field::guest_ia32_perf_global_ctrl, 1ULL << 35>},
    {Check::guest_pat_memory_types, all_features, set<field::guest_ia32_pat, 0x3>},
    {Check::guest_pat_memory_types, all_features, set<field::guest_ia32_pat, 0x80ULL << 56>},
    {Check::guest_efer_reserved_bits, all_features, raise<field::guest_ia32_efer, 1ULL << 12>},
    {Check::guest_efer_lma_matches_ia32e_guest, all_features,
     lower<field::guest_ia32_efer, x86::efer::long_mode_active>},
    {Check::guest_efer_lme_matches_lma, all_features,
     lower<field::guest_ia32_efer, x86::efer::long_mode_enable>},
    {Check::guest_bndcfgs_reserved_bits, all_features, raise<field::guest_ia32_bndcfgs, 4>},
    {Check::guest_bndcfgs_reserved_bits, all_features, raise<field::guest_ia32_bndcfgs, 0x800>},
    {Check::guest_bndcfgs_base_canonical, all_features, set<field::guest_ia32_bndcfgs, non_canonical>},

    // Segment registers.
    {Check::guest_tr_selector_ti, long_mode, raise<field::guest_tr_selector, 4>},
    {Check::guest_ldtr_selector_ti, long_mode, raise<field::guest_ldtr_selector, 4>},
    {Check::guest_ss_rpl_matches_cs, protected_mode, lower<field::guest_ss_selector, 1>},
    {Check::virtual_8086_base, virtual_8086, set<field::guest_es_base, 0x2'0011>},
    {Check::virtual_8086_base, virtual_8086, set<field::guest_gs_base, 0>},
    {Check::guest_tr_base_canonical, long_mode, set<field::guest_tr_base, non_canonical>},
    {Check::guest_fs_base_canonical, long_mode, set<field::guest_fs_base, non_canonical>},
    {Check::guest_gs_base_canonical, long_mode, set<field::guest_gs_base, non_canonical>},
    {Check::guest_ldtr_base_canonical, long_mode, set<field::guest_ldtr_base, non_canonical>},
    {Check::guest_cs_base_high_bits, long_mode, set<field::guest_cs_base, 0x1'0000'0000>},
    {Check::guest_stack_or_data_base_high_bits, long_mode, set<field::guest_ss_base, 0x1'0000'0000>},
    {Check::guest_stack_or_data_base_high_bits, long_mode, set<field::guest_ds_base, 0x1'0000'0000>},
    {Check::guest_stack_or_data_base_high_bits, long_mode, set<field::guest_es_base, 0x1'0000'0000>},
    {Check::virtual_8086_limit, virtual_8086, set<field::guest_ss_limit, 0xfffe>},
    {Check::virtual_8086_limit, virtual_8086, set<field::guest_fs_limit, 0x1'ffff>},
    {Check::virtual_8086_access_rights, virtual_8086, set<field::guest_cs_access_rights, 0xfb>},
    {Check::virtual_8086_access_rights, virtual_8086, set<field::guest_ds_access_rights, 0x1'00f3>},
    {Check::guest_cs_type, long_mode, set<field::guest_cs_access_rights, 0xa09a>},
    {Check::guest_cs_type, long_mode, set<field::guest_cs_access_rights, 0xc093>},
    {Check::guest_cs_type, unrestricted_protected, set<field::guest_cs_access_rights, 0xc0f7>},
    {Check::guest_ss_type, long_mode, set<field::guest_ss_access_rights, 0xc092>},
    {Check::guest_ss_type, long_mode, set<field::guest_ss_access_rights, 0xc091>},
    {Check::guest_ss_type, long_mode, set<field::guest_ss_access_rights, 0xc09b>},
    {Check::guest_data_segment_type, long_mode, set<field::guest_ds_access_rights, 0xc092>},
    {Check::guest_data_segment_type, long_mode, set<field::guest_es_access_rights, 0xc099>},
    {Check::guest_data_segment_type, long_mode, set<field::guest_fs_access_rights, 0xc090>},
    {Check::guest_data_segment_type, long_mode, set<field::guest_gs_access_rights, 0xc09d>},
    {Check::guest_segment_is_code_or_data, long_mode, set<field::guest_cs_access_rights, 0xa08b>},
    {Check::guest_segment_is_code_or_data, long_mode, set<field::guest_ss_access_rights, 0xc083>},
    {Check::guest_segment_is_code_or_data, long_mode, set<field::guest_gs_access_rights, 0xc083>},
    {Check::guest_cs_dpl, protected_mode, set<field::guest_cs_access_rights, 0xc0db>},
    {Check::guest_cs_dpl, protected_kernel, set<field::guest_cs_access_rights, 0xc0ff>},
    {Check::guest_cs_dpl, cs_as_data, set<field::guest_cs_access_rights, 0xc0f3>},
    {Check::guest_ss_dpl, after<protected_mode, set<field::guest_cs_access_rights, 0xc0df>>,
     set<field::guest_ss_access_rights, 0xc0d3>},
    {Check::guest_ss_dpl, cs_as_data, set<field::guest_ss_access_rights, 0xc0f3>},
    {Check::guest_ss_dpl, after<real_mode, set<field::guest_cs_access_rights, 0x9f>>,
     set<field::guest_ss_access_rights, 0xf3>},
    {Check::guest_data_segment_dpl, protected_mode, set<field::guest_ds_access_rights, 0xc0d3>},
    {Check::guest_data_segment_dpl, protected_mode, set<field::guest_es_access_rights, 0xc09b>},
    {Check::guest_data_segment_dpl, protected_mode, set<field::guest_fs_access_rights, 0xc0b3>},
    {Check::guest_data_segment_dpl, protected_mode, set<field::guest_gs_access_rights, 0xc093>},
    {Check::guest_segment_present, long_mode, lower<field::guest_cs_access_rights, 0x80>},
    {Check::guest_segment_present, long_mode, lower<field::guest_ds_access_rights, 0x80>},
    {Check::guest_segment_present, long_mode, set<field::guest_cs_access_rights, 0x1'a01b>},  // unusable CS
    {Check::guest_segment_reserved_bits, long_mode, raise<field::guest_cs_access_rights, 0x100>},
    {Check::guest_segment_reserved_bits, long_mode, raise<field::guest_ss_access_rights, 0x800>},
    {Check::guest_segment_reserved_bits, long_mode, raise<field::guest_es_access_rights, 0x2'0000>},
    {Check::guest_segment_reserved_bits, long_mode, raise<field::guest_fs_access_rights, 0x8000'0000>},
    {Check::guest_cs_default_big, long_mode, raise<field::guest_cs_access_rights, 0x4000>},
    {Check::guest_segment_granularity, long_mode, set<field::guest_cs_limit, 0xffff'fffe>},
    {Check::guest_segment_granularity, long_mode, lower<field::guest_ds_access_rights, 0x8000>},
    {Check::guest_tr_type, long_mode, set<field::guest_tr_access_rights, 0x89>},
    {Check::guest_tr_type, long_mode, set<field::guest_tr_access_rights, 0x83>},
    {Check::guest_tr_type, protected_mode, set<field::guest_tr_access_rights, 0x81>},
    {Check::guest_tr_is_system, long_mode, raise<field::guest_tr_access_rights, 0x10>},
    {Check::guest_tr_present, long_mode, lower<field::guest_tr_access_rights, 0x80>},
    {Check::guest_tr_reserved_bits, long_mode, raise<field::guest_tr_access_rights, 0x200>},
    {Check::guest_tr_granularity, long_mode, raise<field::guest_tr_access_rights, 0x8000>},
    {Check::guest_tr_granularity, long_mode, set<field::guest_tr_limit, 0x10'0000>},
    {Check::guest_tr_usable, long_mode, raise<field::guest_tr_access_rights, 0x1'0000>},
    {Check::guest_ldtr_type, long_mode, set<field::guest_ldtr_access_rights, 0x83>},
    {Check::guest_ldtr_is_system, long_mode, raise<field::guest_ldtr_access_rights, 0x10>},
    {Check::guest_ldtr_present, long_mode, lower<field::guest_ldtr_access_rights, 0x80>},
    {Check::guest_ldtr_reserved_bits, long_mode, raise<field::guest_ldtr_access_rights, 0x400>},
    {Check::guest_ldtr_granularity, long_mode, raise<field::guest_ldtr_access_rights, 0x8000>},

    // Descriptor-table registers.
    {Check::guest_gdtr_base_canonical, long_mode, set<field::guest_gdtr_base, non_canonical>},
    {Check::guest_idtr_base_canonical, long_mode, set<field::guest_idtr_base, non_canonical>},
    {Check::guest_gdtr_limit, long_mode, set<field::guest_gdtr_limit, 0x1'0000>},
    {Check::guest_idtr_limit, long_mode, set<field::guest_idtr_limit, 0x1'0000>},

    // RIP and RFLAGS.
    {Check::guest_rip_high_bits, protected_mode, set<field::guest_rip, 0x1'0000'0000>},
    {Check::guest_rip_high_bits, after<long_mode, set<field::guest_rip, 0x1'0000'0000>>,
     lower<field::guest_cs_access_rights, 0x2000>},
    {Check::guest_rip_linear_width, long_mode, set<field::guest_rip, 0x0001'0000'0000'0000>},
    {Check::guest_rip_linear_width, long_mode, set<field::guest_rip, 0xfffe'8000'0000'0000>},
    {Check::guest_rflags_reserved_bits, long_mode, lower<field::guest_rflags, 2>},
    {Check::guest_rflags_reserved_bits, long_mode, raise<field::guest_rflags, 8>},
    {Check::guest_rflags_reserved_bits, long_mode, raise<field::guest_rflags, 0x20>},
    {Check::guest_rflags_reserved_bits, long_mode, raise<field::guest_rflags, 0x8000>},
    {Check::guest_rflags_reserved_bits, long_mode, raise<field::guest_rflags, 0x40'0000>},
    {Check::guest_rflags_reserved_bits, long_mode, raise<field::guest_rflags, 1ULL << 63>},
    {Check::guest_rflags_virtual_8086, unrestricted_virtual_8086, lower<field::guest_cr0, 0x8000'0001>},
    {Check::guest_rflags_virtual_8086, after<virtual_8086, set<field::guest_cr4, 0x2030>>,
     raise<field::vm_entry_controls, entry_control::ia32e_mode_guest>},
    {Check::guest_rflags_interrupt_flag, after<long_mode, inject_external_interrupt>, clear_interrupt_flag},

    // Activity state.
    {Check::activity_state_supported, long_mode, set<field::guest_activity_state, 4>},
    {Check::activity_state_supported, long_mode, set<field::guest_activity_state, 0x8000'0000>},
    {Check::activity_state_supported, after<long_mode, halt>,
     [](Attempt& a) { a.promised.misc.value &= ~vmx::MiscCapability::activity_hlt; }},
    {Check::activity_state_supported, after<long_mode, shut_down>,
     [](Attempt& a) { a.promised.misc.value &= ~vmx::MiscCapability::activity_shutdown; }},
    {Check::activity_state_supported, after<long_mode, wait_for_sipi>,
     [](Attempt& a) { a.promised.misc.value &= ~vmx::MiscCapability::activity_wait_for_sipi; }},
    {Check::activity_hlt_needs_dpl_zero, protected_mode, halt},
    {Check::activity_needs_no_blocking, after<long_mode, halt>, block_by_sti},
    {Check::activity_needs_no_blocking, after<long_mode, shut_down>, block_by_mov_ss},
    {Check::activity_permits_injection, after<long_mode, halt>,
     set<field::vm_entry_interruption_information, invalid_opcode>},
    {Check::activity_permits_injection, after<long_mode, shut_down>, inject_external_interrupt},
    {Check::activity_permits_injection, after<long_mode, wait_for_sipi>, inject_nmi},
    {Check::activity_permits_injection, after<long_mode, wait_for_sipi>,
     set<field::vm_entry_interruption_information, machine_check>},
    {Check::activity_wait_for_sipi_excludes_entry_to_smm, smm_wait_for_sipi,
     raise<field::vm_entry_controls, entry_control::entry_to_smm>},

    // Interruptibility state.
    {Check::interruptibility_reserved_bits, long_mode, set<field::guest_interruptibility_state, 0x20>},
    {Check::interruptibility_reserved_bits, long_mode, set<field::guest_interruptibility_state, 1ULL << 31>},
    {Check::interruptibility_sti_and_mov_ss, after<long_mode, block_by_sti>,
     set<field::guest_interruptibility_state, 3>},
    {Check::interruptibility_sti_needs_interrupt_flag, after<long_mode, block_by_sti>, clear_interrupt_flag},
    {Check::interruptibility_permits_external_interrupt, after<long_mode, block_by_sti>,
     inject_external_interrupt},
    {Check::interruptibility_permits_external_interrupt, after<long_mode, block_by_mov_ss>,
     inject_external_interrupt},
    {Check::interruptibility_permits_nmi, after<long_mode, block_by_mov_ss>, inject_nmi},
    {Check::interruptibility_smi_outside_smm, long_mode,
     set<field::guest_interruptibility_state, interruptibility::blocking_by_smi>},
    {Check::interruptibility_virtual_nmi, virtual_nmis, inject_nmi},
    {Check::interruptibility_enclave,
     after<long_mode, set<field::guest_interruptibility_state, interruptibility::enclave_interruption>>,
     raise<field::guest_interruptibility_state, interruptibility::blocking_by_mov_ss>},
    {Check::interruptibility_enclave,
     after<long_mode, set<field::guest_interruptibility_state, interruptibility::enclave_interruption>>,
     [](Attempt& a) { a.has_sgx = false; }},

    // Pending debug exceptions.
    {Check::pending_debug_reserved_bits, long_mode, set<field::guest_pending_debug_exceptions, 0x10>},
    {Check::pending_debug_reserved_bits, long_mode, set<field::guest_pending_debug_exceptions, 0x800>},
    {Check::pending_debug_reserved_bits, long_mode, set<field::guest_pending_debug_exceptions, 0x2000>},
    {Check::pending_debug_reserved_bits, long_mode, set<field::guest_pending_debug_exceptions, 0x8000>},
    {Check::pending_debug_reserved_bits, long_mode, set<field::guest_pending_debug_exceptions, 0x2'0000>},
    {Check::pending_debug_single_step, blocked_stepping, set<field::guest_pending_debug_exceptions, 0>},
    {Check::pending_debug_single_step, blocked_stepping, lower<field::guest_rflags, x86::rflags::trap>},
    {Check::pending_debug_single_step, blocked_stepping, set<field::guest_ia32_debugctl, 2>},
    {Check::pending_debug_single_step, after<long_mode, block_by_sti>,
     set<field::guest_pending_debug_exceptions, 0x4000>},
    {Check::pending_debug_single_step, after<long_mode, halt>,
     set<field::guest_pending_debug_exceptions, 0x4000>},
    {Check::pending_debug_transaction, in_transaction, set<field::guest_pending_debug_exceptions, 0x1'0000>},
    {Check::pending_debug_transaction, in_transaction, set<field::guest_pending_debug_exceptions, 0x1'1001>},
    {Check::pending_debug_transaction, in_transaction, set<field::guest_pending_debug_exceptions, 0x1'5000>},
    {Check::pending_debug_transaction, in_transaction, block_by_mov_ss},
    {Check::pending_debug_transaction, in_transaction, [](Attempt& a) { a.has_rtm = false; }},

    // VMCS link pointer.
    {Check::vmcs_link_pointer_address, all_features, set<field::vmcs_link_pointer, 0x2'0800>},
    {Check::vmcs_link_pointer_address, all_features, set<field::vmcs_link_pointer, beyond_width>},
    {Check::vmcs_link_pointer_address, long_mode, set<field::vmcs_link_pointer, ~0ULL - 1>},
    {Check::vmcs_link_pointer_revision, all_features,
     [](Attempt& a) { a.memory.write<std::uint32_t>(0x2'0000, 0x8000'0000); }},
    {Check::vmcs_link_pointer_shadow_indicator, all_features,
     [](Attempt& a) { a.memory.write<std::uint32_t>(0x2'0000, revision); }},
    {Check::vmcs_link_pointer_not_current, all_features,
     [](Attempt& a) { a.context.current_vmcs = 0x2'0000; }},

    // Page-directory-pointer-table entries.
    {Check::pdpte_reserved_bits, pae_paging,
     [](Attempt& a) { a.memory.write<std::uint64_t>(0x3020, 0x4003); }},
    {Check::pdpte_reserved_bits, pae_paging,
     [](Attempt& a) { a.memory.write<std::uint64_t>(0x3038, 0x4021); }},
    {Check::pdpte_reserved_bits, pae_paging_with_ept, set<field::guest_pdpte0, 0x4101>},
    {Check::pdpte_reserved_bits, pae_paging_with_ept, set<field::guest_pdpte3, 1 | beyond_width>},
};

class BrokenGuestRule : public BrokenRuleTest {};
TEST_P(BrokenGuestRule, IsNamed) {
    EXPECT_TRUE(is_guest_state_check(GetParam().expected));
    expect_named();
}
INSTANTIATE_TEST_SUITE_P(Each, BrokenGuestRule, ::testing::ValuesIn(rules), case_name);

}  // namespace

const std::vector<BrokenRule>& broken_guest_rules() {
    return rules;
}

}  // namespace flatback::nested::testing_entry
