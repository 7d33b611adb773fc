// VMLAUNCH and VMRESUME: what refuses them, in the SDM's order, and what a refusal leaves (SDM 3C chapter
// 27).
#include <gtest/gtest.h>

#include "nested/entry/checks_table.hpp"
#include "tests/nested/engine.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::vm_entry_test {
namespace {

constexpr auto bad_controls = vm_fail(InstructionError::entry_with_invalid_control_fields);
constexpr auto bad_host = vm_fail(InstructionError::entry_with_invalid_host_state_fields);
constexpr auto bad_guest = l1_sees(ExitReason::entry_failure_guest_state);
constexpr auto bad_msrs = l1_sees(ExitReason::entry_failure_msr_loading);

class VmEntry : public ::testing::TestWithParam<bool> {
protected:
    VmEntry() { l1.prepare(); }
    // What L1 was before the last entry, but for RIP and RFLAGS.
    void remember() { before = l1.vmcs01().words; }
    void expect_l1_unchanged() {
        FakeVmcs& v = l1.vmcs01();
        for (const vmx::NamedField& named : vmx::all_fields) {
            if (vmx::kind(named.encoding) != vmx::FieldKind::guest_state) continue;
            if (named.encoding == field::guest_rip.encoding || named.encoding == field::guest_rflags.encoding)
                continue;
            EXPECT_EQ(v.word(named.encoding),
                      before.at(static_cast<std::size_t>(vmx::dense_index(named.encoding))))
                << named.name;
        }
    }
    std::uint64_t failure_qualification() { return l1.read(field::exit_qualification); }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    std::array<std::uint64_t, vmx::field_count> before{};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, VmEntry, ::testing::Bool());

TEST_P(VmEntry, NeedsACurrentVmcs) {
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), vm_fail_invalid);
    EXPECT_EQ(l1.vmresume(), vm_fail_invalid);
}

TEST_P(VmEntry, AfterMovSsIsError26BeforeAnyOther) {
    l1.vmcs01().set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_mov_ss);
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::entry_with_events_blocked_by_mov_ss));
    EXPECT_EQ(l1.vmlaunch(), l2_runs) << "the failing instruction ended the blocking";
}

TEST_P(VmEntry, FollowsTheLaunchState) {
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::vmresume_with_non_launched_vmcs));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmlaunch(), vm_fail(InstructionError::vmlaunch_with_non_clear_vmcs));
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(VmEntry, ChecksTheLaunchStateBeforeTheControls) {
    l1.write(field::pin_based_vm_execution_controls, 0);
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::vmresume_with_non_launched_vmcs));
}

TEST_P(VmEntry, WithBadControlsIsError7AndLeavesL1AsItWas) {
    l1.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vm_functions);
    l1.use_secondary(0);
    remember();
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    expect_l1_unchanged();
    ASSERT_FALSE(l1.port.notices.empty());
    EXPECT_EQ(l1.port.notices.back().first, nested::Notice::entry_check_failed);
    EXPECT_EQ(static_cast<nested::EntryCheck>(l1.port.notices.back().second),
              nested::EntryCheck::secondary_processor_based_reserved_bits);
    l1.write(field::secondary_processor_based_vm_execution_controls, 0);
    EXPECT_EQ(l1.vmlaunch(), l2_runs) << "and the next one may be good";
}

TEST_P(VmEntry, WithBadHostStateIsError8AndLeavesL1AsItWas) {
    l1.write(field::host_cr4, 0x6a0);  // VMXE = 0
    remember();
    EXPECT_EQ(l1.vmlaunch(), bad_host);
    expect_l1_unchanged();
    l1.write(field::host_cr4, 0x26a0);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST_P(VmEntry, ChecksControlsBeforeHostStateBeforeGuestState) {
    l1.write(field::host_cs_selector, 0);
    l1.write(field::guest_rflags, 0);
    l1.write(field::cr3_target_count, 5);
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    l1.write(field::cr3_target_count, 0);
    EXPECT_EQ(l1.vmlaunch(), bad_host);
    l1.write(field::host_cs_selector, 0x10);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    l1.write(field::guest_rflags, 2);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST_P(VmEntry, ChecksAgainWhatWasGoodBefore) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::host_tr_selector, 0);
    EXPECT_EQ(l1.vmresume(), bad_host);
    l1.write(field::host_tr_selector, 0x40);
    l1.write(field::vm_entry_controls, 0);
    EXPECT_EQ(l1.vmresume(), bad_controls);
    l1.write(field::vm_entry_controls, 0xd3ff);
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(VmEntry, ChecksHostStateAgainstL1sModeOfTheMoment) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmxoff(), vm_succeed);
    ASSERT_EQ(l1.vmxon(), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    // L1 left IA-32e mode meanwhile, which it cannot in VMX operation (CR0.PG), and its VMCS still asks for a
    // 64-bit host. (The operands above were read in 64-bit mode: the paging of the other is not set up here.)
    FakeVmcs& v = l1.vmcs01();
    v.set(field::guest_cs_access_rights, 0xc09b);
    v.set(field::guest_ia32_efer, 0x800);
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    v.set(field::guest_rip, 0x10'0000);
    EXPECT_EQ(l1.vmlaunch().kind, Outcome::Kind::failed_valid);
    EXPECT_EQ(l1.read(field::vm_instruction_error),
              static_cast<std::uint64_t>(vmx::InstructionError::entry_with_invalid_host_state_fields));
}

TEST_P(VmEntry, ChecksAHostRipThatL1Changed) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const std::uint64_t good = l1.read(field::host_rip);
    l1.write(field::host_rip, std::uint64_t{1} << 63);
    EXPECT_EQ(l1.vmresume(), vm_fail(vmx::InstructionError::entry_with_invalid_host_state_fields));
    l1.write(field::host_rip, good);
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(VmEntry, WithVpidZeroIsError7) {
    l1.use_vpid(0);
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    l1.write(field::virtual_processor_identifier, 1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::virtual_processor_identifier, 0);
    EXPECT_EQ(l1.vmresume(), bad_controls) << "where nothing but the VPID changed, too";
}

TEST_P(VmEntry, WithBadGuestStateIsExit33AtTheHostRip) {
    l1.write(field::guest_rflags, 0);
    l1.write(field::vm_entry_interruption_information, 0x8000'0030);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(l1.vmcs01().get(field::guest_rip), layout::host_rip);
    EXPECT_EQ(l1.vmcs01().get(field::guest_rflags), 2U);
    EXPECT_EQ(l1.read(field::exit_reason), 0x8000'0021U);
    EXPECT_EQ(failure_qualification(), 0U);
    EXPECT_EQ(l1.read(field::guest_rflags), 0U) << "the guest-state area is not modified";
    EXPECT_EQ(l1.read(field::vm_entry_interruption_information), 0x8000'0030U) << "nor the valid bit cleared";
    l1.write(field::guest_rflags, 0x202);
    EXPECT_EQ(l1.vmlaunch(), l2_runs) << "it is not launched yet";
    EXPECT_EQ(l1.injected(), 0x8000'0030U);
}

TEST_P(VmEntry, ThatFailsLeavesMostExitInformation) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::io_instruction,
                           .qualification = 0x77,
                           .interruption = 0x8000'0b0d,
                           .vectoring = 0x8000'0031,
                           .instruction_length = 5,
                           .instruction_information = 0x99}),
              l1_sees(ExitReason::io_instruction));
    l1.write(field::guest_rflags, 0);
    ASSERT_EQ(l1.vmresume(), bad_guest);
    EXPECT_EQ(l1.read(field::exit_reason), 0x8000'0021U);
    EXPECT_EQ(l1.read(field::exit_qualification), 0U);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), 0x8000'0b0dU);
    EXPECT_EQ(l1.read(field::idt_vectoring_information), 0x8000'0031U);
    EXPECT_EQ(l1.read(field::vm_exit_instruction_length), 5U);
    EXPECT_EQ(l1.read(field::vm_exit_instruction_information), 0x99U);
    l1.write(field::guest_rflags, 0x202);
    EXPECT_EQ(l1.vmresume(), l2_runs) << "and it stays launched";
}

TEST_P(VmEntry, WithABadLinkPointerIsExit33WithQualification4) {
    l1.port.memory.write<std::uint32_t>(0x2'0000, nested::vmcs12_revision | 0x8000'0000);
    for (const std::uint64_t link : {0x2'0001UL, 1UL << physical_width, layout::vmcs_region(0),
                                     L1Memory::l0_start, 0x2'1000UL, 0x2'0000UL}) {
        l1.write(field::vmcs_link_pointer, link);
        EXPECT_EQ(l1.vmlaunch(), bad_guest) << std::hex << link;
        EXPECT_EQ(failure_qualification(), 4U);
    }
    l1.port.memory.write<std::uint32_t>(0x2'0000, nested::vmcs12_revision);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmcs_link_pointer), ~0ULL) << "the hardware never sees it";
}

TEST_P(VmEntry, ChecksTheLinkPointerThatComesWithAVmcs) {
    l1.write(field::vmcs_link_pointer, 5);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    l1.make_vmcs(1);  // which gets the place of the first
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(1)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(failure_qualification(), 4U);
}

TEST_P(VmEntry, IntoActivityStates) {
    l1.write(field::guest_activity_state, 4);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(failure_qualification(), 0U);
    l1.write(field::guest_activity_state, static_cast<std::uint32_t>(vmx::ActivityState::hlt));
    ASSERT_EQ(l1.vmlaunch(), l2_runs) << "also where HLT exits";
    EXPECT_EQ(l1.vmcs02().get(field::guest_activity_state), 1U);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l1_sees(ExitReason::interrupt_window));
    EXPECT_EQ(l1.vmcs01().get(field::guest_activity_state), 0U);
    EXPECT_EQ(l1.read(field::guest_activity_state), 1U) << "as the exit saved it";
    l1.write(field::guest_activity_state, static_cast<std::uint32_t>(vmx::ActivityState::wait_for_sipi));
    EXPECT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_activity_state), 3U);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::startup_ipi}), l1_sees(ExitReason::startup_ipi));
    EXPECT_EQ(l1.vmcs01().get(field::guest_activity_state), 0U);
    l1.write(field::guest_activity_state, static_cast<std::uint32_t>(vmx::ActivityState::shutdown));
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(VmEntry, OfAnL2ThatHaltedByItself) {
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::hlt_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_activity_state, 1);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}),
              l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::guest_activity_state), 1U);
    EXPECT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}),
              l1_sees(ExitReason::external_interrupt));
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), l2_runs) << "after VMCLEAR as before it";
}

TEST_P(VmEntry, RefusesCr4BitsThatWereNotPromised) {
    l1.raise(field::guest_cr4, x86::cr4::smx_enable);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
}

TEST_P(VmEntry, ThatTheProcessorRefusesIsError7) {
    // A rule that is left to the processor: the TPR threshold is above the virtual TPR.
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_tpr_shadow);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.write(field::tpr_threshold, 3);
    remember();
    EXPECT_EQ(l1.vmlaunch(), bad_controls);
    expect_l1_unchanged();
    EXPECT_FALSE(l1.in_l2());
    l1.port.memory.write<std::uint8_t>(layout::apic_page + 0x80, 0x30);
    EXPECT_EQ(l1.vmlaunch(), l2_runs) << "a failing VMLAUNCH leaves the VMCS clear";
    EXPECT_EQ(l1.vmcs02().get(field::virtual_apic_address), FakePort::host_of(layout::apic_page));
}

TEST_P(VmEntry, WithAnEventIsCheckedEveryTime) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto try_event = [&](std::uint32_t information, std::uint32_t error_code = 0,
                               std::uint32_t length = 0) {
        l1.write(field::vm_entry_interruption_information, information);
        l1.write(field::vm_entry_exception_error_code, error_code);
        l1.write(field::vm_entry_instruction_length, length);
        return l1.vmresume();
    };
    EXPECT_EQ(try_event(0x8000'0100), bad_controls) << "type 1 is reserved";
    EXPECT_EQ(try_event(0x8000'0700), bad_controls) << "a pending MTF exit is not offered";
    EXPECT_EQ(try_event(0x8000'0203), bad_controls) << "an NMI has vector 2";
    EXPECT_EQ(try_event(0x8000'0306), l2_runs) << "#UD";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(try_event(0x8000'0b06), bad_controls) << "#UD with an error code";
    EXPECT_EQ(try_event(0x8000'030d), bad_controls) << "#GP without one";
    EXPECT_EQ(try_event(0x8000'0b0d, 0x1'0000), bad_controls);
    EXPECT_EQ(try_event(0x8000'1030), bad_controls) << "a reserved bit";
    EXPECT_EQ(try_event(0x8000'0480, 0, 16), bad_controls) << "an instruction of 16 bytes";
    EXPECT_EQ(try_event(0x8000'0480, 0, 2), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0480U);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_instruction_length), 2U);
}

TEST(VmEntryMsrList, LoadsItsMsrsIntoL2) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 3);
    const auto put = [&](unsigned n, std::uint32_t msr, std::uint64_t value, std::uint32_t reserved = 0) {
        l1.port.memory.write<std::uint32_t>(layout::msr_list + n * 16, msr);
        l1.port.memory.write<std::uint32_t>(layout::msr_list + n * 16 + 4, reserved);
        l1.port.memory.write<std::uint64_t>(layout::msr_list + n * 16 + 8, value);
    };
    put(0, x86::msr::ia32_star, 0xaaaa);
    put(1, x86::msr::ia32_sysenter_esp, 0xbbb0);
    put(2, x86::msr::ia32_lstar, 0xcccc);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.port.msrs[x86::msr::ia32_star], 0xaaaaU);
    EXPECT_EQ(l1.port.msrs[x86::msr::ia32_lstar], 0xccccU);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_sysenter_esp), 0xbbb0U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));

    const auto fails_at = [&](std::uint64_t place) {
        EXPECT_EQ(l1.vmresume(), bad_msrs);
        EXPECT_EQ(l1.vmcs01().get(field::guest_rip), layout::host_rip);
        EXPECT_EQ(l1.read(field::exit_reason), 0x8000'0022U);
        EXPECT_EQ(l1.read(field::exit_qualification), place);
    };
    put(1, x86::msr::ia32_fs_base, 0x1000);
    fails_at(2);
    put(1, x86::msr::ia32_gs_base, 0x1000);
    fails_at(2);
    put(1, 0x808, 0);  // x2APIC
    fails_at(2);
    put(1, x86::msr::ia32_smm_monitor_ctl, 0);
    fails_at(2);
    put(1, x86::msr::ia32_bios_updt_trig, 0);
    fails_at(2);
    put(1, 0x1234'5678, 0);  // no such MSR
    fails_at(2);
    put(1, x86::msr::ia32_pat, 2);  // no memory type
    fails_at(2);
    put(1, x86::msr::ia32_efer, 0x401);  // LME cleared with paging on
    fails_at(2);
    put(1, x86::msr::ia32_sysenter_eip, 1ULL << 47);
    fails_at(2);
    put(1, x86::msr::ia32_star, 1, 1);  // reserved bits of the entry
    fails_at(2);
    put(1, x86::msr::ia32_star, 1);
    EXPECT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::vm_entry_msr_load_address, L1Memory::l0_start);
    fails_at(1);
}

}  // namespace
}  // namespace flatback::nested_test::vm_entry_test
