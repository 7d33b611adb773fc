// VMXON, VMXOFF, VMCLEAR, VMPTRLD, VMPTRST and VMCALL: what they do, and their errors in the SDM's order (SDM
// 3C 31.3).
#include <gtest/gtest.h>

#include <cstddef>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::instructions_test {
namespace {

constexpr std::uint64_t beyond_width = 1ULL << physical_width;
constexpr ExitReason all_instructions[] = {ExitReason::vmcall,   ExitReason::vmclear, ExitReason::vmlaunch,
                                           ExitReason::vmptrld,  ExitReason::vmptrst, ExitReason::vmread,
                                           ExitReason::vmresume, ExitReason::vmwrite, ExitReason::vmxoff,
                                           ExitReason::vmxon,    ExitReason::invept,  ExitReason::invvpid};

class EveryInstruction : public ::testing::TestWithParam<ExitReason> {};
INSTANTIATE_TEST_SUITE_P(Vmx, EveryInstruction, ::testing::ValuesIn(all_instructions));

TEST_P(EveryInstruction, IsUndefinedOutsideVmxOperation) {
    VirtualCpu l1;
    l1.vmcs01().set(field::cr4_read_shadow, 0x6a0);  // CR4.VMXE = 0, for VMXON
    EXPECT_EQ(l1.execute(GetParam()), invalid_opcode);
    EXPECT_FALSE(l1.in_vmx_operation());
}

TEST_P(EveryInstruction, NeedsPrivilegeLevelZero) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    FakeVmcs& v = l1.vmcs01();
    v.set(field::guest_ss_access_rights, 0xc0f3);
    v.set(field::guest_ss_selector, 0x1b);
    v.set(field::guest_cs_access_rights, 0xa0fb);
    v.set(field::guest_cs_selector, 0x23);
    EXPECT_EQ(l1.execute(GetParam()), general_protection);
}

TEST_P(EveryInstruction, EndsTheBlockingOfOneInstructionAndTraps) {
    VirtualCpu l1;
    l1.prepare();
    if (GetParam() == ExitReason::vmlaunch || GetParam() == ExitReason::vmresume) {
        l1.write(field::pin_based_vm_execution_controls, 0);  // the entry fails
        l1.vmcs01().set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_sti);
    } else {
        l1.vmcs01().set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_mov_ss);
    }
    l1.extra_rflags = x86::rflags::trap | x86::rflags::interrupt_enable;
    l1.port.registers.at(0) = layout::operand;
    const Outcome outcome = l1.execute(GetParam(), memory_operand(0, 3));
    EXPECT_NE(outcome.kind, Outcome::Kind::faulted);
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), 0U);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), vmx::pending_debug::single_step);
}

TEST_P(EveryInstruction, DoesNotTrapWhereOnlyBranchesDo) {
    VirtualCpu l1;
    l1.prepare();
    if (GetParam() == ExitReason::vmlaunch || GetParam() == ExitReason::vmresume)
        l1.write(field::pin_based_vm_execution_controls, 0);  // the entry fails
    l1.extra_rflags = x86::rflags::trap;
    l1.vmcs01().set(field::guest_ia32_debugctl, x86::debugctl::branch_single_step);
    l1.port.registers.at(0) = layout::operand;
    EXPECT_NE(l1.execute(GetParam(), memory_operand(0, 3)).kind, Outcome::Kind::faulted);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), 0U);
}

// --- VMXON

TEST(Vmxon, EntersVmxOperation) {
    VirtualCpu l1;
    EXPECT_EQ(l1.vmxon(), vm_succeed);
    EXPECT_TRUE(l1.in_vmx_operation());
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), ~0ULL) << "no VMCS is current";
}

TEST(Vmxon, InVmxOperationIsError15) {
    VirtualCpu l1;
    l1.prepare();
    EXPECT_EQ(l1.vmxon(), vm_fail(InstructionError::vmxon_in_vmx_root_operation));
}

TEST(Vmxon, InVmxOperationWithoutCurrentVmcsIsVmFailInvalid) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_EQ(l1.vmxon(), vm_fail_invalid);
}

TEST(Vmxon, NeedsTheFixedBitsOfCr0AsL1SeesThem) {
    VirtualCpu l1;
    l1.vmcs01().set(field::cr0_read_shadow, 0x8005'0013);  // CR0.NE = 0
    EXPECT_EQ(l1.vmxon(), general_protection);
    l1.vmcs01().set(field::cr0_read_shadow, 0x8005'0033);
    EXPECT_EQ(l1.vmxon(), vm_succeed);
}

TEST(Vmxon, RefusesACr4BitThatIsNotPromised) {
    VirtualCpu l1;
    l1.vmcs01().set(field::cr4_guest_host_mask, x86::cr4::vmx_enable | x86::cr4::smx_enable);
    l1.vmcs01().set(field::cr4_read_shadow, 0x26a0 | x86::cr4::smx_enable);
    EXPECT_EQ(l1.vmxon(), general_protection);
}

TEST(Vmxon, NeedsItsPermissionLockedInTheFeatureControlMsr) {
    for (const std::uint64_t value : {0ULL, 1ULL, 4ULL, 3ULL}) {
        VirtualCpu l1;
        l1.port.msrs[x86::msr::ia32_feature_control] = value;
        EXPECT_EQ(l1.vmxon(), general_protection) << value;
    }
}

TEST(Vmxon, RefusesABadRegion) {
    VirtualCpu l1;
    EXPECT_EQ(l1.vmxon(layout::vmxon_region + 8), vm_fail_invalid);
    EXPECT_EQ(l1.vmxon(beyond_width), vm_fail_invalid);
    EXPECT_EQ(l1.vmxon(L1Memory::l0_start), vm_fail_invalid);
    l1.port.memory.write<std::uint32_t>(0xe000, nested::vmcs12_revision | 0x8000'0000);
    EXPECT_EQ(l1.vmxon(0xe000), vm_fail_invalid);
    l1.port.memory.write<std::uint32_t>(0xe000, nested::vmcs12_revision + 1);
    EXPECT_EQ(l1.vmxon(0xe000), vm_fail_invalid);
    EXPECT_FALSE(l1.in_vmx_operation());
}

TEST(Vmxon, ReadsItsOperandAfterItsOtherFaults) {
    VirtualCpu l1;
    l1.port.registers.at(3) = 0x30'0000;  // not mapped
    EXPECT_EQ(l1.execute(ExitReason::vmxon, memory_operand(3)), page_fault(0));
    l1.port.msrs[x86::msr::ia32_feature_control] = 0;
    EXPECT_EQ(l1.execute(ExitReason::vmxon, memory_operand(3)), general_protection);
}

// --- VMXOFF

TEST(Vmxoff, LeavesVmxOperation) {
    VirtualCpu l1;
    l1.prepare();
    EXPECT_EQ(l1.vmxoff(), vm_succeed);
    EXPECT_FALSE(l1.in_vmx_operation());
    EXPECT_EQ(l1.vmptrst(), invalid_opcode);
}

TEST(Vmxoff, LeavesEveryVmcsInItsRegion) {
    for (const bool shadow : {false, true}) {
        VirtualCpu l1{{.shadow_vmcs = shadow}};
        l1.prepare_and_launch();
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.write(field::guest_rip, 0x1234);
        l1.write(field::guest_cr3, 0x5000);
        ASSERT_EQ(l1.vmxoff(), vm_succeed);
        ASSERT_EQ(l1.vmxon(), vm_succeed);
        EXPECT_EQ(l1.vmread(field::guest_rip.encoding), vm_fail_invalid);
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
        EXPECT_EQ(l1.read(field::guest_rip), 0x1234U);
        EXPECT_EQ(l1.read(field::guest_cr3), 0x5000U);
        EXPECT_EQ(l1.read(field::exit_reason), 10U);
        EXPECT_EQ(l1.vmresume(), l2_runs) << "it stays launched";
    }
}

TEST(Vmxoff, LeavesTheCurrentVmcsInItsRegion) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::tsc_offset, 0x1234);
    ASSERT_EQ(l1.vmxoff(), vm_succeed);
    const auto index = static_cast<std::uint64_t>(vmx::dense_index(field::tsc_offset.encoding));
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(layout::vmcs_region(0) +
                                                 offsetof(nested::VmcsRegion, words) + 8 * index),
              0x1234U);
}

TEST(Vmxoff, TakesOnlyItsOwnBitsOfTheHostsCr0Mask) {
    VirtualCpu l1;
    for (const std::uint64_t mask : {0x20ULL, 0x28ULL, 0x8000'0029ULL, 0x4000'0020ULL}) {
        l1.vmcs01().set(field::cr0_guest_host_mask, mask);
        ASSERT_EQ(l1.vmxon(), vm_succeed);
        EXPECT_EQ(l1.vmcs01().get(field::cr0_guest_host_mask), mask | 0x8000'0021);
        ASSERT_EQ(l1.vmxoff(), vm_succeed);
        EXPECT_EQ(l1.vmcs01().get(field::cr0_guest_host_mask), mask);
    }
}

TEST(Vmxoff, BeginsAgainWhereL1LeavesManyVmcssActive) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    constexpr unsigned count = 32;
    for (unsigned n = 0; n < count; ++n) {
        l1.make_vmcs(n);
        l1.write(field::guest_rsp, 0x1'0000 + n);
    }
    EXPECT_EQ(l1.vmxoff(), vm_succeed);
    EXPECT_EQ(l1.begun_again, 7U) << "an exit writes four back, and the current one is the last";
    EXPECT_FALSE(l1.in_vmx_operation());
    l1.enter_vmx_operation();
    for (unsigned n = 0; n < count; ++n) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        EXPECT_EQ(l1.read(field::guest_rsp), 0x1'0000U + n);
    }
}

// --- VMCLEAR

TEST(Vmclear, WritesTheVmcsBackAndMakesItClear) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmread(field::guest_rip.encoding), vm_fail_invalid) << "it was current";
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::vmresume_with_non_launched_vmcs));
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST(Vmclear, OfAnotherVmcsLeavesTheCurrentOne) {
    VirtualCpu l1;
    l1.prepare();
    l1.make_vmcs(1);
    EXPECT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), layout::vmcs_region(1));
}

TEST(Vmclear, OfARegionThatIsNotActiveClearsItsLaunchState) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    l1.port.memory.write(layout::vmcs_region(3), nested::vmcs12_revision);
    l1.port.memory.write<std::uint32_t>(layout::vmcs_region(3) + 8, 1);
    EXPECT_EQ(l1.vmclear(layout::vmcs_region(3)), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(layout::vmcs_region(3) + 8), 0U);
}

TEST(Vmclear, HasItsErrorsInOrder) {
    VirtualCpu l1;
    l1.prepare();
    const auto bad_address = vm_fail(InstructionError::vmclear_with_invalid_physical_address);
    EXPECT_EQ(l1.vmclear(layout::vmcs_region(0) + 1), bad_address);
    EXPECT_EQ(l1.vmclear(beyond_width), bad_address);
    EXPECT_EQ(l1.vmclear(layout::vmxon_region), vm_fail(InstructionError::vmclear_with_vmxon_pointer));
    EXPECT_EQ(l1.vmclear(layout::vmxon_region + 1), bad_address) << "the address first";
}

TEST(Vmclear, OfAHoleOrOfL0sMemorySucceedsAndWritesNothing) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_EQ(l1.vmclear(L1Memory::l0_start), vm_succeed);
    EXPECT_EQ(l1.vmclear(L1Memory::size), vm_succeed);
}

// --- VMPTRLD, VMPTRST

TEST(Vmptrld, MakesAVmcsCurrent) {
    VirtualCpu l1;
    l1.prepare();
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), layout::vmcs_region(0));
    EXPECT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed) << "the current one again";
}

TEST(Vmptrld, HasItsErrorsInOrder) {
    VirtualCpu l1;
    l1.prepare();
    const auto bad_address = vm_fail(InstructionError::vmptrld_with_invalid_physical_address);
    EXPECT_EQ(l1.vmptrld(layout::vmcs_region(1) + 0x10), bad_address);
    EXPECT_EQ(l1.vmptrld(beyond_width), bad_address);
    EXPECT_EQ(l1.vmptrld(layout::vmxon_region), vm_fail(InstructionError::vmptrld_with_vmxon_pointer));
    const auto bad_revision = vm_fail(InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier);
    EXPECT_EQ(l1.vmptrld(layout::vmcs_region(9)), bad_revision) << "an empty page";
    l1.port.memory.write<std::uint32_t>(layout::vmcs_region(9), (nested::vmcs12_revision ^ 1) | 0x8000'0000);
    EXPECT_EQ(l1.vmptrld(layout::vmcs_region(9)), bad_revision) << "a shadow VMCS of another revision";
    EXPECT_EQ(l1.vmptrld(L1Memory::l0_start), bad_revision);
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), layout::vmcs_region(0)) << "what failed changed nothing";
}

// Of an L1 that comes from another hypervisor (nested/state/kvm.hpp).
TEST(Vmptrld, TakesTheRevisionThatL1WasPromisedAndTheEnginesOwn) {
    constexpr std::uint32_t promised = 0x11e5'7ed0;
    VirtualCpu l1{{.promised_revision = promised}};
    l1.port.memory.write(layout::vmxon_region, promised);
    ASSERT_EQ(l1.vmxon(), vm_succeed);
    const auto load = [&](std::uint32_t revision) {
        l1.port.memory.write(layout::vmcs_region(3), revision);
        EXPECT_EQ(l1.vmclear(layout::vmcs_region(3)), vm_succeed);
        return l1.vmptrld(layout::vmcs_region(3));
    };
    EXPECT_EQ(load(promised), vm_succeed);
    EXPECT_EQ(load(nested::vmcs12_revision), vm_succeed);
    for (const std::uint32_t other : {0U, promised ^ 1, nested::vmcs12_revision ^ 1})
        EXPECT_EQ(load(other), vm_fail_invalid) << other;
}

TEST(Vmptrst, FaultsWhereItsOperandCannotBeWritten) {
    VirtualCpu l1;
    l1.prepare();
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 8 * 8, 0x8061);  // page 8: read-only
    EXPECT_EQ(l1.vmptrst(), page_fault(3));
    EXPECT_EQ(l1.port.cr2, layout::operand);
}

TEST(InstructionPointer, WrapsAt4GbOutside64BitModeAlone) {
    for (const std::uint32_t code : {0xc09bU, 0xe09bU}) {  // L is reserved there and means nothing
        VirtualCpu l1;
        l1.prepare();
        l1.leave_64_bit_mode(code);
        l1.vmcs01().set(field::guest_rip, 0xffff'fffe);
        EXPECT_EQ(l1.vmptrst(), vm_succeed);
        EXPECT_LT(l1.vmcs01().get(field::guest_rip), 16U);
    }
    VirtualCpu l1;
    l1.prepare();
    l1.vmcs01().set(field::guest_rip, 0xffff'fffe);
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_GT(l1.vmcs01().get(field::guest_rip), 0xffff'ffffU);
}

TEST(Vmcall, InVmxRootOperationIsError1) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_EQ(l1.vmcall(), vm_fail_invalid);
    l1.make_vmcs(0);
    EXPECT_EQ(l1.vmcall(), vm_fail(InstructionError::vmcall_in_vmx_root_operation));
}

TEST(Vmcall, OfA32BitL1IsError1) {
    VirtualCpu l1;
    l1.prepare();
    l1.leave_64_bit_mode();
    EXPECT_EQ(l1.vmcall(), vm_fail(InstructionError::vmcall_in_vmx_root_operation));
}

TEST(Vmcall, IsUndefinedInCompatibilityAndVirtual8086Mode) {
    for (const bool privileged : {true, false}) {
        VirtualCpu l1;
        l1.prepare();
        FakeVmcs& v = l1.vmcs01();
        if (!privileged) {
            v.set(field::guest_ss_access_rights, 0xc0f3);
            v.set(field::guest_ss_selector, 0x1b);
            v.set(field::guest_cs_selector, 0x23);
        }
        v.set(field::guest_cs_access_rights, privileged ? 0xc09b : 0xc0fb);
        v.set(field::guest_rip, 0x10'0000);
        EXPECT_EQ(l1.vmcall(), invalid_opcode) << "before the privilege level";
    }
    VirtualCpu l1;
    l1.prepare();
    FakeVmcs& v = l1.vmcs01();
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    v.set(field::guest_ia32_efer, 0);
    v.set(field::guest_cr4, 0x2010);
    for (std::uint32_t segment = 0; segment < 6; ++segment) {
        v.word(field::guest_es_selector.encoding + 2 * segment) = 0x100;
        v.word(field::guest_es_base.encoding + 2 * segment) = 0x1000;
        v.word(field::guest_es_limit.encoding + 2 * segment) = 0xffff;
        v.word(field::guest_es_access_rights.encoding + 2 * segment) = 0xf3;
    }
    v.set(field::guest_rip, 0x100);
    v.set(field::guest_gdtr_base, 0);
    l1.extra_rflags = x86::rflags::virtual_8086;
    EXPECT_EQ(l1.vmcall(), invalid_opcode);
}

TEST(Engine, StopsAtAnExitThatIsNoVmxInstruction) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_THROW((void)l1.execute(ExitReason::cpuid), FatalError);
}

}  // namespace
}  // namespace flatback::nested_test::instructions_test
