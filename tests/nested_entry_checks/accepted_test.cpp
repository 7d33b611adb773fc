// What VM entry must accept: the neighbours of the rules, and fields that a control turned off makes
// irrelevant.
#include "tests/nested_entry_checks/sample_vmcs.hpp"

namespace flatback::nested::testing_entry::accepted_test {
namespace {

using vmx::InterruptionInformation;
using vmx::InterruptionType;

const EntryVerdict accepted{};

TEST(EntryAccepts, EverySampleState) {
    EXPECT_EQ(long_mode().check(), accepted);
    EXPECT_EQ(all_features().check(), accepted);
    EXPECT_EQ(protected_mode().check(), accepted);
    EXPECT_EQ(pae_paging().check(), accepted);
    EXPECT_EQ(real_mode().check(), accepted);
    EXPECT_EQ(virtual_8086().check(), accepted);
}

TEST(EntryAccepts, AnythingInFieldsWhoseControlIsOff) {
    Attempt a = long_mode();
    for (const auto& address :
         {field::address_of_io_bitmap_a, field::address_of_io_bitmap_b, field::address_of_msr_bitmaps,
          field::virtual_apic_address, field::apic_access_address, field::posted_interrupt_descriptor_address,
          field::ept_pointer, field::pml_address, field::vm_function_controls, field::eptp_list_address,
          field::vmread_bitmap_address, field::vmwrite_bitmap_address,
          field::virtualization_exception_information_address, field::vm_exit_msr_store_address,
          field::vm_exit_msr_load_address, field::vm_entry_msr_load_address}) {
        a.vmcs.set(address, ~0ULL);
    }
    a.vmcs.set(field::tpr_threshold, ~0u);
    a.vmcs.set(field::host_ia32_pat, ~0ULL);
    a.vmcs.set(field::host_ia32_efer, ~0ULL);
    a.vmcs.set(field::host_ia32_perf_global_ctrl, ~0ULL);
    a.vmcs.set(field::guest_ia32_pat, ~0ULL);
    a.vmcs.set(field::guest_ia32_efer, ~0ULL);
    a.vmcs.set(field::guest_ia32_perf_global_ctrl, ~0ULL);
    a.vmcs.set(field::guest_ia32_bndcfgs, ~0ULL);
    a.vmcs.set(field::guest_ia32_debugctl, ~0ULL);
    a.vmcs.set(field::guest_dr7, ~0ULL);
    a.vmcs.set(field::vm_entry_exception_error_code, ~0u);
    a.vmcs.set(field::vm_entry_instruction_length, ~0u);
    a.vmcs.set(field::vm_entry_interruption_information, 0x7fff'ffff);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, AnythingInFieldsOfSecondaryControlsThatAreActivatedAndOff) {
    Attempt a = long_mode();
    a.vmcs.raise(field::primary_processor_based_vm_execution_controls, primary::activate_secondary_controls);
    a.vmcs.set(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_rdtscp);
    for (const auto& address :
         {field::apic_access_address, field::posted_interrupt_descriptor_address, field::ept_pointer,
          field::pml_address, field::vm_function_controls, field::eptp_list_address,
          field::vmread_bitmap_address, field::vmwrite_bitmap_address,
          field::virtualization_exception_information_address}) {
        a.vmcs.set(address, ~0ULL);
        EXPECT_EQ(a.check(), accepted) << std::hex << address.encoding;
    }
    a.vmcs.set(field::virtual_processor_identifier, 0);
    EXPECT_EQ(a.check(), accepted);
}

// In virtual-8086 mode a selector has no RPL.
TEST(EntryAccepts, AVirtual8086GuestWhoseSelectorsEndAsTheyLike) {
    Attempt a = virtual_8086();
    a.vmcs.set(field::guest_ss_selector, 0x2002);  // CS ends in another one
    a.vmcs.set(field::guest_ss_base, 0x2'0020);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, AHaltedGuestWhoseDataSegmentsAreTheUsers) {
    Attempt a = long_mode();
    a.vmcs.set(field::guest_activity_state, static_cast<std::uint32_t>(vmx::ActivityState::hlt));
    set_segment(a.vmcs, detail::ds, 0x2b, 0, 0xffff'ffff, 0xc0f3);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, ThirtyTwoBitHostThatLoadsItsEfer) {
    Attempt a = protected_mode();
    a.context.ia32e_mode = false;
    a.vmcs.lower(field::vm_exit_controls, exit_control::host_address_space_size);
    a.vmcs.raise(field::vm_exit_controls, exit_control::load_ia32_efer);
    a.vmcs.set(field::host_rip, 0x10'0000);
    a.vmcs.set(field::host_ss_selector, 0x18);
    a.vmcs.set(field::host_ia32_efer, 0);
    EXPECT_EQ(a.check(), accepted);
    a.vmcs.set(field::host_ia32_efer, x86::efer::long_mode_enable);
    EXPECT_EQ(a.check(), refused(EntryCheck::host_efer_matches_address_space_size));
}

TEST(EntryAccepts, AnySecondaryControlsThatAreNotActivated) {
    Attempt a = long_mode();
    a.vmcs.set(field::secondary_processor_based_vm_execution_controls, ~0u);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, VpidZeroWhereVpidIsOff) {
    Attempt a = all_features();
    a.vmcs.lower(field::secondary_processor_based_vm_execution_controls, secondary::enable_vpid);
    a.vmcs.set(field::virtual_processor_identifier, 0);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, EveryVpidButZero) {
    Attempt a = all_features();
    for (const std::uint16_t vpid : std::initializer_list<std::uint16_t>{1, 2, 0x7fff, 0x8000, 0xffff}) {
        a.vmcs.set(field::virtual_processor_identifier, vpid);
        EXPECT_EQ(a.check(), accepted) << vpid;
    }
}

TEST(EntryAccepts, MsrAreaThatEndsWithThePhysicalAddressSpace) {
    Attempt a = all_features();
    a.vmcs.set(field::vm_entry_msr_load_address, beyond_width - 0x20);
    a.vmcs.set(field::vm_entry_msr_load_count, 2);
    EXPECT_EQ(a.check(), accepted);
    // Of sixteen entries the last one is beyond it.
    a.vmcs.set(field::vm_entry_msr_load_address, beyond_width - 0xf0);
    a.vmcs.set(field::vm_entry_msr_load_count, 16);
    EXPECT_NE(a.check(), accepted);
}

TEST(EntryAccepts, TprThresholdEqualToTheVirtualTpr) {
    Attempt a = long_mode();
    a.vmcs.raise(field::primary_processor_based_vm_execution_controls, primary::use_tpr_shadow);
    a.vmcs.set(field::virtual_apic_address, 0x1'3000);
    a.vmcs.set(field::tpr_threshold, 5);
    a.memory.write<std::uint8_t>(0x1'3080, 0x50);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, AnyTprThresholdWithApicAccessesVirtualized) {
    Attempt a = long_mode();
    a.vmcs.raise(field::primary_processor_based_vm_execution_controls,
                 primary::use_tpr_shadow | primary::activate_secondary_controls);
    a.vmcs.raise(field::secondary_processor_based_vm_execution_controls, secondary::virtualize_apic_accesses);
    a.vmcs.set(field::tpr_threshold, 0xf);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, EveryExceptionAsTheProcessorWouldDeliverIt) {
    for (std::uint8_t vector = 0; vector < 32; ++vector) {
        Attempt a = long_mode();
        const bool with_error_code =
            vector != 21 && x86::has_error_code(vector);  // no CET here, hence no #CP
        a.vmcs.set(
            field::vm_entry_interruption_information,
            InterruptionInformation::make(InterruptionType::hardware_exception, vector, with_error_code)
                .value);
        EXPECT_EQ(a.check(), accepted) << int{vector};
    }
}

TEST(EntryAccepts, ControlProtectionWithErrorCodeWhereCetExists) {
    Attempt a = long_mode();
    a.promised.vm_entry.allowed1 |= entry_control::load_cet_state;
    a.vmcs.set(field::vm_entry_interruption_information,
               InterruptionInformation::exception(x86::Vector::control_protection).value);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, AnyErrorCodeChoiceWhereTheProcessorSaysSo) {
    Attempt a = long_mode();
    a.promised.basic.value |= vmx::BasicCapability::any_error_code;
    for (const std::uint32_t information : {0x8000'0b06u, 0x8000'030eu}) {
        a.vmcs.set(field::vm_entry_interruption_information, information);
        EXPECT_EQ(a.check(), accepted) << std::hex << information;
    }
}

TEST(EntryAccepts, ZeroLengthInjectionWherePromised) {
    Attempt a = long_mode();
    a.promised.misc.value |= vmx::MiscCapability::zero_length_injection;
    a.vmcs.set(field::vm_entry_interruption_information,
               InterruptionInformation::make(InterruptionType::software_exception, 3).value);
    a.vmcs.set(field::vm_entry_instruction_length, 0);
    EXPECT_EQ(a.check(), accepted);
    a.vmcs.set(field::vm_entry_instruction_length, 15);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, HostPagingStateThatIsNotExemptOnlyForGuests) {
    Attempt a = real_mode();
    EXPECT_EQ(a.check(), accepted);  // guest CR0 without PE and PG
    a.vmcs.set(field::host_cr0, 0x30);
    EXPECT_EQ(a.check(), refused(EntryCheck::host_cr0_fixed_bits));
}

TEST(EntryAccepts, NullStackSelectorOfASixtyFourBitHost) {
    Attempt a = long_mode();
    EXPECT_EQ(a.vmcs.get(field::host_ss_selector), 0);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, GuestRipThatIsNotCanonicalInItsHighestBitAlone) {
    Attempt a = long_mode();
    a.vmcs.set(field::guest_rip, non_canonical);
    EXPECT_EQ(a.check(), accepted);
    a.vmcs.set(field::guest_rip, 0xffff'7fff'ffff'ffff);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, UnusableSegmentsWhateverTheyHold) {
    Attempt a = long_mode();
    for (const std::size_t which : {detail::ss, detail::ds, detail::es}) {
        set_segment(a.vmcs, which, 0, ~0ULL << 32, 0x1234'5678, 0x1'0000);
    }
    for (const std::size_t which : {detail::fs, detail::gs}) {
        set_segment(a.vmcs, which, 0x2b, 0xffff'8000'0000'0000, 0x1234'5678, 0xffff'0000);
    }
    set_segment(a.vmcs, detail::ldtr, 0x4, non_canonical, 0x1234'5678, 0x1'0f00);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, CodeAndStackTypesOfTheManual) {
    Attempt a = long_mode();
    for (const std::uint32_t type : {9u, 11u, 13u, 15u}) {
        a.vmcs.set(field::guest_cs_access_rights, 0xa090 | type);
        EXPECT_EQ(a.check(), accepted) << type;
    }
    a.vmcs.set(field::guest_ss_access_rights, 0xc097);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, WritableDataAsCodeOfAnUnrestrictedGuest) {
    Attempt a = real_mode();
    a.vmcs.set(field::guest_cs_access_rights, 0x93);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, ConformingCodeInADataSegmentOfAnyLevel) {
    Attempt a = protected_mode();
    a.vmcs.set(field::guest_ds_access_rights, 0xc09f);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, SixteenBitTaskRegisterOutsideIa32eMode) {
    Attempt a = protected_mode();
    a.vmcs.set(field::guest_tr_access_rights, 0x83);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, LongModeEnabledButInactiveWhilePagingIsOff) {
    Attempt a = real_mode();
    a.vmcs.raise(field::vm_entry_controls, entry_control::load_ia32_efer);
    a.vmcs.set(field::guest_ia32_efer, x86::efer::long_mode_enable);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, EveryActivityStateWithItsEvents) {
    const auto with = [](std::uint32_t activity, std::uint32_t information) {
        Attempt a = long_mode();
        a.vmcs.set(field::guest_activity_state, activity);
        a.vmcs.set(field::vm_entry_interruption_information, information);
        return a.check();
    };
    for (std::uint32_t activity = 0; activity < 4; ++activity)
        EXPECT_EQ(with(activity, 0), accepted) << activity;
    EXPECT_EQ(with(1, 0x8000'0020), accepted);  // external interrupt
    EXPECT_EQ(with(1, 0x8000'0202), accepted);  // NMI
    EXPECT_EQ(with(1, 0x8000'0301), accepted);  // #DB
    EXPECT_EQ(with(1, 0x8000'0312), accepted);  // #MC
    EXPECT_EQ(with(1, 0x8000'0700), accepted);  // pending MTF exit
    EXPECT_EQ(with(2, 0x8000'0202), accepted);
    EXPECT_EQ(with(2, 0x8000'0312), accepted);
}

TEST(EntryAccepts, NmiWhileBlockedByStiOrWithoutVirtualNmis) {
    Attempt a = long_mode();
    a.vmcs.set(field::vm_entry_interruption_information, InterruptionInformation::nmi().value);
    a.vmcs.set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_sti);
    EXPECT_EQ(a.check(), accepted);
    a.vmcs.set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_nmi);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, PendingSingleStepWhateverTheTrapFlagWhereNothingHoldsIt) {
    Attempt a = long_mode();
    a.vmcs.set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, OrdinaryVmcsAsLinkWithoutShadowing) {
    Attempt a = long_mode();
    a.vmcs.set(field::vmcs_link_pointer, 0x2'0000);
    a.memory.write<std::uint32_t>(0x2'0000, revision);
    EXPECT_EQ(a.check(), accepted);
}

TEST(EntryAccepts, AnyPdptesOutsidePaePaging) {
    Attempt a = all_features();
    a.vmcs.set(field::guest_pdpte0, ~0ULL);
    EXPECT_EQ(a.check(), accepted);
    Attempt legacy = protected_mode();
    legacy.memory.write<std::uint64_t>(0x2000, ~0ULL);
    EXPECT_EQ(legacy.check(), accepted);
}

TEST(EntryAccepts, WhatOnlyMemoryWouldRefuseWhereMemoryIsNotGiven) {
    Attempt a = pae_paging();
    a.memory.write<std::uint64_t>(0x3020, ~0ULL);
    EXPECT_EQ(a.check(), refused(EntryCheck::pdpte_reserved_bits));
    EXPECT_EQ(check_guest_state(a.vmcs, a.rules(), a.context), accepted);
}

}  // namespace
}  // namespace flatback::nested::testing_entry::accepted_test
