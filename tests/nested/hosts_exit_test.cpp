// A host that wants something of L2 for itself: its exits come to it first, then to L1 where L1 asked for
// them too, and L2 goes on as if there had been none.
#include <gtest/gtest.h>

#include <cstdint>

#include "nested/demands.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::hosts_exit_test {
namespace {

using nested::Demands;
using vmx::ControlRegisterAccess;
using vmx::InterruptionInformation;
using vmx::IoAccess;
namespace primary = vmx::primary;

constexpr std::uint64_t l2_rip = 0x40'0000;
constexpr std::uint16_t kept = 0x1f7;

class HostsExit : public ::testing::TestWithParam<bool> {
protected:
    HostsExit() {
        l1.prepare();
        l1.lower(field::primary_processor_based_vm_execution_controls, primary::hlt_exiting);
        l1.lower(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
    }
    void launch() {
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        l1.vmcs02().set(field::guest_rip, l2_rip);
    }
    void demand(const Demands& demands) { ASSERT_TRUE(l1.set_demands(demands)); }
    Outcome executes(ExitReason reason, std::uint64_t qualification = 0) {
        return l1.l2_exits({.reason = reason, .qualification = qualification, .instruction_length = 2});
    }
    std::uint64_t rip() { return l1.vmcs02().get(field::guest_rip); }

    VirtualCpu l1{{.shadow_vmcs = GetParam(), .kept_ports = {kept}}};
};
INSTANTIATE_TEST_SUITE_P(, HostsExit, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "Shadowed" : "Plain"; });

// (The processor here says so where L0 writes what it has not.)
TEST_P(HostsExit, DemandsTouchNoFieldThatTheProcessorLacks) {
    VirtualCpu older{
        {.shadow_vmcs = GetParam(),
         .lacking_fields = {field::tsc_multiplier.encoding, field::xss_exiting_bitmap.encoding}}};
    older.prepare();
    older.lower(field::primary_processor_based_vm_execution_controls, primary::hlt_exiting);
    ASSERT_EQ(older.vmlaunch(), l2_runs);
    ASSERT_TRUE(older.set_demands({.instructions = primary::hlt_exiting}));
    ASSERT_EQ(older.l2_exits({.reason = ExitReason::hlt, .instruction_length = 1}), hosts_exit);
    EXPECT_EQ(older.resume_behind_instruction(), l2_runs);
    ASSERT_EQ(older.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(older.vmresume(), l2_runs);
}

TEST_P(HostsExit, AnInstructionThatOnlyTheHostWantsIsNotL1s) {
    demand({.instructions = primary::hlt_exiting});
    launch();
    EXPECT_NE(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) & primary::hlt_exiting,
              0U);
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(rip(), l2_rip + 2);
    // Executed again, it exits again.
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(rip(), l2_rip + 2);
    EXPECT_EQ(l1.counters().exits_reflected, 0U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::primary_processor_based_vm_execution_controls) & primary::hlt_exiting, 0U);
}

// SDM 3B 17.3.1.1: a code breakpoint on it has been met, and the exit has cleared RF.
TEST_P(HostsExit, AnInstructionThatBeginsAgainMeetsNoCodeBreakpointTwice) {
    const auto resume_flag = [&] { return l1.vmcs02().get(field::guest_rflags) & x86::rflags::resume; };
    demand({.external_interrupts = true, .instructions = primary::hlt_exiting});
    launch();
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    ASSERT_EQ(l1.resume(), l2_runs);
    EXPECT_NE(resume_flag(), 0U);
    l1.vmcs02().set(field::guest_rflags, x86::rflags::fixed_one);
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    ASSERT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(resume_flag(), 0U) << "it is done";
    ASSERT_EQ(executes(ExitReason::external_interrupt), hosts_exit);
    ASSERT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(resume_flag(), 0U) << "between two instructions";
}

TEST_P(HostsExit, WhatBothWantL1SeesBehindTheHost) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::rdtsc_exiting);
    demand({.instructions = primary::rdtsc_exiting});
    launch();
    ASSERT_EQ(executes(ExitReason::rdtsc), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::rdtsc));
    EXPECT_EQ(l1.read(field::guest_rip), l2_rip);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(executes(ExitReason::rdtscp), hosts_exit);
    EXPECT_EQ(l1.resume_behind_instruction(), l1_sees(ExitReason::rdtscp))
        << "L1's is what the host did not do";
    EXPECT_EQ(l1.read(field::guest_rip), l2_rip);
}

TEST_P(HostsExit, WhatOnlyL1WantsIsL1sAtOnce) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::invlpg_exiting);
    demand({.external_interrupts = true, .instructions = primary::hlt_exiting, .exceptions = 1U << 6});
    launch();
    EXPECT_EQ(executes(ExitReason::invlpg), l1_sees(ExitReason::invlpg));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::exception_bitmap, 1U << 13);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::exception_bitmap), 1U << 13 | 1U << 6);
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .interruption =
                               InterruptionInformation::exception(x86::Vector::general_protection).value}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::exception_bitmap), 1U << 13);
}

TEST_P(HostsExit, AnInterruptIsTheHostsAloneAndL2GoesOnWhereItWas) {
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::external_interrupt_exiting);
    l1.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
    demand({.external_interrupts = true});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::vm_exit_controls) & vmx::exit_control::acknowledge_interrupt_on_exit,
              0U);
    l1.vmcs02().set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
    ASSERT_EQ(executes(ExitReason::external_interrupt), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(rip(), l2_rip);
    EXPECT_EQ(l1.vmcs02().get(field::guest_pending_debug_exceptions), vmx::pending_debug::single_step);
    // Without the demand it is L1's as before.
    ASSERT_TRUE(l1.set_demands({}));
    EXPECT_NE(l1.vmcs02().get(field::vm_exit_controls) & vmx::exit_control::acknowledge_interrupt_on_exit,
              0U);
    EXPECT_EQ(executes(ExitReason::external_interrupt), l1_sees(ExitReason::external_interrupt));
}

TEST_P(HostsExit, AnExceptionIsPassedOnWithItsErrorCode) {
    demand({.exceptions = 1U << 13});
    launch();
    const auto event = InterruptionInformation::exception(x86::Vector::general_protection);
    ASSERT_EQ(l1.l2_exits(
                  {.reason = ExitReason::exception_or_nmi, .interruption = event.value, .error_code = 0x58}),
              hosts_exit);
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(l1.injected(), event.value);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 0x58U);
}

TEST_P(HostsExit, ASoftwareExceptionIsPassedOnAsOne) {
    demand({.exceptions = 1U << 3});
    launch();
    const auto event = InterruptionInformation::exception(x86::Vector::breakpoint);
    l1.vmcs02().set(field::guest_rflags, x86::rflags::fixed_one);
    ASSERT_EQ(
        l1.l2_exits(
            {.reason = ExitReason::exception_or_nmi, .interruption = event.value, .instruction_length = 1}),
        hosts_exit);
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(l1.injected(), event.value);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_instruction_length), 1U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rflags), x86::rflags::fixed_one) << "a trap leaves RF alone";
}

// SDM 3A table 6-5: the second of two contributory exceptions makes a double fault, which L1 may want.
TEST_P(HostsExit, ADoubleFaultThatArisesSoIsL1sWhereItAskedForIt) {
    l1.write(field::exception_bitmap, 1U << 8);
    demand({.exceptions = 1U << 13});
    launch();
    const auto second = InterruptionInformation::exception(x86::Vector::general_protection);
    const auto first = InterruptionInformation::exception(x86::Vector::segment_not_present);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .interruption = second.value,
                           .error_code = 0x10,
                           .vectoring = first.value,
                           .vectoring_error_code = 0x20}),
              hosts_exit);
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information),
              InterruptionInformation::exception(x86::Vector::double_fault).value);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_error_code), 0U);
    EXPECT_EQ(l1.read(field::idt_vectoring_information) & InterruptionInformation::valid_bit, 0U);
}

// SDM 3C 25.6.3: which page faults are L1's, by mask and match.
TEST_P(HostsExit, OfPageFaultsL1SeesThoseThatItAskedFor) {
    l1.write(field::exception_bitmap, 1U << 14);
    l1.write(field::page_fault_error_code_mask, 1);
    l1.write(field::page_fault_error_code_match, 1);
    demand({.exceptions = 1U << 14});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_mask), 0U);
    EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_match), 0U);
    const auto event = InterruptionInformation::exception(x86::Vector::page_fault).value;
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .qualification = 0x1234'5000,
                           .interruption = event,
                           .error_code = 2}),
              hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(l1.port.cr2, 0x1234'5000U);
    EXPECT_EQ(l1.injected(), event);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .qualification = 0x1234'5000,
                           .interruption = event,
                           .error_code = 3}),
              hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::exception_or_nmi));
    // L1's masks count again where the host wants no page faults.
    ASSERT_TRUE(l1.set_demands({}));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_mask), 1U);
}

TEST_P(HostsExit, PortsAreL1sByItsBitmaps) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::use_io_bitmaps);
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    l1.port.memory.write<std::uint8_t>(layout::io_bitmaps + 0x3f8 / 8, 1);
    demand({.all_ports = true});
    launch();
    const std::uint32_t controls = l1.vmcs02().get(field::primary_processor_based_vm_execution_controls);
    EXPECT_EQ(controls & primary::use_io_bitmaps, 0U);
    EXPECT_NE(controls & primary::unconditional_io_exiting, 0U);
    ASSERT_EQ(executes(ExitReason::io_instruction, IoAccess{.port = 0x2f8}.encode()), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(rip(), l2_rip + 2);
    ASSERT_EQ(executes(ExitReason::io_instruction, IoAccess{.port = 0x3f8}.encode()), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::io_instruction));
}

TEST_P(HostsExit, AKeptPortComesToTheHostWhereItDemandsThat) {
    demand({.kept_ports = true});
    launch();
    ASSERT_EQ(executes(ExitReason::io_instruction, IoAccess{.port = kept}.encode()), hosts_exit);
    EXPECT_EQ(l1.port.io_handled, 0U);
    EXPECT_EQ(l1.resume_with_fault({.vector = 13, .has_error_code = true}), l2_runs);
    EXPECT_EQ(l1.injected(), InterruptionInformation::exception(x86::Vector::general_protection).value);
    EXPECT_EQ(rip(), l2_rip);
    ASSERT_TRUE(l1.set_demands({}));
    EXPECT_EQ(executes(ExitReason::io_instruction, IoAccess{.port = kept}.encode()), l2_runs);
    EXPECT_EQ(l1.port.io_handled, 1U);
}

TEST_P(HostsExit, OfPortsOnlyThoseThatItKeepsAreTheHosts) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::unconditional_io_exiting);
    demand({.kept_ports = true});
    launch();
    const auto exit_at = [&](unsigned port) {
        return executes(ExitReason::io_instruction,
                        IoAccess{.port = static_cast<std::uint16_t>(port)}.encode());
    };
    for (const unsigned port : {kept - 1U, kept + 1U, kept - 64U, kept + 64U, kept + 0x8000U}) {
        EXPECT_EQ(exit_at(port), l1_sees(ExitReason::io_instruction)) << port;
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
    ASSERT_EQ(exit_at(kept), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
}

TEST_P(HostsExit, AFaultOfTheHostsIsL1sExitWhereItWantsTheException) {
    l1.write(field::exception_bitmap, 1U << 13);
    demand({.all_ports = true});
    launch();
    ASSERT_EQ(executes(ExitReason::io_instruction, IoAccess{.port = 0x2f8}.encode()), hosts_exit);
    EXPECT_EQ(l1.resume_with_fault({.vector = 13, .has_error_code = true}),
              l1_sees(ExitReason::exception_or_nmi));
}

TEST_P(HostsExit, LoadsOfCr3AreL1sButForItsTargets) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::cr3_load_exiting);
    l1.write(field::cr3_target_count, 2);
    l1.write(field::cr3_target_value_1, 0x7000);
    demand({.instructions = primary::cr3_load_exiting});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::cr3_target_count), 0U);
    const std::uint64_t load = ControlRegisterAccess{.control_register = 3, .general_register = 1}.encode();
    l1.port.registers[1] = 0x7000;
    ASSERT_EQ(executes(ExitReason::control_register_access, load), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    l1.port.registers[1] = 0x8000;
    ASSERT_EQ(executes(ExitReason::control_register_access, load), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::control_register_access));
    EXPECT_EQ(l1.read(field::cr3_target_count), 2U);
    ASSERT_TRUE(l1.set_demands({}));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::cr3_target_count), 2U);
}

TEST_P(HostsExit, MovesToAndFromCr8AreItsWhereItDemandsThem) {
    const auto move = [&](ControlRegisterAccess::Kind kind) {
        return executes(ExitReason::control_register_access,
                        ControlRegisterAccess{.control_register = 8, .kind = kind}.encode());
    };
    demand({.instructions = primary::cr8_load_exiting});
    launch();
    ASSERT_EQ(move(ControlRegisterAccess::Kind::mov_to), hosts_exit);
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    demand({.instructions = primary::cr8_store_exiting});
    ASSERT_EQ(move(ControlRegisterAccess::Kind::mov_from), hosts_exit);
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
}

TEST_P(HostsExit, EachExceptionAloneIsItsWhereItDemandsIt) {
    launch();
    for (const unsigned vector : {0U, 3U, 6U, 29U}) {
        demand({.exceptions = 1U << vector});
        const auto event = InterruptionInformation::make(vmx::InterruptionType::hardware_exception,
                                                         static_cast<std::uint8_t>(vector), false);
        ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = event.value}),
                  hosts_exit)
            << vector;
        EXPECT_EQ(l1.resume(), l2_runs);
        EXPECT_EQ(l1.injected(), event.value);
    }
}

TEST_P(HostsExit, InstructionsOfTheSecondaryControlsAreItsToo) {
    namespace secondary = vmx::secondary;
    l1.use_secondary(secondary::descriptor_table_exiting);
    demand({.secondary_instructions = secondary::wbinvd_exiting | secondary::descriptor_table_exiting});
    launch();
    ASSERT_EQ(executes(ExitReason::wbinvd_or_wbnoinvd), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(rip(), l2_rip + 2);
    ASSERT_EQ(executes(ExitReason::gdtr_or_idtr_access), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::gdtr_or_idtr_access));
    ASSERT_TRUE(l1.set_demands({}));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    const auto now = l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls);
    EXPECT_EQ(now & secondary::wbinvd_exiting, 0U);
    EXPECT_NE(now & secondary::descriptor_table_exiting, 0U);
    EXPECT_EQ(executes(ExitReason::ldtr_or_tr_access), l1_sees(ExitReason::ldtr_or_tr_access));
}

TEST_P(HostsExit, MsrsOfItsBitmapAreItsWhereItDemandsThem) {
    constexpr std::uint32_t apic_base = 0x1b;  // in the host's bitmap (FakePort)
    constexpr std::uint32_t star = 0xc000'0081;
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::use_msr_bitmaps);
    l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    demand({.kept_msrs = true});
    launch();
    l1.port.registers.at(1) = apic_base;
    ASSERT_EQ(executes(ExitReason::rdmsr), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(rip(), l2_rip + 2);
    ASSERT_EQ(executes(ExitReason::wrmsr), hosts_exit);
    EXPECT_EQ(l1.resume_with_fault({.vector = 13, .has_error_code = true}), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
    l1.port.registers.at(1) = star;  // which L1's bitmap has not, nor the host's: as if it exited by chance
    EXPECT_EQ(executes(ExitReason::rdmsr), l2_runs);
}

TEST_P(HostsExit, MsrsThatL1HasExitToItBehindTheHost) {
    demand({.kept_msrs = true});
    launch();  // without bitmaps: L1 sees all
    l1.port.registers.at(1) = 0x1b;
    ASSERT_EQ(executes(ExitReason::rdmsr), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::rdmsr));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.port.registers.at(1) = 0xc000'0081;
    EXPECT_EQ(executes(ExitReason::rdmsr), l1_sees(ExitReason::rdmsr));
}

TEST_P(HostsExit, AChangeOfABitOfCr0OrCr4ThatItMasksIsItsAndL2ReadsWhatIsThere) {
    constexpr std::uint64_t task_switched = 8;
    constexpr std::uint64_t emulation = 4;
    constexpr std::uint64_t page_global = 0x80;
    l1.write(field::cr0_guest_host_mask, emulation);
    l1.write(field::cr0_read_shadow, emulation);
    demand({.cr0_mask = task_switched | emulation, .cr4_mask = page_global});
    launch();
    FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(v.get(field::cr0_guest_host_mask), task_switched | emulation);
    EXPECT_EQ(v.get(field::cr0_read_shadow) & emulation, emulation) << "L1's shadow";
    EXPECT_EQ(v.get(field::cr0_read_shadow) & task_switched, v.get(field::guest_cr0) & task_switched);
    EXPECT_EQ(v.get(field::cr4_guest_host_mask) & page_global, page_global);
    const auto to_cr0 = ControlRegisterAccess{.general_register = 3}.encode();
    l1.port.registers.at(3) = v.get(field::guest_cr0) | emulation | task_switched;
    ASSERT_EQ(executes(ExitReason::control_register_access, to_cr0), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    v.set(field::guest_cr0, v.get(field::guest_cr0) | task_switched);
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(v.get(field::cr0_read_shadow) & task_switched, task_switched) << "as it is now";
    // L1's bit changes as well.
    l1.port.registers.at(3) = v.get(field::guest_cr0) & ~emulation;
    ASSERT_EQ(executes(ExitReason::control_register_access, to_cr0), hosts_exit);
    EXPECT_TRUE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume(), l1_sees(ExitReason::control_register_access));
    EXPECT_EQ(l1.read(field::cr0_guest_host_mask), emulation) << "as L1 wrote it";
    ASSERT_TRUE(l1.set_demands({}));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(v.get(field::cr0_guest_host_mask), emulation);
    EXPECT_EQ(v.get(field::cr4_guest_host_mask) & page_global, 0U);
}

// SDM 3C 27.3.2.1: what L1's VMCS says of them is not looked at.
TEST_P(HostsExit, OfCr0L2ReadsWhatNoEntryLoadsAsL1HasIt) {
    constexpr std::uint64_t not_loaded =
        x86::cr0::cache_disable | x86::cr0::not_write_through | x86::cr0::extension_type | 1U << 17;
    constexpr std::uint64_t l1s = x86::cr0::cache_disable | x86::cr0::extension_type;
    FakeVmcs& of_l1 = l1.vmcs01();
    of_l1.set(field::guest_cr0, of_l1.get(field::guest_cr0) | l1s);
    l1.write(field::guest_cr0, x86::cr0::not_write_through |
                                   (l1.read(field::guest_cr0) & ~std::uint64_t{x86::cr0::extension_type}));
    demand({.cr0_mask = not_loaded | x86::cr0::task_switched});
    launch();
    FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(v.get(field::cr0_read_shadow) & not_loaded, l1s);
    EXPECT_EQ(v.get(field::cr0_read_shadow) & x86::cr0::task_switched, 0U);
    // The exit saves what the processor has, and the host changes one.
    v.set(field::guest_cr0, (v.get(field::guest_cr0) & ~not_loaded) | l1s);
    l1.port.registers.at(3) = v.get(field::guest_cr0) & ~std::uint64_t{x86::cr0::cache_disable};
    const auto to_cr0 = ControlRegisterAccess{.general_register = 3}.encode();
    ASSERT_EQ(executes(ExitReason::control_register_access, to_cr0), hosts_exit);
    v.set(field::guest_cr0, l1.port.registers.at(3));
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(v.get(field::cr0_read_shadow) & not_loaded, x86::cr0::extension_type) << "its own by now";
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::guest_cr0) & not_loaded, x86::cr0::extension_type);
    EXPECT_EQ(l1.read(field::cr0_guest_host_mask) & not_loaded, 0U);
}

TEST_P(HostsExit, WhatNoEntryLoadsIsL1sWhereTheDemandComesBetweenItsEntryAndTheProcessors) {
    FakeVmcs& of_l1 = l1.vmcs01();
    of_l1.set(field::guest_cr0, of_l1.get(field::guest_cr0) | x86::cr0::cache_disable);
    l1.before_entry = [&] { demand({.cr0_mask = x86::cr0::cache_disable}); };
    launch();
    l1.before_entry = {};
    EXPECT_EQ(l1.vmcs02().get(field::cr0_read_shadow) & x86::cr0::cache_disable, x86::cr0::cache_disable);
    // L2 has cleared it, and the exit saved that.
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    demand({.cr0_mask = x86::cr0::cache_disable, .all_ports = true});
    EXPECT_EQ(l1.vmcs02().get(field::cr0_read_shadow) & x86::cr0::cache_disable, 0U);
}

TEST_P(HostsExit, OfControlRegistersEachDemandIsItsOwn) {
    constexpr std::uint64_t page_global = 0x80;
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::cr3_load_exiting);
    demand({.cr4_mask = page_global});
    launch();
    l1.port.registers.at(3) = l1.vmcs02().get(field::guest_cr4) ^ page_global;
    const auto to_cr4 = ControlRegisterAccess{.control_register = 4, .general_register = 3}.encode();
    ASSERT_EQ(executes(ExitReason::control_register_access, to_cr4), hosts_exit);
    EXPECT_FALSE(l1.l1_wants_hosts_exit());
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
    const auto to_cr3 = ControlRegisterAccess{.control_register = 3, .general_register = 3}.encode();
    EXPECT_EQ(executes(ExitReason::control_register_access, to_cr3),
              l1_sees(ExitReason::control_register_access))
        << "L1 alone wants it";
}

TEST_P(HostsExit, MasksComeAndGoWhileL2Runs) {
    launch();
    FakeVmcs& v = l1.vmcs02();
    const std::uint64_t mask = v.get(field::cr4_guest_host_mask);
    demand({.cr0_mask = 8, .cr4_mask = 0x80});
    EXPECT_EQ(v.get(field::cr0_guest_host_mask) & 8, 8U);
    EXPECT_EQ(v.get(field::cr4_guest_host_mask), mask | 0x80);
    demand({});
    EXPECT_EQ(v.get(field::cr0_guest_host_mask) & 8, 0U);
    EXPECT_EQ(v.get(field::cr4_guest_host_mask), mask);
}

// restore() makes vmcs02 anew, of L1's words.
TEST_P(HostsExit, ARestoredL2HasTheBitsMaskedThatTheHostDemands) {
    constexpr std::uint64_t task_switched = 8;
    constexpr std::uint64_t page_global = 0x80;
    demand({.cr0_mask = task_switched, .cr4_mask = page_global});
    launch();
    l1.vmcs02().set(field::guest_cr0, l1.vmcs02().get(field::guest_cr0) | task_switched);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    const auto state = l1.save_state();
    ASSERT_EQ(l1.restore_and_enter(state), l2_runs);
    const FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(v.get(field::cr0_guest_host_mask) & task_switched, task_switched);
    EXPECT_EQ(v.get(field::cr0_read_shadow) & task_switched, task_switched) << "as L2 has it";
    EXPECT_EQ(v.get(field::cr4_guest_host_mask) & page_global, page_global);
    EXPECT_EQ(v.get(field::cr4_read_shadow) & page_global, v.get(field::guest_cr4) & page_global);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::cr0_guest_host_mask) & task_switched, 0U) << "as L1 wrote it";
}

TEST_P(HostsExit, TheMultiplierOfTheTimeStampCounterIsL2s) {
    demand({.tsc_multiplier = nested::Demands::same_rate / 2});
    launch();
    const auto has_scaling = [&] {
        return (l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                vmx::secondary::use_tsc_scaling) != 0;
    };
    EXPECT_TRUE(has_scaling());
    EXPECT_EQ(l1.vmcs02().get(field::tsc_multiplier), nested::Demands::same_rate / 2);
    EXPECT_NE(
        l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) & primary::use_tsc_offsetting,
        0U);
    demand({});
    EXPECT_FALSE(has_scaling());
}

TEST_P(HostsExit, L1sMultiplierOfTheTimeStampCounterComesBehindTheHosts) {
    constexpr std::uint64_t one = nested::Demands::same_rate;
    const auto scales = [&] {
        return (l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                vmx::secondary::use_tsc_scaling) != 0;
    };
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::use_tsc_offsetting);
    l1.use_secondary(vmx::secondary::use_tsc_scaling);
    l1.write(field::tsc_offset, 0x100);
    l1.write(field::tsc_multiplier, 3 * one);
    launch();
    EXPECT_TRUE(scales());
    EXPECT_EQ(l1.vmcs02().get(field::tsc_multiplier), 3 * one);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x100U);
    demand({.tsc_multiplier = one / 2, .tsc_offset = 0x1000});
    EXPECT_EQ(l1.vmcs02().get(field::tsc_multiplier), 3 * one / 2);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x3100U);
    demand({.tsc_offset = ~std::uint64_t{0}});
    EXPECT_EQ(l1.vmcs02().get(field::tsc_multiplier), 3 * one);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0xfdU) << "one tick less is three of L2's";
    demand({});
    EXPECT_EQ(l1.vmcs02().get(field::tsc_multiplier), 3 * one);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x100U);
}

TEST_P(HostsExit, L1sMultiplierCountsNothingWhereL1HasNoOffset) {
    l1.use_secondary(vmx::secondary::use_tsc_scaling);
    l1.write(field::tsc_multiplier, 3 * nested::Demands::same_rate);
    demand({.tsc_offset = 0x1000});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                  vmx::secondary::use_tsc_scaling,
              0U);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x1000U);
}

TEST_P(HostsExit, AMultiplierOfZeroIsABadControl) {
    l1.use_secondary(vmx::secondary::use_tsc_scaling);
    l1.write(field::tsc_multiplier, 0);
    EXPECT_EQ(l1.vmlaunch(), vm_fail(vmx::InstructionError::entry_with_invalid_control_fields));
    l1.write(field::tsc_multiplier, 1);
    launch();
    ASSERT_EQ(executes(ExitReason::hlt), l1_sees(ExitReason::hlt));
    l1.write(field::tsc_multiplier, 0);
    EXPECT_EQ(l1.vmresume(), vm_fail(vmx::InstructionError::entry_with_invalid_control_fields));
}

TEST_P(HostsExit, AMachineCheckOfL2sIsPassedOn) {
    demand({.exceptions = 1U << 18});
    launch();
    const auto event = InterruptionInformation::exception(x86::Vector::machine_check);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = event.value}), hosts_exit);
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(l1.injected(), event.value);
}

TEST_P(HostsExit, OtherControlRegistersAreNoneOfTheHosts) {
    l1.write(field::cr0_guest_host_mask, 8);
    demand({.instructions = primary::cr3_load_exiting | primary::cr8_load_exiting});
    launch();
    const std::uint64_t cr0 = ControlRegisterAccess{.control_register = 0}.encode();
    EXPECT_EQ(executes(ExitReason::control_register_access, cr0),
              l1_sees(ExitReason::control_register_access));
}

TEST_P(HostsExit, BothOffsetsOfTheTimeStampCounterAreL2s) {
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::use_tsc_offsetting);
    l1.write(field::tsc_offset, 0x1000);
    demand({.tsc_offset = 0x70'0000});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x70'1000U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::tsc_offset), 0x1000U);
    l1.write(field::tsc_offset, 0x2000);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x70'2000U) << "L1 has written its own meanwhile";
    ASSERT_TRUE(l1.set_demands({}));
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x2000U) << "at once, while L2 is current";
}

// They are put over L1's controls only where L1 has written one of these.
TEST_P(HostsExit, DemandsStayOverWhateverL1WritesAndWhereItWritesNothing) {
    constexpr std::uint32_t page_faults = 1U << 14;
    demand({.instructions = primary::cr3_load_exiting, .exceptions = page_faults, .tsc_offset = 0x70'0000});
    std::uint64_t exceptions = l1.read(field::exception_bitmap) & ~std::uint64_t{page_faults};
    launch();
    std::uint64_t offset = 0x70'0000;
    const auto go_round = [&](const char* what) {
        EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid)) << what;
        ASSERT_EQ(l1.vmresume(), l2_runs) << what;
        EXPECT_EQ(l1.vmcs02().get(field::exception_bitmap), exceptions | page_faults) << what;
        EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_mask), 0U) << what;
        EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_match), 0U) << what;
        EXPECT_EQ(l1.vmcs02().get(field::cr3_target_count), 0U) << what;
        EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), offset) << what;
    };
    // Each write of L1's alone between two exits.
    const auto write = [&](auto what, std::uint32_t value) {
        EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.write(what, value);
        ASSERT_EQ(l1.vmresume(), l2_runs);
    };
    go_round("nothing is written");
    go_round("nothing is written again");
    exceptions = 1U << 3;
    write(field::exception_bitmap, 1U << 3);
    go_round("exceptions");
    write(field::page_fault_error_code_mask, 4);
    go_round("the mask of page faults");
    write(field::page_fault_error_code_match, 4);
    go_round("what matches of them");
    write(field::cr3_target_count, 2);
    go_round("CR3 targets");
    write(field::tsc_offset, 0x123);
    go_round("a TSC offset that is not used");
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::use_tsc_offsetting);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    offset = 0x70'0123;
    go_round("it is used");
    // Another VMCS has its own, and the first one's are there when it comes back.
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.make_vmcs(1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x70'0000U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    go_round("of two VMCSs");
    demand({.tsc_offset = 0x1'0000});
    EXPECT_EQ(l1.vmcs02().get(field::page_fault_error_code_mask), 4U);
    EXPECT_EQ(l1.vmcs02().get(field::cr3_target_count), 2U);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x1'0123U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::tsc_offset, 0x200);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0x1'0200U);
}

TEST_P(HostsExit, WhereL1WritesNothingNoDemandIsPutAnew) {
    demand({.exceptions = 1U << 6, .tsc_offset = 0x70'0000});
    launch();
    const auto writes = [&] {
        const std::uint64_t before = l1.counters().vmwrites;
        EXPECT_EQ(l1.vmresume(), l2_runs);
        const std::uint64_t count = l1.counters().vmwrites - before;
        EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        return count;
    };
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const std::uint64_t with_nothing_written = writes();
    l1.write(field::exception_bitmap, 1U << 3);
    EXPECT_GE(writes(), with_nothing_written + 5);
    EXPECT_EQ(writes(), with_nothing_written);
}

TEST_P(HostsExit, DemandsCountForEveryVmcsAndForLaterOnes) {
    launch();
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    demand({.instructions = primary::hlt_exiting, .exceptions = 1U << 6});
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    ASSERT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.make_vmcs(1);
    l1.lower(field::primary_processor_based_vm_execution_controls, primary::hlt_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::exception_bitmap) & 1U << 6, 1U << 6);
    ASSERT_EQ(executes(ExitReason::hlt), hosts_exit);
    ASSERT_EQ(l1.resume_behind_instruction(), l2_runs);
    demand({});
    EXPECT_EQ(l1.vmcs02().get(field::exception_bitmap) & 1U << 6, 0U);
    EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) & primary::hlt_exiting,
              0U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::exception_bitmap) & 1U << 6, 0U) << "of a VMCS that was not current";
}

// L1's interrupt window opens without its controls being composed anew.
TEST_P(HostsExit, L1sInterruptWindowOpensBesideTheDemands) {
    demand({.instructions = primary::hlt_exiting});
    launch();
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls, primary::interrupt_window_exiting);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    const std::uint32_t controls = l1.vmcs02().get(field::primary_processor_based_vm_execution_controls);
    EXPECT_EQ(controls & (primary::hlt_exiting | primary::interrupt_window_exiting),
              primary::hlt_exiting | primary::interrupt_window_exiting);
}

TEST_P(HostsExit, AnNmiGoesToTheHostForAsLongAsItDemandsIt) {
    demand({.nmis = true});
    launch();
    EXPECT_EQ(l1.vmcs02().get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting,
              vmx::pin::nmi_exiting);
    // The host gives it back to the guest at once.
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi,
                           .interruption = InterruptionInformation::nmi().value}),
              l2_runs);
    EXPECT_EQ(l1.nmis_in_l2, 1U);
    demand({});
    EXPECT_EQ(l1.vmcs02().get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting, 0U);
}

TEST_P(HostsExit, TranslationsThatTheHostDroppedForL2AreFlushed) {
    l1.use_vpid(7);
    demand({.instructions = primary::cr3_load_exiting});
    launch();
    ASSERT_EQ(
        executes(ExitReason::control_register_access, ControlRegisterAccess{.control_register = 3}.encode()),
        hosts_exit);
    l1.forget_flushes();
    l1.l2_translations_changed();
    EXPECT_EQ(l1.invvpids(), std::vector<Flush>{whole_tag(l1.l2_tag())});
    EXPECT_EQ(l1.resume_behind_instruction(), l2_runs);
}

// Each control that a demand needs, on a processor that has all but it.
TEST(HostsDemands, AreRefusedWhereTheProcessorLacksTheControl) {
    const auto refused = [](const Demands& demands, auto which, std::uint32_t control) {
        nested::Capabilities has = nested::make_capabilities(processor(), physical_width, true);
        EXPECT_TRUE(nested::can_meet(demands, has)) << std::hex << control;
        (has.promised.*which).allowed1 &= ~control;
        EXPECT_FALSE(nested::can_meet(demands, has)) << std::hex << control;
        EXPECT_TRUE(nested::can_meet({}, has)) << std::hex << control;
    };
    using All = vmx::Capabilities;
    refused({.all_ports = true}, &All::primary_processor_based, primary::unconditional_io_exiting);
    refused({.kept_ports = true}, &All::primary_processor_based, primary::use_io_bitmaps);
    refused({.instructions = primary::hlt_exiting}, &All::primary_processor_based, primary::hlt_exiting);
    refused({.tsc_offset = 1}, &All::primary_processor_based, primary::use_tsc_offsetting);
    refused({.nmis = true}, &All::pin_based, vmx::pin::nmi_exiting);
    refused({.nmis = true}, &All::pin_based, vmx::pin::virtual_nmis);
    refused({.external_interrupts = true}, &All::pin_based, vmx::pin::external_interrupt_exiting);
    refused({.external_interrupts = true, .acknowledge_interrupts = true}, &All::vm_exit,
            vmx::exit_control::acknowledge_interrupt_on_exit);
}

TEST_P(HostsExit, RefusedDemandsChangeNothing) {
    demand({.instructions = primary::hlt_exiting});
    EXPECT_FALSE(l1.set_demands({.exceptions = 1U << 1}));
    launch();
    EXPECT_EQ(executes(ExitReason::hlt), hosts_exit);
}

// --- turns ---

class Turn : public ::testing::Test {
protected:
    Turn() { l1.prepare(); }
    unsigned rate() const { return l1.capabilities.promised.misc.preemption_timer_rate(); }
    std::uint64_t ticks(std::uint64_t units) const { return units << rate(); }
    void l1_uses_timer(std::uint32_t value, bool saves) {
        l1.raise(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
        if (saves) l1.raise(field::vm_exit_controls, vmx::exit_control::save_vmx_preemption_timer_value);
        l1.write(field::vmx_preemption_timer_value, value);
    }
    Outcome timer_expires() { return l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}); }
    std::uint32_t loaded() { return l1.vmcs02().get(field::vmx_preemption_timer_value); }

    static vmx::Capabilities with_slow_timer() {
        vmx::Capabilities hardware = processor();
        hardware.misc.value = (hardware.misc.value & ~vmx::MiscCapability::preemption_timer_rate_mask) | 5;
        return hardware;
    }

    VirtualCpu l1{{.hardware = with_slow_timer()}};
};

TEST_F(Turn, EndsByThePreemptionTimer) {
    l1.port.tsc = ticks(100);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(150) - 1}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(loaded(), 50U) << "rounded up";
    l1.port.tsc = ticks(150);
    ASSERT_EQ(timer_expires(), hosts_exit);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(250)}));
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(loaded(), 100U);
    l1.port.tsc = ticks(200);
    EXPECT_EQ(timer_expires(), l2_runs) << "too early, as after a long turn that the field does not hold";
    EXPECT_EQ(loaded(), 50U);
}

TEST_F(Turn, ThatIsMadeShorterOrLongerIsSoAtOnce) {
    l1.port.tsc = ticks(100);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(150)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    for (const std::uint64_t end : {130U, 110U, 1000U}) {
        ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(end)}));
        EXPECT_EQ(loaded(), end - 100);
    }
}

TEST_F(Turn, ThatIsOverEndsAtOnce) {
    l1.port.tsc = ticks(100);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(90)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(loaded(), 0U);
}

TEST_F(Turn, L1sOwnTimerEndsBeforeIt) {
    l1_uses_timer(30, true);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(100)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(loaded(), 30U);
    l1.port.tsc = ticks(30);
    EXPECT_EQ(timer_expires(), l1_sees(ExitReason::vmx_preemption_timer_expired));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 0U);
}

TEST_F(Turn, L1sOwnTimerGoesOnWhileTheHostWorks) {
    l1_uses_timer(70, true);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(50)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(loaded(), 50U);
    l1.port.tsc = ticks(50);
    ASSERT_EQ(timer_expires(), hosts_exit);
    l1.port.tsc = ticks(60);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(110)}));
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(loaded(), 10U);
    l1.port.tsc = ticks(65);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 5U);
    // It goes on from there at L1's next entry, and is over when L1's time is.
    l1.port.tsc = ticks(80);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(loaded(), 5U);
}

TEST_F(Turn, L1sTimerThatIsNotSavedBeginsAnewAtEachEntry) {
    l1_uses_timer(70, false);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(500)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.port.tsc = ticks(40);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 70U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(loaded(), 70U);
    l1.port.tsc = ticks(110);
    EXPECT_EQ(timer_expires(), l1_sees(ExitReason::vmx_preemption_timer_expired));
}

TEST_F(Turn, AnEndOfBothIsTheHostsAndThenL1s) {
    l1_uses_timer(50, true);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(50)}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.port.tsc = ticks(50);
    ASSERT_EQ(timer_expires(), hosts_exit);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(150)}));
    ASSERT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(loaded(), 0U);
    EXPECT_EQ(timer_expires(), l1_sees(ExitReason::vmx_preemption_timer_expired));
}

TEST_F(Turn, L1sTimerIsKeptWhereTurnsBeginAndCeaseWhileL2Runs) {
    l1_uses_timer(70, true);
    l1.port.tsc = ticks(1000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.port.tsc = ticks(1010);
    ASSERT_TRUE(l1.set_demands({.turn_ends = ticks(1030)}));
    EXPECT_EQ(loaded(), 20U);
    l1.port.tsc = ticks(1030);
    ASSERT_EQ(timer_expires(), hosts_exit);
    ASSERT_TRUE(l1.set_demands({}));
    EXPECT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(loaded(), 40U);
    l1.port.tsc = ticks(1070);
    EXPECT_EQ(timer_expires(), l1_sees(ExitReason::vmx_preemption_timer_expired));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 0U);
}

// SDM 3C 26.5.1: it counts by the time-stamp counter, which knows nothing of L0.
TEST_F(Turn, L1sTimerGoesOnWhileL0Works) {
    l1_uses_timer(70, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(loaded(), 70U);
    l1.port.tsc = ticks(25);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation, .qualification = 0x181}), l2_runs);
    EXPECT_EQ(loaded(), 45U);
    l1.port.tsc = ticks(100);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation, .qualification = 0x181}), l2_runs);
    EXPECT_EQ(loaded(), 0U) << "it is over as soon as L2 runs";
    EXPECT_EQ(timer_expires(), l1_sees(ExitReason::vmx_preemption_timer_expired));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 0U);
}

TEST_F(Turn, L1sTimerGoesOnWhileAnotherHasTheProcessor) {
    l1_uses_timer(70, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.port.tsc = ticks(30);
    l1.prepare_reentry();
    EXPECT_EQ(loaded(), 40U);
    l1.port.tsc = ticks(50);
    ASSERT_EQ(l1.move_to(1), l2_runs);
    EXPECT_EQ(loaded(), 20U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 20U);
}

}  // namespace
}  // namespace flatback::nested_test::hosts_exit_test
