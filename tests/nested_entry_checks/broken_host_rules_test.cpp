// Each rule of SDM 3C 27.2.2 to 27.2.4, broken alone.
#include "tests/nested_entry_checks/broken_rules.hpp"

namespace flatback::nested::testing_entry {
namespace {

using Check = EntryCheck;

// A 32-bit host and guest.
Attempt legacy_host() {
    Attempt a = protected_mode();
    a.context.ia32e_mode = false;
    a.vmcs.lower(field::vm_exit_controls, exit_control::host_address_space_size);
    a.vmcs.set(field::host_ss_selector, 0x18);
    a.vmcs.set(field::host_rip, 0xffff'ffff);
    return a;
}

const std::vector<BrokenRule> rules = {
    {Check::host_cr0_fixed_bits, long_mode, [](Attempt& a) { a.vmcs.lower(field::host_cr0, 0x20); }},
    {Check::host_cr0_fixed_bits, long_mode, [](Attempt& a) { a.vmcs.lower(field::host_cr0, 0x8000'0000); }},
    {Check::host_cr0_fixed_bits, long_mode, [](Attempt& a) { a.vmcs.raise(field::host_cr0, 1ULL << 32); }},
    {Check::host_cr4_fixed_bits, long_mode, [](Attempt& a) { a.vmcs.lower(field::host_cr4, 0x2000); }},
    {Check::host_cr4_fixed_bits, long_mode, [](Attempt& a) { a.vmcs.raise(field::host_cr4, 1ULL << 15); }},
    {Check::host_cet_needs_write_protect,
     [] {
         Attempt a = long_mode();
         a.vmcs.raise(field::host_cr4, x86::cr4::control_flow_enforcement);
         return a;
     },
     [](Attempt& a) { a.vmcs.lower(field::host_cr0, x86::cr0::write_protect); }},
    {Check::host_cr3_width, long_mode, [](Attempt& a) { a.vmcs.raise(field::host_cr3, beyond_width); }},
    {Check::host_cr3_width, long_mode, [](Attempt& a) { a.vmcs.raise(field::host_cr3, 1ULL << 63); }},
    {Check::host_sysenter_esp_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_ia32_sysenter_esp, non_canonical); }},
    {Check::host_sysenter_eip_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_ia32_sysenter_eip, non_canonical); }},
    {Check::host_perf_global_ctrl_reserved_bits, all_features,
     [](Attempt& a) { a.vmcs.raise(field::host_ia32_perf_global_ctrl, 1ULL << 35); }},
    {Check::host_pat_memory_types, all_features,
     [](Attempt& a) { a.vmcs.raise(field::host_ia32_pat, 0x08); }},
    {Check::host_pat_memory_types, all_features,
     [](Attempt& a) { a.vmcs.set(field::host_ia32_pat, 2ULL << 56); }},
    {Check::host_efer_reserved_bits, all_features,
     [](Attempt& a) { a.vmcs.raise(field::host_ia32_efer, 2); }},
    {Check::host_efer_matches_address_space_size, all_features,
     [](Attempt& a) { a.vmcs.lower(field::host_ia32_efer, x86::efer::long_mode_active); }},
    {Check::host_efer_matches_address_space_size, all_features,
     [](Attempt& a) { a.vmcs.lower(field::host_ia32_efer, x86::efer::long_mode_enable); }},

    {Check::host_selector_rpl_and_ti, long_mode, [](Attempt& a) { a.vmcs.set(field::host_es_selector, 3); }},
    {Check::host_selector_rpl_and_ti, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_cs_selector, 0x11); }},
    {Check::host_selector_rpl_and_ti, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_ss_selector, 0x1c); }},
    {Check::host_selector_rpl_and_ti, long_mode, [](Attempt& a) { a.vmcs.set(field::host_ds_selector, 1); }},
    {Check::host_selector_rpl_and_ti, long_mode, [](Attempt& a) { a.vmcs.set(field::host_fs_selector, 2); }},
    {Check::host_selector_rpl_and_ti, long_mode, [](Attempt& a) { a.vmcs.set(field::host_gs_selector, 4); }},
    {Check::host_selector_rpl_and_ti, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_tr_selector, 0x44); }},
    {Check::host_cs_selector_not_null, long_mode, [](Attempt& a) { a.vmcs.set(field::host_cs_selector, 0); }},
    {Check::host_tr_selector_not_null, long_mode, [](Attempt& a) { a.vmcs.set(field::host_tr_selector, 0); }},
    {Check::host_ss_selector_not_null, legacy_host,
     [](Attempt& a) { a.vmcs.set(field::host_ss_selector, 0); }},
    {Check::host_fs_base_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_fs_base, non_canonical); }},
    {Check::host_gs_base_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_gs_base, non_canonical); }},
    {Check::host_gdtr_base_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_gdtr_base, non_canonical); }},
    {Check::host_idtr_base_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_idtr_base, non_canonical); }},
    {Check::host_tr_base_canonical, long_mode,
     [](Attempt& a) { a.vmcs.set(field::host_tr_base, non_canonical); }},

    {Check::ia32e_guest_needs_ia32e_processor, long_mode, [](Attempt& a) { a.context.ia32e_mode = false; }},
    {Check::host_address_space_size_matches_processor, protected_mode,
     [](Attempt& a) { a.context.ia32e_mode = false; }},
    {Check::host_address_space_size_matches_processor, legacy_host,
     [](Attempt& a) { a.context.ia32e_mode = true; }},
    {Check::host_pcid_needs_64_bit_host, legacy_host,
     [](Attempt& a) { a.vmcs.raise(field::host_cr4, x86::cr4::pcid_enable); }},
    {Check::host_rip_high_bits, legacy_host, [](Attempt& a) { a.vmcs.set(field::host_rip, 0x1'0000'0000); }},
    {Check::host_64_bit_needs_pae, long_mode,
     [](Attempt& a) { a.vmcs.lower(field::host_cr4, x86::cr4::physical_address_extension); }},
    {Check::host_rip_canonical, long_mode, [](Attempt& a) { a.vmcs.set(field::host_rip, non_canonical); }},
};

class BrokenHostRule : public BrokenRuleTest {};
TEST_P(BrokenHostRule, IsNamed) {
    EXPECT_TRUE(is_host_state_check(GetParam().expected));
    expect_named();
}
INSTANTIATE_TEST_SUITE_P(Each, BrokenHostRule, ::testing::ValuesIn(rules), case_name);

}  // namespace

const std::vector<BrokenRule>& broken_host_rules() {
    return rules;
}

}  // namespace flatback::nested::testing_entry
