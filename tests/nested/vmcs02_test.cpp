// What vmcs02 is made of, and that an entry writes only what changed.
#include <gtest/gtest.h>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test::vmcs02_test {
namespace {

using nested::FieldHandling;

class Vmcs02 : public ::testing::TestWithParam<bool> {
protected:
    Vmcs02() { l1.prepare(); }
    void run_once() {
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    void resume() {
        l1.port.forget_writes();
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
    std::uint32_t primary12() { return l1.capabilities.promised.primary_processor_based.adjust(0); }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Vmcs02, ::testing::Bool());

TEST_P(Vmcs02, HasTheGuestStateAndTheControlsThatAreL1sAlone) {
    l1.write(field::tsc_offset, 0x1111'2222'3333'4444);
    l1.write(field::exception_bitmap, 0x6'0042);
    l1.write(field::page_fault_error_code_mask, 0x1f);
    l1.write(field::page_fault_error_code_match, 0x11);
    l1.write(field::cr3_target_count, 4);
    l1.write(field::cr3_target_value_0, 0x1000);
    l1.write(field::cr3_target_value_3, 0x4000);
    l1.write(field::cr0_guest_host_mask, 0x8000'0000);
    l1.write(field::cr4_guest_host_mask, 0x2000);
    l1.write(field::cr0_read_shadow, 0x21);
    l1.write(field::cr4_read_shadow, 0x20);
    l1.write(field::ple_gap, 0x80);
    l1.write(field::ple_window, 0x1000);
    l1.write(field::xss_exiting_bitmap, 0x7);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    FakeVmcs& v = l1.vmcs02();
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        const std::uint32_t encoding = vmx::all_fields[i].encoding;
        if (nested::field_handling[i] != FieldHandling::direct_control &&
            nested::field_handling[i] != FieldHandling::guest_state) {
            continue;
        }
        const std::uint64_t in_vmcs02 = v.words.at(i);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        EXPECT_EQ(in_vmcs02, l1.read_raw(encoding)) << vmx::all_fields[i].name;
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
}

TEST_P(Vmcs02, HasEveryPinBasedControlAsL1HasIt) {
    l1.write(field::vmx_preemption_timer_value, 0x1234);
    for (const std::uint32_t bits :
         {vmx::pin::external_interrupt_exiting, vmx::pin::nmi_exiting,
          vmx::pin::nmi_exiting | vmx::pin::virtual_nmis, vmx::pin::activate_vmx_preemption_timer}) {
        const std::uint32_t value = l1.capabilities.promised.pin_based.adjust(bits);
        l1.write(field::pin_based_vm_execution_controls, value);
        ASSERT_EQ(l1.counters().l2_entries == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs) << std::hex << bits;
        EXPECT_EQ(l1.vmcs02().get(field::pin_based_vm_execution_controls), value);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_P(Vmcs02, HasEveryPrimaryControlAsL1HasItAndTheSecondaryOnesActive) {
    run_once();
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.write(field::pin_based_vm_execution_controls,
             l1.capabilities.promised.pin_based.adjust(vmx::pin::nmi_exiting | vmx::pin::virtual_nmis));
    for (unsigned n = 0; n < 32; ++n) {
        const std::uint32_t bit = 1U << n;
        if ((nested::offered::primary & bit) == 0) continue;
        l1.write(field::primary_processor_based_vm_execution_controls, primary12() | bit);
        ASSERT_EQ(l1.vmresume(), l2_runs) << std::hex << bit;
        EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls),
                  primary12() | bit | vmx::primary::activate_secondary_controls);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_P(Vmcs02, HasEverySecondaryControlAsL1HasItWithEptAndItsTag) {
    run_once();
    l1.write(field::apic_access_address, layout::apic_page);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.write(field::primary_processor_based_vm_execution_controls,
             primary12() | vmx::primary::activate_secondary_controls | vmx::primary::use_tpr_shadow);
    l1.write(field::ept_pointer, layout::ept_tables | 0x1e);
    l1.write(field::virtual_processor_identifier, 7);
    l1.write(field::tsc_multiplier, 1);
    for (unsigned n = 0; n < 32; ++n) {
        std::uint32_t bits = 1U << n;
        if (((nested::offered::secondary | vmx::secondary::enable_vpid) & bits) == 0) continue;
        if (bits == vmx::secondary::unrestricted_guest || bits == vmx::secondary::enable_pml)
            bits |= vmx::secondary::enable_ept;
        if (bits == vmx::secondary::virtual_interrupt_delivery)
            l1.raise(field::pin_based_vm_execution_controls, vmx::pin::external_interrupt_exiting);
        l1.write(field::secondary_processor_based_vm_execution_controls, bits);
        ASSERT_EQ(l1.vmresume(), l2_runs) << std::hex << bits;
        EXPECT_EQ(
            l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls),
            (bits & ~vmx::secondary::enable_pml) | vmx::secondary::enable_ept | vmx::secondary::enable_vpid);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    l1.write(field::primary_processor_based_vm_execution_controls, primary12());
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls),
              vmx::secondary::enable_ept | vmx::secondary::enable_vpid)
        << "L1's secondary controls do not count where it does not activate them";
}

TEST_P(Vmcs02, LoadsAndSavesWhatL0MustKnowAndReturnsTo64BitMode) {
    const vmx::Capabilities& has = l1.capabilities.promised;
    l1.write(field::vm_exit_controls, has.vm_exit.adjust(vmx::exit_control::host_address_space_size));
    l1.write(field::vm_entry_controls, has.vm_entry.adjust(vmx::entry_control::ia32e_mode_guest));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    constexpr std::uint32_t exits = vmx::exit_control::host_address_space_size |
                                    vmx::exit_control::save_debug_controls |
                                    vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                                    vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer;
    EXPECT_EQ(l1.vmcs02().get(field::vm_exit_controls), has.vm_exit.adjust(exits));
    constexpr std::uint32_t entries = vmx::entry_control::load_debug_controls |
                                      vmx::entry_control::ia32e_mode_guest |
                                      vmx::entry_control::load_ia32_pat | vmx::entry_control::load_ia32_efer;
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_controls), has.vm_entry.adjust(entries));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vm_exit_controls),
              has.vm_exit.adjust(exits | vmx::exit_control::acknowledge_interrupt_on_exit));
}

TEST_P(Vmcs02, UsesL1sPagesByTheirHostAddresses) {
    l1.write(field::primary_processor_based_vm_execution_controls,
             primary12() | vmx::primary::use_io_bitmaps | vmx::primary::use_tpr_shadow |
                 vmx::primary::activate_secondary_controls);
    l1.write(field::secondary_processor_based_vm_execution_controls,
             vmx::secondary::virtualize_apic_accesses);
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.write(field::apic_access_address, layout::apic_page + 0x1000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(v.get(field::address_of_io_bitmap_a), FakePort::host_of(layout::io_bitmaps));
    EXPECT_EQ(v.get(field::address_of_io_bitmap_b), FakePort::host_of(layout::io_bitmaps + 0x1000));
    EXPECT_EQ(v.get(field::virtual_apic_address), FakePort::host_of(layout::apic_page));
    EXPECT_EQ(v.get(field::apic_access_address), FakePort::host_of(layout::apic_page + 0x1000));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    // L0's memory and none at all: VirtualCpu checks at every entry that no such page is L0's.
    l1.write(field::address_of_io_bitmap_a, L1Memory::l0_start);
    l1.write(field::virtual_apic_address, L1Memory::size);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    const std::uint64_t no_virtual_apic = v.get(field::virtual_apic_address);
    EXPECT_NE(no_virtual_apic, l1.port.host_mapping(x86::Gpa<x86::L1>{L1Memory::size}).address.value());
    l1.port.page(x86::Hpa{no_virtual_apic})[16] = 0x50;  // as the processor does for a MOV to CR8
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(l1.port.is_all_ones(no_virtual_apic)) << "what L2 wrote where there is no memory";
    EXPECT_EQ(v.get(field::address_of_io_bitmap_b), FakePort::host_of(layout::io_bitmaps + 0x1000));
}

TEST_P(Vmcs02, FollowsL1sPagesWhereL0MovesThem) {
    l1.write(field::primary_processor_based_vm_execution_controls,
             primary12() | vmx::primary::use_io_bitmaps | vmx::primary::use_msr_bitmaps);
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const FakeVmcs& v = l1.vmcs02();
    l1.port.moved_by = 0x10'0000'0000;
    l1.ept01_changed();
    l1.prepare_reentry();
    EXPECT_EQ(v.get(field::address_of_io_bitmap_a), FakePort::host_of(layout::io_bitmaps) + l1.port.moved_by)
        << "of the L2 that runs, before it runs again";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.moved_by = 0;
    l1.ept01_changed();
    l1.prepare_reentry();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(v.get(field::address_of_io_bitmap_b), FakePort::host_of(layout::io_bitmaps + 0x1000));
}

// While L1 runs its own VMCS is the current one.
TEST_P(Vmcs02, AloneHasPagesOfL1sThatL0Moves) {
    l1.write(field::primary_processor_based_vm_execution_controls,
             primary12() | vmx::primary::use_io_bitmaps | vmx::primary::use_tpr_shadow);
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    l1.write(field::virtual_apic_address, layout::apic_page);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const FakeVmcs of_l1 = l1.vmcs01();
    l1.port.moved_by = 0x10'0000'0000;
    l1.ept01_changed();
    EXPECT_EQ(l1.vmcs01().words, of_l1.words);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::virtual_apic_address),
              FakePort::host_of(layout::apic_page) + l1.port.moved_by);
}

TEST_P(Vmcs02, WithoutEptOfL1sRunsUnderEpt01) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::ept_pointer), FakePort::ept01);
}

// --- an entry writes only what changed

TEST_P(Vmcs02, IsNotWrittenWhereL1ChangedNothing) {
    l1.use_vpid(1);
    l1.use_ept(layout::ept_tables | 0x1e);
    run_once();
    for (unsigned again = 0; again < 3; ++again) {
        resume();
        EXPECT_EQ(l1.vmcs02().written_fields(), std::vector<std::string>{});
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_P(Vmcs02, GetsJustTheGuestRipThatL1Advanced) {
    run_once();
    l1.write(field::guest_rip, l1.read(field::guest_rip) + 2);
    resume();
    EXPECT_EQ(l1.vmcs02().written_fields(), std::vector<std::string>{"guest_rip"});
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), 0xffff'8000'0040'0002U);
}

TEST_P(Vmcs02, GetsJustThePrimaryControlsWhereL1OpensTheInterruptWindow) {
    run_once();
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::interrupt_window_exiting);
    resume();
    const std::vector<std::string> one{"primary_processor_based_vm_execution_controls"};
    EXPECT_EQ(l1.vmcs02().written_fields(), one);
    EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls),
              primary12() | vmx::primary::hlt_exiting | vmx::primary::interrupt_window_exiting |
                  vmx::primary::activate_secondary_controls);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l1_sees(ExitReason::interrupt_window));
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::interrupt_window_exiting);
    resume();
    EXPECT_EQ(l1.vmcs02().written_fields(), one);
    EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) &
                  vmx::primary::interrupt_window_exiting,
              0U);
}

TEST_P(Vmcs02, GetsJustTheVpidWhereL1ChangesItAndComesBack) {
    l1.use_vpid(1);
    run_once();
    l1.write(field::virtual_processor_identifier, 2);
    resume();
    EXPECT_EQ(l1.vmcs02().written_fields(), std::vector<std::string>{"virtual_processor_identifier"});
}

TEST_P(Vmcs02, OfEveryVmcsIsItsOwn) {
    run_once();
    l1.make_vmcs(1);
    l1.write(field::guest_cr3, 0x1'5000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const x86::Hpa second = l1.vmcs02_page();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    resume();
    EXPECT_NE(l1.vmcs02_page(), second);
    EXPECT_EQ(l1.vmcs02().write_count(), 0U) << "the switch rewrites nothing";
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x70'0000U);
    EXPECT_EQ(l1.port.vmcs(second).get(field::guest_cr3), 0x1'5000U);
}

TEST_P(Vmcs02, IsPreparedAgainAfterVmclear) {
    run_once();
    l1.vmcs02().set(field::guest_cr3, 0x5'5000);  // as if L2 had changed it
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_cr3, 0x6'6000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    l1.port.forget_writes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x6'6000U);
    EXPECT_GT(l1.vmcs02().write_count(), 50U);
}

TEST_P(Vmcs02, AReflectedExitTakesFewAccesses) {
    l1.use_vpid(1);
    l1.use_ept(layout::ept_tables | 0x1e);
    run_once();
    resume();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto before = l1.counters();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto& after = l1.counters();
    EXPECT_LE(after.vmreads + after.vmwrites - before.vmreads - before.vmwrites, 60U);
}

// A row of accesses is counted where it ends.
TEST_P(Vmcs02, EveryAccessOfAReflectedExitIsCounted) {
    l1.use_vpid(1);
    l1.use_ept(layout::ept_tables | 0x1e);
    run_once();
    const auto counted = l1.counters();
    const std::uint64_t reads = l1.port.vmreads;
    const std::uint64_t writes = l1.port.vmwrites;
    const std::uint64_t in_row = l1.port.accesses_in_row;
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.counters().vmreads - counted.vmreads, l1.port.vmreads - reads);
    EXPECT_EQ(l1.counters().vmwrites - counted.vmwrites, l1.port.vmwrites - writes);
    EXPECT_GE(l1.port.accesses_in_row - in_row, 30U) << "most are to fields that cannot be missing";
}

}  // namespace
}  // namespace flatback::nested_test::vmcs02_test
