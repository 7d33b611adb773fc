// Guest state that VM entry takes from elsewhere, and entries that L0 makes by itself.
#include <gtest/gtest.h>

#include "nested/notice.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::entry_state_test {
namespace {

constexpr auto bad_guest = l1_sees(ExitReason::entry_failure_guest_state);
constexpr std::uint64_t pdpt = 0x5'0020;

class EntryState : public ::testing::TestWithParam<bool> {
protected:
    EntryState() { l1.prepare(); }
    // A 32-bit L2 with PAE paging and without EPT of L1's.
    void make_pae_guest() {
        l1.lower(field::vm_entry_controls, vmx::entry_control::ia32e_mode_guest);
        l1.write(field::guest_ia32_efer, 0x800);
        l1.write(field::guest_cs_access_rights, 0xc09b);
        l1.write(field::guest_rip, 0x2000);
        l1.write(field::guest_cr3, pdpt);
        for (std::uint64_t n = 0; n < 4; ++n)
            l1.port.memory.write<std::uint64_t>(pdpt + 8 * n, 0x6'0001 + n * 0x1000);
    }
    // L2 clears EFER.LME with paging off, and goes on with 32-bit paging.
    void leave_ia32e_mode_as_l2() {
        FakeVmcs& v = l1.vmcs02();
        v.set(field::guest_cr4, v.get(field::guest_cr4) & ~x86::cr4::physical_address_extension);
        v.set(field::guest_ia32_efer, 1);
        v.set(field::guest_cs_access_rights, 0xc09b);
        v.set(field::guest_rip, 0x2000);
        v.set(field::vm_entry_controls,
              v.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam(), .hardware = processor_for(GetParam())}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, EntryState, ::testing::Bool());

TEST_P(EntryState, TakesThePdptesFromMemoryWithoutEpt) {
    make_pae_guest();
    l1.write(field::guest_pdpte0, 0x9'9001);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pdpte0), 0x6'0001U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pdpte3), 0x6'3001U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.memory.write<std::uint64_t>(pdpt, 0x7'0001);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pdpte0), 0x7'0001U) << "at every entry";
}

TEST_P(EntryState, WithBadPdptesInMemoryIsExit33WithQualification2) {
    make_pae_guest();
    l1.port.memory.write<std::uint64_t>(pdpt + 16, 0x7'0003);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_EQ(l1.read(field::exit_qualification), 2U);
    l1.port.memory.write<std::uint64_t>(pdpt + 16, 0x7'0002);  // not present, so nothing is reserved
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::guest_cr3, L1Memory::l0_start);
    EXPECT_EQ(l1.vmresume(), bad_guest);
}

// What CR3 names is a page directory then.
TEST_P(EntryState, HasNoPdptesWithoutPaePaging) {
    make_pae_guest();
    l1.write(field::guest_cr4, 0x2680);
    l1.port.memory.write<std::uint64_t>(pdpt, 0x7'0003);  // of a PDPTE a reserved bit
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pdpte0), 0U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::guest_cr4, 0x26a0);
    EXPECT_EQ(l1.vmresume(), bad_guest);
}

TEST_P(EntryState, WithEptTakesThePdptesFromTheVmcs) {
    make_pae_guest();
    l1.use_ept(layout::ept_tables | 0x1e);
    l1.write(field::guest_pdpte0, 0x9'9001);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pdpte0), 0x9'9001U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::guest_pdpte0, 0x9'9003);
    EXPECT_EQ(l1.vmresume(), bad_guest);
    EXPECT_EQ(l1.read(field::exit_qualification), 2U);
}

TEST_P(EntryState, IsJudgedBeforeAnyMsrIsLoaded) {
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 1);
    l1.port.memory.write<std::uint32_t>(layout::msr_list, x86::msr::ia32_star);
    l1.port.memory.write<std::uint64_t>(layout::msr_list + 8, 0x5555);
    l1.write(field::guest_rflags, 0);
    EXPECT_EQ(l1.vmlaunch(), bad_guest);
    EXPECT_NE(l1.port.msrs[x86::msr::ia32_star], 0x5555U);
}

TEST_P(EntryState, OfALongMsrListIsRefused) {
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 100'000);
    EXPECT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_msr_loading));
    EXPECT_EQ(l1.read(field::exit_qualification), 513U);
}

TEST_P(EntryState, ThatAnMsrListSpoilsIsTold) {
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 2);
    l1.port.memory.write<std::uint64_t>(layout::msr_list, x86::msr::ia32_star);
    l1.port.memory.write<std::uint64_t>(layout::msr_list + 16, x86::msr::ia32_fs_base);
    EXPECT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_msr_loading));
    ASSERT_FALSE(l1.port.notices.empty());
    EXPECT_EQ(l1.port.notices.back(), std::pair(nested::Notice::entry_msr_refused, std::uint64_t{2}));
}

// --- the newest value (newest_property_test.cpp has the rest)

TEST_P(EntryState, OfAnL2ThatLeftIa32eModeByItselfIsGoodBesideAnMsrList) {
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 1);
    l1.port.memory.write<std::uint64_t>(layout::msr_list, x86::msr::ia32_star);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    leave_ia32e_mode_as_l2();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

TEST_P(EntryState, OfAnL2ThatLeftIa32eModeByItselfOutlivesAChangeOfControls) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    leave_ia32e_mode_as_l2();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::rdtsc_exiting);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest, 0U);
}

TEST_P(EntryState, ThatExitsSavedUntilL1AskedThemNotToIsWhatTheLastOneSaved) {
    constexpr std::uint64_t l2_pat = 0x0606'0606'0606'0606;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, l2_pat);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.lower(field::vm_exit_controls, vmx::exit_control::save_ia32_pat);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_pat), l2_pat);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::guest_ia32_pat), l2_pat);
}

// --- what a failed entry leaves behind (SDM 3C 27.8: nothing of it is saved)

TEST_P(EntryState, ThatWasInheritedIsNotL1sAfterAFailedEntry) {
    constexpr std::uint64_t l2_pat = 0x0606'0606'0606'0606;
    l1.lower(field::vm_entry_controls, vmx::entry_control::load_ia32_pat);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, l2_pat);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_NE(l1.vmcs02().get(field::guest_ia32_pat), l2_pat) << "L2 is entered with L1's";
    ASSERT_EQ(l1.hardware_refuses_state(), bad_guest);
    EXPECT_EQ(l1.read(field::guest_ia32_pat), l2_pat) << "as the last exit saved it";
    l1.raise(field::vm_entry_controls, vmx::entry_control::load_ia32_pat);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_pat), l2_pat);
}

TEST_P(EntryState, LoadedByAnMsrListIsNotL1sAfterAFailedEntry) {
    constexpr std::uint64_t l2_pat = 0x0606'0606'0606'0606;
    constexpr std::uint64_t l2_esp = 0x5555'0000;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, l2_pat);
    l1.vmcs02().set(field::guest_ia32_sysenter_esp, l2_esp);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto list = [&](unsigned n, std::uint32_t msr, std::uint64_t value) {
        l1.port.memory.write<std::uint64_t>(layout::msr_list + n * 16, msr);
        l1.port.memory.write<std::uint64_t>(layout::msr_list + n * 16 + 8, value);
    };
    list(0, x86::msr::ia32_pat, 0x0404'0404'0404'0404);
    list(1, x86::msr::ia32_sysenter_esp, 0x6666'0000);
    list(2, x86::msr::ia32_fs_base, 0);  // which no list may have
    l1.write(field::vm_entry_msr_load_address, layout::msr_list);
    l1.write(field::vm_entry_msr_load_count, 3);
    ASSERT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_msr_loading));
    EXPECT_EQ(l1.read(field::exit_qualification), 3U);
    EXPECT_EQ(l1.read(field::guest_ia32_pat), l2_pat);
    EXPECT_EQ(l1.read(field::guest_ia32_sysenter_esp), l2_esp);
    l1.write(field::vm_entry_msr_load_count, 0);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_pat), l2_pat);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_sysenter_esp), l2_esp);
}

TEST_P(EntryState, ThatWasTakenFromMemoryIsNotL1sAfterAFailedEntry) {
    make_pae_guest();
    l1.write(field::guest_pdpte0, 0x9'9001);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.hardware_refuses_state(), bad_guest);
    EXPECT_EQ(l1.read(field::guest_pdpte0), 0x9'9001U);
}

TEST_P(EntryState, OfASuccessfulEntryIsNotRestoredByALaterFailure) {
    l1.lower(field::vm_entry_controls, vmx::entry_control::load_ia32_pat);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, 0x0606'0606'0606'0606);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::vmcs_link_pointer, 5);  // fails before anything is inherited
    ASSERT_EQ(l1.vmresume(), bad_guest);
    EXPECT_EQ(l1.read(field::guest_ia32_pat), 0x0606'0606'0606'0606U);
}

// --- entries of L0's own

TEST_P(EntryState, AReentryThatTheProcessorRefusesEndsL2AndNotL0) {
    for (const bool vmfail : {false, true}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare_and_launch();
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation, .vectoring = 0x8000'0030}), l2_runs);
        EXPECT_EQ(vmfail ? other.hardware_refuses_entry(7) : other.hardware_refuses_state(),
                  l1_sees(ExitReason::triple_fault));
        EXPECT_EQ(other.vmresume(), l2_runs);
        EXPECT_EQ(other.injected() & vmx::InterruptionInformation::valid_bit, 0U);
    }
}

TEST_P(EntryState, AFailureOfL1sOwnEntryIsNotTheEngines) {
    EXPECT_EQ(l1.hardware_refuses_entry(7), Outcome{});
    EXPECT_FALSE(l1.in_l2());
}

TEST_P(EntryState, AnNmiExitPassesOnNoStateThatIsNotKnownToBeGood) {
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting);
    l1.lower(field::vm_exit_controls, vmx::exit_control::load_ia32_pat);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, 2);  // as if L1 had written it, before the processor looked
    EXPECT_FALSE(l1.deliver_nmi());
    l1.vmcs02().set(field::guest_ia32_pat, 0x0404'0404'0404'0404);
    EXPECT_TRUE(l1.deliver_nmi());
    EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_pat), 0x0404'0404'0404'0404U);
}

}  // namespace
}  // namespace flatback::nested_test::entry_state_test
