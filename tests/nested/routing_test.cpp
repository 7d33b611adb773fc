// Who takes an exit of L2's: every reason, and the MSRs by L1's bitmap.
#include "nested/exit/routing.hpp"

#include <gtest/gtest.h>

#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test::routing_test {
namespace {

using nested::Route;

std::vector<std::uint16_t> reasons_by(Route route) {
    std::vector<std::uint16_t> reasons;
    for (std::uint16_t reason = 0; reason < nested::exit_reason_count; ++reason) {
        const bool exists = name_of(static_cast<ExitReason>(reason)) != "?";
        const bool entry_failure = reason == 33 || reason == 34 || reason == 41;
        if (nested::routes.at(reason) == route && exists && !entry_failure) reasons.push_back(reason);
    }
    return reasons;
}

TEST(Routing, OnlyFewReasonsAreNotL1s) {
    EXPECT_EQ(reasons_by(Route::by_ept12), (std::vector<std::uint16_t>{48, 49}));
    EXPECT_EQ(reasons_by(Route::by_msr_bitmap), (std::vector<std::uint16_t>{31, 32}));
    EXPECT_EQ(reasons_by(Route::by_io_bitmap), (std::vector<std::uint16_t>{})) << "of a host that keeps none";
    EXPECT_EQ(reasons_by(Route::never), (std::vector<std::uint16_t>{37, 45, 62, 66}));
}

TEST(Routing, EveryOtherReasonGoesToL1AsItCame) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    auto reasons = reasons_by(Route::to_l1);
    reasons.push_back(static_cast<std::uint16_t>(ExitReason::virtualized_eoi));  // of this processor
    for (const std::uint16_t number : reasons) {
        l1.counters().handled_by_l0 = {};
        const auto reason = static_cast<ExitReason>(number);
        ASSERT_EQ(l1.l2_exits({.reason = reason, .qualification = 0x1000U + number, .instruction_length = 1}),
                  l1_sees(reason));
        EXPECT_EQ(l1.counters().handled_by_l0.at(number), 0U);
        EXPECT_EQ(l1.read(field::exit_reason), number);
        EXPECT_EQ(l1.read(field::exit_qualification), 0x1000U + number);
        EXPECT_EQ(l1.counters().reflected.at(number), 1U);
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
}

TEST(Routing, AReasonThatNobodyAskedForStopsL0) {
    VirtualCpu::Options options;
    options.hardware.secondary_processor_based.allowed1 &= ~vmx::secondary::virtual_interrupt_delivery;
    for (const std::uint16_t number : reasons_by(Route::never)) {
        VirtualCpu l1{options};
        l1.prepare_and_launch();
        EXPECT_THROW((void)l1.l2_exits({.reason = static_cast<ExitReason>(number)}), FatalError) << number;
    }
}

TEST(Routing, EveryExitIsCounted) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    const std::uint64_t before = l1.counters().exits();
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.counters().exits() - before, 3U);
    EXPECT_EQ(l1.counters().exits_from_l2, 2U);
    EXPECT_EQ(l1.counters().exits_reflected, 1U);
    EXPECT_EQ(l1.counters().l2_entries, 2U);
    EXPECT_EQ(l1.counters().l2_reentries, 1U);
    EXPECT_EQ(l1.counters().handled_by_l0.at(48), 1U);
}

// --- MSRs

constexpr std::uint32_t efer = x86::msr::ia32_efer;
constexpr std::uint32_t apic_base = x86::msr::ia32_apic_base;

class MsrBitmap : public ::testing::Test {
protected:
    MsrBitmap() {
        l1.prepare();
        l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_msr_bitmaps);
        l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    }
    static std::uint64_t byte_of(std::uint32_t msr, bool write) {
        const std::uint32_t low = msr & 0x1fff;
        return (write ? 2048U : 0U) + (msr >= 0xc000'0000 ? 1024U : 0U) + low / 8;
    }
    void l1_intercepts(std::uint32_t msr, bool write) {
        const std::uint64_t address = layout::msr_bitmap + byte_of(msr, write);
        l1.port.memory.write(
            address, static_cast<std::uint8_t>(l1.port.memory.read<std::uint8_t>(address) | 1U << msr % 8));
    }
    bool hardware_intercepts(std::uint32_t msr, bool write) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(
            l1.port.page(x86::Hpa{l1.vmcs02().get(field::address_of_msr_bitmaps)}));
        return (bytes[byte_of(msr, write)] >> msr % 8 & 1) != 0;
    }
    Outcome l2_reads(std::uint32_t msr) {
        l1.port.registers.at(1) = msr;
        return l1.l2_exits({.reason = ExitReason::rdmsr, .instruction_length = 2});
    }
    Outcome l2_writes(std::uint32_t msr, std::uint64_t value) {
        l1.port.registers.at(1) = 0xffff'ffff'0000'0000 | msr;
        l1.port.registers.at(0) = 0xffff'ffff'0000'0000 | (value & 0xffff'ffff);
        l1.port.registers.at(2) = value >> 32;
        return l1.l2_exits({.reason = ExitReason::wrmsr, .instruction_length = 2});
    }
    VirtualCpu l1;
};

TEST_F(MsrBitmap, OfTheHardwareIsL1sWithL0s) {
    l1_intercepts(x86::msr::ia32_tsc, false);
    l1_intercepts(x86::msr::ia32_lstar, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false));
    EXPECT_FALSE(hardware_intercepts(x86::msr::ia32_tsc, true));
    EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_lstar, true));
    EXPECT_FALSE(hardware_intercepts(x86::msr::ia32_lstar, false));
    EXPECT_TRUE(hardware_intercepts(apic_base, false));
    EXPECT_TRUE(hardware_intercepts(apic_base, true));
    EXPECT_TRUE(hardware_intercepts(efer, true));
    EXPECT_FALSE(hardware_intercepts(efer, false));
}

// SDM 3C 30.5: RDMSR and WRMSR of 808H find the virtual TPR, where they do not exit.
TEST_F(MsrBitmap, LeavesTheTprOfAVirtualX2ApicToTheProcessor) {
    constexpr std::uint32_t task_priority = 0x808;
    constexpr std::uint32_t end_of_interrupt = 0x80b;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(task_priority, false));
    EXPECT_TRUE(hardware_intercepts(task_priority, true));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::primary_processor_based_vm_execution_controls,
             vmx::primary::use_tpr_shadow | vmx::primary::activate_secondary_controls);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::virtualize_x2apic_mode);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_FALSE(hardware_intercepts(task_priority, false));
    EXPECT_FALSE(hardware_intercepts(task_priority, true));
    EXPECT_TRUE(hardware_intercepts(end_of_interrupt, true));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1_intercepts(task_priority, true);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_FALSE(hardware_intercepts(task_priority, false));
    EXPECT_TRUE(hardware_intercepts(task_priority, true));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::virtualize_x2apic_mode);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(task_priority, false));
}

// The APIC's page goes where the MSR says: what the engine made of EPT01 is no longer true.
TEST_F(MsrBitmap, AWriteOfApicBaseThatMovesAPageIsFollowed) {
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_io_bitmaps);
    l1.write(field::address_of_io_bitmap_a, layout::io_bitmaps);
    l1.write(field::address_of_io_bitmap_b, layout::io_bitmaps + 0x1000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const auto bitmap = [&] { return l1.vmcs02().get(field::address_of_io_bitmap_a); };
    l1.port.moved_by = 0x10'0000'0000;
    l1.port.ept01_changed = true;
    ASSERT_EQ(l2_writes(apic_base, 0xfee0'0900), l2_runs);
    EXPECT_EQ(bitmap(), FakePort::host_of(layout::io_bitmaps) + l1.port.moved_by);

    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.moved_by = 0;
    l1.port.ept01_changed = true;
    ASSERT_TRUE(l1.write_guest_msr(apic_base, 0xfee0'0900));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(bitmap(), FakePort::host_of(layout::io_bitmaps));
}

TEST_F(MsrBitmap, FollowsWhatL1WritesToIt) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_FALSE(hardware_intercepts(x86::msr::ia32_tsc, false));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1_intercepts(x86::msr::ia32_tsc, false);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.memory.write<std::uint8_t>(layout::msr_bitmap + byte_of(x86::msr::ia32_tsc, false), 0);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_FALSE(hardware_intercepts(x86::msr::ia32_tsc, false));
    EXPECT_TRUE(hardware_intercepts(apic_base, true)) << "L0's bits stay";
}

// The port sees L1's writes to the bitmap, not L0's.
TEST_F(MsrBitmap, FollowsAVmreadThatL0StoresThereForL1) {
    constexpr std::uint64_t linear = 0x1'8000;
    constexpr std::uint64_t entry = layout::level1_table + 0x18 * 8;
    l1.port.memory.write<std::uint64_t>(entry, layout::msr_bitmap | 0x63);
    l1.write(field::guest_ia32_sysenter_esp, 1ULL << x86::msr::ia32_tsc);
    vmx::InstructionOperands operands;
    operands.address_bits = 64;
    operands.register2 = 2;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    // The second time by the walk that has an accessed flag to set.
    for (const std::uint64_t entry_bits : {0x63U, 0x03U}) {
        ASSERT_FALSE(hardware_intercepts(x86::msr::ia32_tsc, false));
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.port.memory.write<std::uint64_t>(entry, layout::msr_bitmap | entry_bits);
        l1.port.registers.at(2) = field::guest_ia32_sysenter_esp.encoding;
        ASSERT_EQ(l1.execute(ExitReason::vmread, operands, linear), vm_succeed);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false)) << entry_bits;
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.port.memory.write<std::uint64_t>(layout::msr_bitmap, 0);
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
}

TEST_F(MsrBitmap, FollowsTheMsrsThatAnExitStoresThere) {
    constexpr std::uint32_t bit_of_value = 8 * 8;  // the value is behind the index, at byte 8
    l1.port.msrs[x86::msr::ia32_star] = 1;
    l1.port.memory.write<std::uint32_t>(layout::msr_bitmap, x86::msr::ia32_star);
    l1.write(field::vm_exit_msr_store_address, layout::msr_bitmap);
    l1.write(field::vm_exit_msr_store_count, 1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_FALSE(hardware_intercepts(bit_of_value, false));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(bit_of_value, false));
}

TEST_F(MsrBitmap, OfTwoVmcssMayBeOnePage) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.make_vmcs(1);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_msr_bitmaps);
    l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1_intercepts(x86::msr::ia32_tsc, false);
    for (const unsigned n : {1U, 0U}) {  // the write is news to both
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false)) << n;
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_F(MsrBitmap, OfAnotherPageIsTakenAtOnce) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.port.memory.write<std::uint8_t>(0x11'0000 + byte_of(x86::msr::ia32_tsc, false), 0xff);
    l1.write(field::address_of_msr_bitmaps, 0x11'0000);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false));
}

TEST_F(MsrBitmap, InAHoleInterceptsEverything) {
    l1.write(field::address_of_msr_bitmaps, L1Memory::l0_start);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(hardware_intercepts(x86::msr::ia32_tsc, false));
    EXPECT_EQ(l2_reads(x86::msr::ia32_tsc), l1_sees(ExitReason::rdmsr));
}

TEST_F(MsrBitmap, DecidesWhoTakesTheExit) {
    l1_intercepts(x86::msr::ia32_star, false);
    l1_intercepts(x86::msr::ia32_lstar, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const auto again = [&] { ASSERT_EQ(l1.vmresume(), l2_runs); };
    EXPECT_EQ(l2_reads(x86::msr::ia32_star), l1_sees(ExitReason::rdmsr));
    again();
    EXPECT_EQ(l2_writes(x86::msr::ia32_star, 1), l2_runs);
    EXPECT_EQ(l2_writes(x86::msr::ia32_lstar, 1), l1_sees(ExitReason::wrmsr));
    again();
    EXPECT_EQ(l2_reads(x86::msr::ia32_lstar), l2_runs);
    // In neither range the bitmaps have bits: always L1's.
    for (const std::uint32_t msr : {0x2000U, 0xbfff'ffffU, 0xc000'2000U, 0xffff'ffffU}) {
        EXPECT_EQ(l2_reads(msr), l1_sees(ExitReason::rdmsr)) << std::hex << msr;
        again();
        EXPECT_EQ(l2_writes(msr, 0), l1_sees(ExitReason::wrmsr)) << std::hex << msr;
        again();
    }
}

TEST_F(MsrBitmap, ThatIsNotUsedSendsEveryMsrToL1) {
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::use_msr_bitmaps);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l2_reads(x86::msr::ia32_star), l1_sees(ExitReason::rdmsr));
}

TEST_F(MsrBitmap, LetsL0DoWhatL1LetsL2Do) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
    l1.port.registers.at(0) = l1.port.registers.at(2) = ~0ULL;
    l1.port.msrs[apic_base] = 0x81'fee0'0900;
    EXPECT_EQ(l2_reads(apic_base), l2_runs);
    EXPECT_EQ(l1.port.registers.at(0), 0xfee0'0900U);
    EXPECT_EQ(l1.port.registers.at(2), 0x81U);
    l1.port.msrs[apic_base] = 0xfee0'0900;
    EXPECT_EQ(l2_reads(apic_base), l2_runs);
    EXPECT_EQ(l1.port.registers.at(0), 0xfee0'0900U);
    EXPECT_EQ(l1.port.registers.at(2), 0U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip + 4);
    EXPECT_EQ(l2_writes(apic_base, 0xfee0'0d00), l2_runs);
    EXPECT_EQ(l1.port.msrs[apic_base], 0xfee0'0d00U);
    EXPECT_EQ(l2_reads(0x123), l2_runs) << "no such MSR";
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip + 6) << "a fault leaves RIP";
    EXPECT_EQ(l2_writes(0x123, 0), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
}

TEST_F(MsrBitmap, LeavesMsrsOfTheVmcsToL2) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    FakeVmcs& v = l1.vmcs02();
    struct Case {
        std::uint32_t msr;
        std::uint32_t encoding;
        std::uint64_t good;
        std::uint64_t bad;
    };
    for (const Case& c :
         {Case{efer, field::guest_ia32_efer.encoding, 0xd00, 0x2d01},
          Case{x86::msr::ia32_pat, field::guest_ia32_pat.encoding, 0x0101'0101'0101'0101, 2},
          Case{x86::msr::ia32_debugctl, field::guest_ia32_debugctl.encoding, 1, 1ULL << 40},
          Case{x86::msr::ia32_sysenter_esp, field::guest_ia32_sysenter_esp.encoding, 0x1000, 1ULL << 47},
          Case{x86::msr::ia32_sysenter_eip, field::guest_ia32_sysenter_eip.encoding, 0x2000, 1ULL << 47},
          Case{x86::msr::ia32_fs_base, field::guest_fs_base.encoding, 0x3000, 1ULL << 47},
          Case{x86::msr::ia32_gs_base, field::guest_gs_base.encoding, 0x4000, 1ULL << 47}}) {
        EXPECT_TRUE(l1.write_guest_msr(c.msr, c.good)) << std::hex << c.msr;
        EXPECT_EQ(v.word(c.encoding), c.good) << std::hex << c.msr;
        EXPECT_FALSE(l1.write_guest_msr(c.msr, c.bad)) << std::hex << c.msr;
        EXPECT_EQ(l1.read_guest_msr(c.msr), c.good);
    }
    EXPECT_TRUE(l1.write_guest_msr(x86::msr::ia32_sysenter_cs, 0x5'0000'0010));
    EXPECT_EQ(l1.read_guest_msr(x86::msr::ia32_sysenter_cs), 0x10U);
    EXPECT_FALSE(l1.write_guest_msr(efer, 0xc01)) << "LME while paging";
    EXPECT_TRUE(l1.write_guest_msr(efer, 0x901));
    EXPECT_EQ(l1.read_guest_msr(efer), 0xd01U) << "LMA is the processor's";
}

// --- exits that L0 does not know

// As SEAMCALL (76) and TDCALL (77) where the processor has TDX.
TEST(UnknownExit, IsAnUndefinedInstructionOfL2s) {
    for (const std::uint32_t reason : {70U, 76U, 77U, 0x7fffU, 0xffffU}) {
        VirtualCpu l1;
        l1.prepare_and_launch();
        const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
        EXPECT_EQ(l1.l2_exits({.reason = static_cast<ExitReason>(reason), .instruction_length = 4}), l2_runs);
        EXPECT_EQ(l1.injected(), 0x8000'0306U) << reason;
        EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip);
        EXPECT_EQ(l1.counters().handled_by_l0[0], 1U) << "counted as the exception";
    }
}

// Where the processor has SGX, which L1 was not promised, ENCLS exits for L0, in an L2 too.
TEST(UnknownExit, IsThatOfEncls) {
    vmx::Capabilities with_sgx = processor();
    with_sgx.secondary_processor_based.allowed1 |= vmx::secondary::enable_encls_exiting;
    VirtualCpu l1{{.hardware = with_sgx}};
    l1.port.further_fields = {field::encls_exiting_bitmap.encoding};
    l1.prepare_and_launch();
    EXPECT_NE(l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                  vmx::secondary::enable_encls_exiting,
              0U);
    EXPECT_EQ(l1.vmcs02().get(field::encls_exiting_bitmap), ~std::uint64_t{0});
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::encls, .instruction_length = 3}), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0306U);
}

TEST(UnknownExit, IsAnExceptionExitWhereL1InterceptsUndefinedInstructions) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::exception_bitmap, 1U << 6);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.l2_exits({.reason = static_cast<ExitReason>(77), .instruction_length = 4}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), 0x8000'0306U);
}

// --- the lists of MSRs at an exit

class ExitMsrLists : public ::testing::Test {
protected:
    ExitMsrLists() { l1.prepare(); }
    void put(std::uint64_t list, unsigned n, std::uint32_t msr, std::uint64_t value,
             std::uint32_t reserved = 0) {
        l1.port.memory.write(list + n * 16, msr);
        l1.port.memory.write(list + n * 16 + 4, reserved);
        l1.port.memory.write(list + n * 16 + 8, value);
    }
    VirtualCpu l1;
    static constexpr std::uint64_t store_list = layout::msr_list;
    static constexpr std::uint64_t load_list = layout::msr_list + 0x800;
};

TEST_F(ExitMsrLists, StoreL2sAndLoadL1s) {
    l1.write(field::vm_exit_msr_store_address, store_list);
    l1.write(field::vm_exit_msr_store_count, 3);
    l1.write(field::vm_exit_msr_load_address, load_list);
    l1.write(field::vm_exit_msr_load_count, 2);
    put(store_list, 0, x86::msr::ia32_star, 0);
    put(store_list, 1, x86::msr::ia32_fs_base, 0);
    put(store_list, 2, efer, 0);
    put(load_list, 0, x86::msr::ia32_star, 0x9999);
    put(load_list, 1, x86::msr::ia32_sysenter_esp, 0x8880);
    for (unsigned round = 0; round < 2; ++round) {
        ASSERT_EQ(round == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        l1.port.msrs[x86::msr::ia32_star] = 0x7777 + round;
        l1.vmcs02().set(field::guest_fs_base, 0x6660);
        l1.vmcs02().set(field::guest_ia32_efer, 0x501);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(store_list + 8), 0x7777U + round);
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(store_list + 24), 0x6660U);
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(store_list + 40), 0x501U);
        EXPECT_EQ(l1.port.msrs[x86::msr::ia32_star], 0x9999U);
        EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_sysenter_esp), 0x8880U) << "after the host state";
    }
}

TEST_F(ExitMsrLists, ThatCannotBeStoredOrLoadedAbort) {
    struct Case {
        bool store;
        std::uint32_t msr;
        std::uint64_t value;
        std::uint32_t reserved;
    };
    for (const Case& c :
         {Case{true, 0x123, 0, 0}, Case{true, 0x808, 0, 0}, Case{true, x86::msr::ia32_smbase, 0, 0},
          Case{true, x86::msr::ia32_star, 0, 1}, Case{false, x86::msr::ia32_gs_base, 0, 0},
          Case{false, 0x123, 0, 0}, Case{false, x86::msr::ia32_pat, 2, 0}}) {
        VirtualCpu other;
        other.prepare();
        other.write(c.store ? field::vm_exit_msr_store_address : field::vm_exit_msr_load_address, store_list);
        other.write(c.store ? field::vm_exit_msr_store_count : field::vm_exit_msr_load_count, 1);
        other.port.memory.write(store_list, c.msr);
        other.port.memory.write(store_list + 4, c.reserved);
        other.port.memory.write(store_list + 8, c.value);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_THROW((void)other.l2_executes_cpuid(), L1Shutdown) << std::hex << c.msr;
        EXPECT_EQ(other.port.memory.read<std::uint32_t>(layout::vmcs_region(0) + 4), c.store ? 1U : 4U);
    }
}

TEST_F(ExitMsrLists, InAHoleAbort) {
    l1.write(field::vm_exit_msr_store_address, L1Memory::l0_start);
    l1.write(field::vm_exit_msr_store_count, 1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_THROW((void)l1.l2_executes_cpuid(), L1Shutdown);
}

}  // namespace
}  // namespace flatback::nested_test::routing_test
