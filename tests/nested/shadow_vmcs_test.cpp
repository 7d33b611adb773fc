// VMCS shadowing for L1, and more VMCSs than the engine keeps active: whichever way a field is read, it is
// the newest.
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "nested/vmcs/shadow_fields.hpp"
#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested_test::shadow_vmcs_test {
namespace {

class ShadowVmcs : public ::testing::Test {
protected:
    ShadowVmcs() { l1.prepare(); }
    FakeVmcs& shadow() { return l1.port.vmcs(x86::Hpa{l1.vmcs01().get(field::vmcs_link_pointer)}); }
    VirtualCpu l1{{.shadow_vmcs = true}};
};

TEST_F(ShadowVmcs, ServesItsFieldsWithoutAnExit) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto reads = l1.counters().vmread_exits;
    const auto writes = l1.counters().vmwrite_exits;
    for (const auto encoding : nested::exit_fields) (void)l1.read_raw(encoding);
    for (const auto encoding : nested::written_fields) l1.write_raw(encoding, l1.read_raw(encoding));
    for (const auto encoding : nested::written_with_event) l1.write_raw(encoding, l1.read_raw(encoding));
    for (const auto encoding : nested::written_with_timer) l1.write_raw(encoding, l1.read_raw(encoding));
    for (const auto encoding : nested::written_with_tpr_shadow) l1.write_raw(encoding, l1.read_raw(encoding));
    EXPECT_EQ(l1.counters().vmread_exits, reads);
    EXPECT_EQ(l1.counters().vmwrite_exits, writes);
    (void)l1.read(field::guest_cr3);
    EXPECT_EQ(l1.counters().vmread_exits, reads + 1) << "and no other";
    EXPECT_EQ(l1.vmwrite(field::exit_reason.encoding, 0), vm_succeed);
    EXPECT_EQ(l1.counters().vmwrite_exits, writes + 1);
}

TEST_F(ShadowVmcs, BringsWhatL1WroteToVmcs02) {
    l1.write(field::guest_rip, 0x1111'1000);
    l1.write(field::guest_rsp, 0x2222'2000);
    l1.write(field::guest_rflags, 0x602);
    l1.write(field::guest_interruptibility_state, 1);
    l1.raise(field::guest_rflags, 0x200);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(v.get(field::guest_rip), 0x1111'1000U);
    EXPECT_EQ(v.get(field::guest_rsp), 0x2222'2000U);
    EXPECT_EQ(v.get(field::guest_rflags), 0x602U);
    EXPECT_EQ(v.get(field::guest_interruptibility_state), 1U);
}

TEST_F(ShadowVmcs, BringsTheHostsStackPointerToTheExit) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::host_rsp, 0xffff'8000'0000'4440);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmcs01().get(field::guest_rsp), 0xffff'8000'0000'4440U);
    EXPECT_EQ(l1.vmcs02().get(field::host_rsp), l0_host_state(field::host_rsp.encoding)) << "L0's is L0's";
}

TEST_F(ShadowVmcs, BringsTheTprThresholdToVmcs02) {
    l1.write(field::virtual_apic_address, layout::apic_page);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    // With the control that makes it count, which L1 may write in its shadow VMCS as well.
    l1.port.memory.write<std::uint32_t>(layout::apic_page + 0x80, 0xf0);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_tpr_shadow);
    l1.write(field::tpr_threshold, 5);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tpr_threshold), 5U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::tpr_threshold, 3);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tpr_threshold), 3U);
}

TEST_F(ShadowVmcs, HasTheTimersValueBothWays) {
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
    l1.write(field::vmx_preemption_timer_value, 1000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 1000U);
    const unsigned rate = l1.capabilities.promised.misc.preemption_timer_rate();
    l1.port.tsc += std::uint64_t{600} << rate;  // the processor counts
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 1000U) << "not saved";
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 1000U) << "and so it starts anew";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::vm_exit_controls, vmx::exit_control::save_vmx_preemption_timer_value);
    l1.write(field::vmx_preemption_timer_value, 2000);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 2000U);
    l1.port.tsc += std::uint64_t{1300} << rate;
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 700U) << "saved";
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 700U);
}

TEST_F(ShadowVmcs, HasTheAccessRightsThatTheExitSaved) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_cs_access_rights, 0xa0fb);
    l1.vmcs02().set(field::guest_ss_access_rights, 0xc0f3);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::guest_cs_access_rights), 0xa0fbU);
    EXPECT_EQ(l1.read(field::guest_ss_access_rights), 0xc0f3U);
    l1.write(field::guest_cs_access_rights, 0xa09b);
    l1.write(field::guest_ss_access_rights, 0xc093);
    EXPECT_EQ(l1.read(field::guest_cs_access_rights), 0xa09bU);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cs_access_rights), 0xa09bU);
}

TEST_F(ShadowVmcs, HasNoFieldThatTheProcessorLacks) {
    VirtualCpu::Options options{.shadow_vmcs = true};
    options.hardware.pin_based.allowed1 &= ~vmx::pin::activate_vmx_preemption_timer;
    options.hardware.primary_processor_based.allowed1 &= ~vmx::primary::use_tpr_shadow;
    VirtualCpu other{options};
    other.prepare_and_launch();
    ASSERT_EQ(other.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    for (const auto encoding : {field::vmx_preemption_timer_value.encoding, field::tpr_threshold.encoding}) {
        EXPECT_EQ(other.vmwrite(encoding, 1),
                  vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component));
        const FakeVmcs& its = other.port.vmcs(x86::Hpa{other.vmcs01().get(field::vmcs_link_pointer)});
        EXPECT_FALSE(its.writes.contains(encoding));
    }
}

TEST_F(ShadowVmcs, HasAWriteThatExitedAllTheSame) {
    l1.port.registers.at(2) = field::guest_rip.encoding;
    l1.port.registers.at(0) = 0x5555'5000;
    ASSERT_EQ(l1.execute(ExitReason::vmwrite, register_operand(0)), vm_succeed);
    EXPECT_EQ(shadow().get(field::guest_rip), 0x5555'5000U);
    ASSERT_EQ(l1.execute(ExitReason::vmread, register_operand(1)), vm_succeed);
    EXPECT_EQ(l1.port.registers.at(1), 0x5555'5000U);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), 0x5555'5000U);
}

TEST_F(ShadowVmcs, HasWhatTheExitSaved) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_rip, 0x3333'3000);
    l1.vmcs02().set(field::guest_rsp, 0x4444'4000);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .qualification = 0x1234,
                           .interruption = 0x8000'0b0e,
                           .error_code = 7,
                           .vectoring = 0x8000'0b0d,
                           .vectoring_error_code = 9,
                           .instruction_length = 4}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(shadow().get(field::guest_rip), 0x3333'3000U);
    EXPECT_EQ(shadow().get(field::guest_rsp), 0x4444'4000U);
    EXPECT_EQ(shadow().get(field::exit_reason), 0U);
    EXPECT_EQ(shadow().get(field::exit_qualification), 0x1234U);
    EXPECT_EQ(shadow().get(field::vm_exit_interruption_information), 0x8000'0b0eU);
    EXPECT_EQ(shadow().get(field::vm_exit_interruption_error_code), 7U);
    EXPECT_EQ(shadow().get(field::idt_vectoring_information), 0x8000'0b0dU);
    EXPECT_EQ(shadow().get(field::idt_vectoring_error_code), 9U);
    EXPECT_EQ(shadow().get(field::vm_exit_instruction_length), 4U);
}

TEST_F(ShadowVmcs, IsWrittenOnlyWhereAnExitChangedSomething) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.forget_writes();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(shadow().written_fields(), std::vector<std::string>{});
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_rip, 0x3333'3000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(shadow().written_fields(), std::vector<std::string>{"guest_rip"});
}

TEST_F(ShadowVmcs, IsLinkedOnlyWhileAVmcsIsCurrent) {
    EXPECT_NE(l1.vmcs01().get(field::vmcs_link_pointer), ~0ULL);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmcs01().get(field::vmcs_link_pointer), ~0ULL);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_NE(l1.vmcs01().get(field::vmcs_link_pointer), ~0ULL);
    ASSERT_EQ(l1.vmxoff(), vm_succeed);
    EXPECT_EQ(l1.vmcs01().get(field::vmcs_link_pointer), ~0ULL);
    EXPECT_EQ(l1.vmcs01().get(field::secondary_processor_based_vm_execution_controls) &
                  vmx::secondary::vmcs_shadowing,
              0U);
}

TEST_F(ShadowVmcs, AnErrorCodeThatL0UsedDoesNotReplaceL1s) {
    const auto inject_gp_2 = [&] {
        l1.write(field::vm_entry_interruption_information, 0x8000'0b0d);
        l1.write(field::vm_entry_exception_error_code, 2);
        l1.write(field::vm_entry_instruction_length, 3);
    };
    inject_gp_2();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    // An EPT violation in the midst of an INT3 with an error code of its own is L0's matter: the event is
    // injected again.
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .vectoring = 0x8000'0b0e,
                           .vectoring_error_code = 6,
                           .instruction_length = 1}),
              l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0eU);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 6U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    inject_gp_2();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 2U);
}

TEST(ShadowVmcsOffered, OnlyWhereTheProcessorHasItAndTheHostWants) {
    EXPECT_TRUE(VirtualCpu({.shadow_vmcs = true}).shadows_vmcs());
    EXPECT_FALSE(VirtualCpu({.shadow_vmcs = false}).shadows_vmcs());
    VirtualCpu::Options options{.shadow_vmcs = true};
    options.hardware.secondary_processor_based.allowed1 &= ~vmx::secondary::vmcs_shadowing;
    EXPECT_FALSE(VirtualCpu(options).shadows_vmcs());
    options = {.shadow_vmcs = true};
    options.hardware.misc.value &= ~vmx::MiscCapability::vmwrite_any_field;
    EXPECT_FALSE(VirtualCpu(options).shadows_vmcs()) << "L0 writes exit information there";
}

class ManyVmcss : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, ManyVmcss, ::testing::Bool());

TEST_P(ManyVmcss, AreEachWhatL1MadeThem) {
    constexpr unsigned count = 70;
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    l1.enter_vmx_operation();
    const auto expect_marks = [&](unsigned n) {
        EXPECT_EQ(l1.read(field::guest_rip), 0x10'0000U + n);
        EXPECT_EQ(l1.read(field::guest_cr3), 0x1000ULL * n);
        EXPECT_EQ(l1.read(field::host_rsp), 0x2000ULL + n);
        EXPECT_EQ(l1.read(field::tsc_offset), 0x3000ULL + n);
        EXPECT_EQ(l1.read(field::vm_entry_exception_error_code), n);
        EXPECT_EQ(l1.read(field::exit_qualification), 0x4000ULL + n);
        EXPECT_EQ(l1.read(field::vm_exit_instruction_information), n);
    };
    for (unsigned n = 0; n < count; ++n) {
        l1.make_vmcs(n);
        l1.write(field::host_rsp, 0x2000 + n);
        l1.write(field::tsc_offset, 0x3000 + n);
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        l1.vmcs02().set(field::guest_cr3, 0x1000ULL * n);
        ASSERT_EQ(l1.l2_exits({.reason = ExitReason::io_instruction,
                               .qualification = 0x4000ULL + n,
                               .instruction_information = n}),
                  l1_sees(ExitReason::io_instruction));
        l1.write(field::guest_rip, 0x10'0000 + n);
        l1.write(field::vm_entry_exception_error_code, n);
    }
    for (unsigned round = 0; round < 2; ++round) {
        for (unsigned i = 0; i < count; ++i) {
            const unsigned n = (i * 37 + round) % count;
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
            expect_marks(n);
            if (round == 1) {
                ASSERT_EQ(l1.vmresume(), l2_runs) << "still launched";
                EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x1000ULL * n);
                EXPECT_EQ(l1.vmcs02().get(field::guest_rip), 0x10'0000U + n);
                EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x3000U + n);
                ASSERT_EQ(l1.l2_exits({.reason = ExitReason::io_instruction,
                                       .qualification = 0x4000ULL + n,
                                       .instruction_information = n}),
                          l1_sees(ExitReason::io_instruction));
                EXPECT_EQ(l1.vmcs01().get(field::guest_rsp), 0x2000U + n);
            }
        }
    }
}

TEST_P(ManyVmcss, OneTooManyTakesThePlaceOfTheLeastRecentlyLoaded) {
    constexpr unsigned most = 32;
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    l1.enter_vmx_operation();
    const auto make = [&](unsigned n) {
        l1.make_vmcs(n);
        l1.write(field::tsc_offset, n + 7);
    };
    for (unsigned n = 0; n < most; ++n) make(n);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    const auto are_in_memory = [&] {
        const auto index = static_cast<std::size_t>(vmx::dense_index(field::tsc_offset.encoding));
        std::vector<unsigned> all;
        for (unsigned n = 0; n < most; ++n) {
            const auto word = l1.port.memory.read<std::uint64_t>(
                layout::vmcs_region(n) + offsetof(nested::VmcsRegion, words) + index * sizeof(std::uint64_t));
            if (word != 0) all.push_back(n);
        }
        return all;
    };
    EXPECT_EQ(are_in_memory(), std::vector<unsigned>{});
    make(most);
    EXPECT_EQ(are_in_memory(), std::vector<unsigned>{1});
    make(most + 1);
    EXPECT_EQ(are_in_memory(), (std::vector<unsigned>{1, 2}));
}

TEST_P(ManyVmcss, MayTakeTurns) {
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    l1.enter_vmx_operation();
    for (unsigned n = 0; n < 2; ++n) {
        l1.make_vmcs(n);
        l1.write(field::guest_rip, 0x1000 * (n + 1));
        l1.write(field::host_fs_base, 0x100 * (n + 1));
        l1.write(field::host_ia32_sysenter_esp, 0x10 * (n + 1));
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    for (unsigned turn = 0; turn < 6; ++turn) {
        const unsigned n = turn % 2;
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        EXPECT_EQ(l1.read(field::guest_rip), 0x1000 * (n + 1) + turn / 2);
        l1.write(field::guest_rip, 0x1000 * (n + 1) + turn / 2 + 1);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.vmcs02().get(field::guest_rip), 0x1000 * (n + 1) + turn / 2 + 1);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        EXPECT_EQ(l1.vmcs01().get(field::guest_fs_base), 0x100U * (n + 1));
        EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_sysenter_esp), 0x10U * (n + 1))
            << "not the other's host state";
    }
}

}  // namespace
}  // namespace flatback::nested_test::shadow_vmcs_test
