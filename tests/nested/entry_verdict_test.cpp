// Entries that L0 judges in the processor's place: every rule of SDM 3C 27.2 before any effect, the first
// broken rule of 27.3 with its own qualification, and what L1 was not promised kept from L2.
#include <gtest/gtest.h>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::entry_verdict_test {
namespace {

constexpr auto bad_controls = vm_fail(InstructionError::entry_with_invalid_control_fields);
constexpr auto bad_guest = l1_sees(ExitReason::entry_failure_guest_state);
constexpr std::uint64_t loaded_star = 0x5555;

class EntryVerdict : public ::testing::TestWithParam<bool> {
protected:
    explicit EntryVerdict(std::uint64_t withheld_misc = 0)
        : l1{{.shadow_vmcs = GetParam(), .withheld_misc = withheld_misc}} {
        l1.prepare();
    }
    void use_msr_list() {
        l1.write(field::vm_entry_msr_load_address, layout::msr_list);
        l1.write(field::vm_entry_msr_load_count, 1);
        l1.port.memory.write<std::uint32_t>(layout::msr_list, x86::msr::ia32_star);
        l1.port.memory.write<std::uint64_t>(layout::msr_list + 8, loaded_star);
    }
    void expect_msr_not_loaded() { EXPECT_NE(l1.port.msrs[x86::msr::ia32_star], loaded_star); }
    void use_bad_tpr_threshold() {
        l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_tpr_shadow);
        l1.write(field::virtual_apic_address, layout::apic_page);
        l1.write(field::tpr_threshold, 3);
    }
    void enter_and_leave() {
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    void make_pae_guest() {
        l1.lower(field::vm_entry_controls, vmx::entry_control::ia32e_mode_guest);
        l1.write(field::guest_ia32_efer, 0x800);
        l1.write(field::guest_cs_access_rights, 0xc09b);
        l1.write(field::guest_rip, 0x2000);
        l1.write(field::guest_cr3, 0x5'0020);
    }
    std::uint64_t qualification() { return l1.read(field::exit_qualification); }
    VirtualCpu l1;
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, EntryVerdict, ::testing::Bool());

TEST_P(EntryVerdict, FindsTheTprThresholdBeforeAnMsrIsLoaded) {
    use_msr_list();
    use_bad_tpr_threshold();
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    expect_msr_not_loaded();
    l1.port.memory.write<std::uint8_t>(layout::apic_page + 0x80, 0x30);
    enter_and_leave();
    l1.port.msrs[x86::msr::ia32_star] = 0;
    l1.port.memory.write<std::uint8_t>(layout::apic_page + 0x80, 0x20);
    EXPECT_EQ(l1.vmresume(), bad_controls) << "the virtual TPR is L2's to change";
    expect_msr_not_loaded();
}

TEST_P(EntryVerdict, FindsTheNumberOfCr3TargetsBeforeAnMsrIsLoaded) {
    use_msr_list();
    enter_and_leave();
    l1.port.msrs[x86::msr::ia32_star] = 0;
    l1.write(field::cr3_target_count, 5);
    EXPECT_EQ(l1.vmresume(), bad_controls);
    expect_msr_not_loaded();
}

TEST_P(EntryVerdict, OfControlsComesBeforeThatOfGuestState) {
    use_bad_tpr_threshold();
    l1.write(field::vmcs_link_pointer, 5);
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    l1.write(field::tpr_threshold, 0);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 4U);
}

TEST_P(EntryVerdict, HasTheQualificationOfItsRuleBesideAnMsrList) {
    use_msr_list();
    make_pae_guest();
    l1.use_ept(layout::ept_tables | 0x1e);
    l1.write(field::guest_pdpte0, 0x9'9003);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 2U);
    l1.write(field::guest_pdpte0, 0x9'9001);
    l1.write(field::vmcs_link_pointer, 5);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 4U);
    l1.write(field::vmcs_link_pointer, ~0ULL);
    l1.write(field::guest_rflags, 0);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 0U);
    expect_msr_not_loaded();
}

// SDM 3C 27.3.1.2: bits 11:8 and 31:17 are reserved; bit 12, AVL, is the guest's.
TEST_P(EntryVerdict, TakesTheAvailableBitOfASegmentAndNoReservedOne) {
    use_msr_list();
    for (const auto rights : {field::guest_es_access_rights, field::guest_cs_access_rights,
                              field::guest_ss_access_rights, field::guest_tr_access_rights}) {
        const std::uint64_t legal = l1.read(rights);
        for (std::uint32_t bit = 8; bit < 32; bit = bit == 11 ? 17 : bit + 1) {
            l1.write(rights, legal | 1U << bit);
            EXPECT_EQ(l1.vmlaunch(), bad_guest) << "bit " << bit;
            EXPECT_EQ(qualification(), 0U);
        }
        l1.write(rights, legal | 1U << 12);
    }
    expect_msr_not_loaded();
    enter_and_leave();
}

TEST_P(EntryVerdict, OfRegistersComesBeforeThatOfPdptesInMemoryAndOfTheLinkPointer) {
    make_pae_guest();
    l1.port.memory.write<std::uint64_t>(0x5'0020, 0x7'0003);  // a reserved bit
    l1.write(field::guest_ia32_efer, 0x800 | 1ULL << 20);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 0U);
    l1.write(field::guest_ia32_efer, 0x800);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 2U);
    l1.write(field::vmcs_link_pointer, 5);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 4U);
    l1.write(field::guest_rflags, 0);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(qualification(), 0U);
}

// Another processor of L1's writes between the moment at which they are loaded and that of the judgement.
TEST_P(EntryVerdict, OfPdptesIsThatOfWhatWasLoaded) {
    make_pae_guest();
    l1.port.memory.write<std::uint64_t>(0x5'0020, 0x7'0003);
    unsigned reads = 0;
    l1.port.memory.before_read = [&](std::uint64_t address) {
        if (address / x86::page_size == 0x50 && ++reads == 2)
            l1.port.memory.write<std::uint64_t>(0x5'0020, 0);
    };
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_GE(reads, 2U);
    l1.port.memory.before_read = {};
    EXPECT_EQ(qualification(), 2U);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST_P(EntryVerdict, LooksAtWhatTheLinkPointerNamesEachTime) {
    const std::uint64_t other = layout::vmcs_region(7);
    l1.port.memory.write<std::uint32_t>(other, nested::vmcs12_revision);
    l1.write(field::vmcs_link_pointer, other);
    enter_and_leave();
    l1.port.memory.write<std::uint32_t>(other, nested::vmcs12_revision + 1);
    EXPECT_EQ(l1.vmresume(), bad_guest);
    EXPECT_EQ(qualification(), 4U);
    EXPECT_EQ(l1.vmresume(), bad_guest) << "and again";
    l1.port.memory.write<std::uint32_t>(other, nested::vmcs12_revision);
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

// One that the processor has and the host keeps from L1.
TEST_P(EntryVerdict, KeepsABadActivityStateBadThoughNobodyWroteItAgain) {
    VirtualCpu without{{.shadow_vmcs = GetParam(), .withheld_misc = vmx::MiscCapability::activity_hlt}};
    without.prepare();
    without.write(field::guest_activity_state, 1);
    EXPECT_EQ(without.vmlaunch(), bad_guest);
    EXPECT_EQ(without.vmlaunch(), bad_guest);
    EXPECT_EQ(without.read(field::exit_qualification), 0U);
    without.write(field::guest_activity_state, 0);
    EXPECT_EQ(without.vmlaunch(), l2_runs);
}

// SDM 3C 27.3.1.1: reserved bits of IA32_DEBUGCTL; without a debug store, those of the branch trace store.
TEST_P(EntryVerdict, RefusesTheBranchTraceStore) {
    for (const std::uint64_t bit : {1ULL << 7, 1ULL << 8, 1ULL << 9, 1ULL << 10}) {
        l1.write(field::guest_ia32_debugctl, bit);
        EXPECT_EQ(l1.vmlaunch(), bad_guest) << bit;
        EXPECT_EQ(qualification(), 0U);
    }
    EXPECT_EQ(l1.vmlaunch(), bad_guest) << "though nobody wrote it again";
    l1.write(field::guest_ia32_debugctl, x86::debugctl::branch_single_step);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST_P(EntryVerdict, RefusesTheBranchTraceStoreOnceItIsToBeLoaded) {
    l1.lower(field::vm_entry_controls, vmx::entry_control::load_debug_controls);
    l1.lower(field::vm_exit_controls, vmx::exit_control::save_debug_controls);
    l1.write(field::guest_ia32_debugctl, 1ULL << 7);
    enter_and_leave();
    l1.raise(field::vm_entry_controls, vmx::entry_control::load_debug_controls);
    EXPECT_EQ(l1.vmresume(), bad_guest);
    l1.write(field::guest_ia32_debugctl, 0);
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(EntryVerdict, RefusesTheBranchTraceStoreOfAVmcsFromMemory) {
    l1.write(field::guest_ia32_debugctl, 1ULL << 7);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
}

// SDM 3C 27.3.1.1: bits beyond the physical width, but for LAM_U57 and LAM_U48 where CPUID says so.
TEST_P(EntryVerdict, RefusesLinearAddressMaskingThatOnlyTheProcessorHas) {
    VirtualCpu with_it{{.shadow_vmcs = GetParam(), .cr3_masking_bits = x86::cr3::linear_address_masking}};
    with_it.prepare();
    const std::uint64_t cr3 = with_it.read(field::guest_cr3);
    for (const std::uint64_t bit : {1ULL << 61, 1ULL << 62}) {
        with_it.write(field::guest_cr3, cr3 | bit);
        EXPECT_EQ(with_it.vmlaunch(), bad_guest) << bit;
    }
    with_it.write(field::guest_cr3, cr3);
    ASSERT_EQ(with_it.vmlaunch(), l2_runs);
    ASSERT_EQ(with_it.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const std::uint64_t host = with_it.read(field::host_cr3);
    with_it.write(field::host_cr3, host | 1ULL << 62);
    EXPECT_EQ(with_it.vmresume(), vm_fail(InstructionError::entry_with_invalid_host_state_fields));
}

// Of a VMCS that ran before L1 writes one field and no other.
TEST_P(EntryVerdict, RefusesWhatOnlyTheProcessorHasWhereAnL2GoesOn) {
    VirtualCpu with_it{{.shadow_vmcs = GetParam(), .cr3_masking_bits = x86::cr3::linear_address_masking}};
    with_it.prepare();
    ASSERT_EQ(with_it.vmlaunch(), l2_runs);
    ASSERT_EQ(with_it.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto refuses = [&](const auto& which, std::uint64_t bit) {
        const std::uint64_t good = with_it.read(which);
        with_it.write(which, good | bit);
        EXPECT_EQ(with_it.vmresume(), bad_guest) << vmx::name_of(which.encoding) << " " << bit;
        EXPECT_EQ(with_it.vmresume(), bad_guest) << "though nobody wrote it again";
        with_it.write(which, good);
        ASSERT_EQ(with_it.vmresume(), l2_runs);
        ASSERT_EQ(with_it.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    };
    for (const unsigned bit : {61U, 62U}) refuses(field::guest_cr3, 1ULL << bit);
    for (const unsigned bit : {7U, 8U, 9U, 10U}) refuses(field::guest_ia32_debugctl, 1ULL << bit);
    // Of the high half every bit is reserved.
    with_it.write_raw(field::guest_ia32_debugctl.encoding | 1, 0x80);
    EXPECT_EQ(with_it.vmresume(), bad_guest);
}

// Where L1 is not promised that activity state.
class EntryVerdictWithoutHlt : public EntryVerdict {
protected:
    EntryVerdictWithoutHlt() : EntryVerdict(vmx::MiscCapability::activity_hlt) {}
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, EntryVerdictWithoutHlt, ::testing::Bool());

TEST_P(EntryVerdictWithoutHlt, RefusesAnL2ThatHaltedByItselfOnceItsHltExits) {
    use_msr_list();
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_activity_state, 1);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}),
              l1_sees(ExitReason::external_interrupt));
    l1.port.msrs[x86::msr::ia32_star] = 0;
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    EXPECT_EQ(l1.vmresume(), bad_guest);
    expect_msr_not_loaded();
}

TEST_P(EntryVerdictWithoutHlt, TakesAnL2ThatHaltedByItselfBesideAnMsrList) {
    use_msr_list();
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_activity_state, 1);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}),
              l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

// SDM 3C 27.2.1.3, in the editions that know IA32_VMX_BASIC[56].
TEST_P(EntryVerdict, OfAnErrorCodeGoesByProtectedModeAlone) {
    l1.write(field::vm_entry_interruption_information, 0x8000'0b0d);
    l1.write(field::guest_cr0, 0x8005'0032);
    EXPECT_EQ(l1.vmlaunch(), bad_controls) << "unrestricted guest is 0";
    l1.write(field::vm_entry_interruption_information, 0x8000'030d);
    EXPECT_EQ(l1.vmlaunch(), bad_guest) << "paging without protection";
    l1.write(field::guest_cr0, 0x8005'0033);
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
}

// --- CR4 bits that L1 was not promised

constexpr std::uint8_t rcx = 1;
constexpr std::uint64_t mov_to_cr4_from_rcx =
    vmx::ControlRegisterAccess{.control_register = 4, .general_register = rcx}.encode();

class UnpromisedCr4 : public EntryVerdict {
protected:
    Outcome l2_moves_to_cr4(std::uint64_t value) {
        l1.port.registers.at(rcx) = value;
        return l1.l2_exits({.reason = ExitReason::control_register_access,
                            .qualification = mov_to_cr4_from_rcx,
                            .instruction_length = 3});
    }
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, UnpromisedCr4, ::testing::Bool());

TEST_P(UnpromisedCr4, AreMaskedAndFoundClear) {
    l1.write(field::cr4_guest_host_mask, x86::cr4::vmx_enable);
    l1.write(field::cr4_read_shadow, x86::cr4::smx_enable);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t bits = l1.hardware.cr4.fixed1 & ~l1.capabilities.promised.cr4.fixed1;
    ASSERT_NE(bits & x86::cr4::smx_enable, 0U);
    EXPECT_EQ(l1.vmcs02().get(field::cr4_guest_host_mask), x86::cr4::vmx_enable | bits);
    EXPECT_EQ(l1.vmcs02().get(field::cr4_read_shadow), 0U) << "the bit reads as it is in CR4";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::cr4_guest_host_mask), x86::cr4::vmx_enable);
    EXPECT_EQ(l1.read(field::cr4_read_shadow), x86::cr4::smx_enable);
    l1.write(field::cr4_guest_host_mask, x86::cr4::smx_enable);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::cr4_read_shadow), x86::cr4::smx_enable) << "where L1 masks it";
}

TEST_P(UnpromisedCr4, AreAGeneralProtectionFaultOfL2) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
    EXPECT_EQ(l2_moves_to_cr4(0x26a0 | x86::cr4::smx_enable), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 0U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr4), 0x26a0U);
}

TEST_P(UnpromisedCr4, AreL1sExitFirstWhereItsMaskAsksForIt) {
    l1.write(field::cr4_guest_host_mask, x86::cr4::page_size_extensions);
    l1.write(field::cr4_read_shadow, x86::cr4::page_size_extensions);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l2_moves_to_cr4(0x26a0 | x86::cr4::smx_enable), l1_sees(ExitReason::control_register_access));
    EXPECT_EQ(qualification(), mov_to_cr4_from_rcx);
}

TEST_P(UnpromisedCr4, AreLookedForIn32BitsOutside64BitMode) {
    l1.write(field::cr4_guest_host_mask, 0xffff'ffff'0000'0000);
    l1.write(field::cr4_read_shadow, 0);
    l1.write(field::guest_cs_access_rights, 0xc09b);  // compatibility mode
    l1.write(field::guest_rip, 0x2000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l2_moves_to_cr4(0xf'0000'0000 | 0x26a0 | x86::cr4::smx_enable), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
    l1.vmcs02().set(field::vm_entry_interruption_information, 0);
    // L2 leaves IA-32e mode; its code segment has L, which is reserved there.
    l1.vmcs02().set(field::guest_cr4, 0x2680);
    l1.vmcs02().set(field::guest_ia32_efer, 0x801);
    l1.vmcs02().set(field::vm_entry_controls,
                    l1.vmcs02().get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    l1.vmcs02().set(field::guest_cs_access_rights, 0xe09b);
    EXPECT_EQ(l2_moves_to_cr4(0xf'0000'0000 | 0x26a0 | x86::cr4::smx_enable), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
}

// --- fields that the processor lacks

class LackingFields : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, LackingFields, ::testing::Bool());

TEST_P(LackingFields, AreNeitherOfferedNorTouched) {
    VirtualCpu::Options options{.shadow_vmcs = GetParam()};
    options.lacking_fields = {field::io_rcx.encoding,       field::io_rsi.encoding,
                              field::io_rdi.encoding,       field::io_rip.encoding,
                              field::guest_smbase.encoding, field::executive_vmcs_pointer.encoding};
    VirtualCpu l1{options};
    l1.prepare_and_launch();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    for (const std::uint32_t encoding : options.lacking_fields) {
        EXPECT_EQ(l1.vmread(encoding),
                  vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component));
        EXPECT_EQ(l1.vmwrite(encoding, 0),
                  vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component));
    }
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed) << "which reads all that there is";
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

}  // namespace
}  // namespace flatback::nested_test::entry_verdict_test
