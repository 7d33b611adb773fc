// VMCS shadowing for L1's own guests: L1's shadow VMCSs, current and linked.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "nested/state/format.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/field_table.hpp"

namespace flatback::nested_test::l1s_shadow_test {
namespace {

constexpr auto unsupported = vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
constexpr std::uint64_t read_bitmap = 0x11'0000;
constexpr std::uint64_t write_bitmap = 0x11'1000;

class L1sShadow : public ::testing::TestWithParam<bool> {
protected:
    static constexpr unsigned shadow_number = 9;
    static constexpr std::uint64_t shadow = layout::vmcs_region(shadow_number);

    L1sShadow() { l1.prepare(); }
    void make_shadow(unsigned number = shadow_number) {
        l1.port.memory.write(layout::vmcs_region(number),
                             nested::vmcs12_revision | nested::shadow_vmcs_indicator);
        ASSERT_EQ(l1.vmclear(layout::vmcs_region(number)), vm_succeed);
    }
    // L2 accesses guest_rip, tsc_offset and guest_es_limit by itself, and nothing else, in this shadow VMCS.
    void show(std::uint64_t link) {
        for (const std::uint64_t bitmap : {read_bitmap, write_bitmap}) {
            for (std::uint64_t at = 0; at < 0x1000; at += 8) l1.port.memory.write(bitmap + at, ~0ULL);
            for (const std::uint32_t encoding : shown) let(bitmap, encoding, true);
        }
        l1.write(field::vmread_bitmap_address, read_bitmap);
        l1.write(field::vmwrite_bitmap_address, write_bitmap);
        l1.write(field::vmcs_link_pointer, link);
        l1.raise(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::activate_secondary_controls);
        l1.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::vmcs_shadowing);
    }
    void let(std::uint64_t bitmap, std::uint64_t encoding, bool free) {
        const auto bit = static_cast<std::uint8_t>(1U << encoding % 8);
        const auto byte = l1.port.memory.read<std::uint8_t>(bitmap + encoding / 8);
        l1.port.memory.write(bitmap + encoding / 8,
                             static_cast<std::uint8_t>(free ? byte & ~bit : byte | bit));
    }
    [[nodiscard]] std::uint64_t l2_reads(std::uint32_t encoding) {
        EXPECT_EQ(l1.l2_vmread(encoding), l2_runs);
        return l1.value_read();
    }
    static constexpr std::array shown{field::guest_rip.encoding, field::tsc_offset.encoding,
                                      field::tsc_offset.encoding | 1, field::guest_es_limit.encoding};

    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, L1sShadow, ::testing::Bool());

// --- current

TEST_P(L1sShadow, HasEveryFieldOfL1s) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), shadow);
    const auto accesses = l1.counters().vmread_exits + l1.counters().vmwrite_exits;
    const nested::FieldSet fields = l1.fields_of_l1();
    const auto value = [](std::size_t index) { return 0xfedc'ba98'7654'3210 + index; };
    fields.for_each([&](std::size_t i) { l1.write_raw(vmx::all_fields[i].encoding, value(i)); });
    const auto expect_all = [&] {
        fields.for_each([&](std::size_t i) {
            const std::uint32_t encoding = vmx::all_fields[i].encoding;
            EXPECT_EQ(l1.read_raw(encoding), value(i) & nested::field_mask(encoding))
                << vmx::all_fields[i].name;
        });
    };
    expect_all();
    if (GetParam()) {
        EXPECT_EQ(l1.counters().vmread_exits + l1.counters().vmwrite_exits, accesses) << "and no exit for it";
    }
    // The ordinary one is as it was, and back again.
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.read(field::host_cr3), layout::page_tables);
    EXPECT_EQ(l1.read(field::vmcs_link_pointer), ~0ULL);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    expect_all();
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    EXPECT_EQ(l1.vmread(field::guest_rip.encoding), vm_fail_invalid);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    expect_all();
    // Of both ways to the ordinary VMCS's fields none is left over.
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
}

TEST_P(L1sShadow, HasNothingButL1sFields) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    for (const std::uint64_t encoding :
         {std::uint64_t{0x7fff}, std::uint64_t{0x1000}, std::uint64_t{0x8000}, std::uint64_t{0x681f},
          std::uint64_t{0x4001}, std::uint64_t{field::virtualization_exception_information_address.encoding},
          std::uint64_t{field::eptp_list_address.encoding}}) {
        EXPECT_EQ(l1.vmread(encoding), unsupported) << std::hex << encoding;
        EXPECT_EQ(l1.vmwrite(encoding, 0), unsupported) << std::hex << encoding;
    }
    const std::uint32_t high = field::tsc_offset.encoding | 1;
    l1.write(field::tsc_offset, 0x1111'2222'3333'4444);
    EXPECT_EQ(l1.read_raw(high), 0x1111'2222U);
    l1.write_raw(high, 0xaaaa'bbbb);
    EXPECT_EQ(l1.read(field::tsc_offset), 0xaaaa'bbbb'3333'4444);
}

TEST_P(L1sShadow, TakesTheErrorsWhileItIsCurrent) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.vmptrld(0x123), vm_fail(InstructionError::vmptrld_with_invalid_physical_address));
    EXPECT_EQ(l1.vmcall(), vm_fail(InstructionError::vmcall_in_vmx_root_operation));
    EXPECT_EQ(l1.vmclear(layout::vmxon_region), vm_fail(InstructionError::vmclear_with_vmxon_pointer));
    EXPECT_EQ(l1.vmlaunch(), vm_fail_invalid) << "no VM entry with a shadow VMCS";
    EXPECT_EQ(l1.vmresume(), vm_fail_invalid);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(l1.read(field::vm_instruction_error), 0U);
}

TEST_P(L1sShadow, GoesToMemoryOperandsToo) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.port.registers.at(3) = layout::operand;
    l1.port.registers.at(2) = field::guest_cr3.encoding;
    l1.port.memory.write<std::uint64_t>(layout::operand, 0xabcd'e000);
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(3)), vm_succeed);
    l1.port.memory.write<std::uint64_t>(layout::operand, 0);
    EXPECT_EQ(l1.execute(ExitReason::vmread, memory_operand(3)), vm_succeed);
    EXPECT_EQ(l1.operand(), 0xabcd'e000U);
    l1.port.registers.at(3) = 0x30'0000;
    EXPECT_EQ(l1.execute(ExitReason::vmread, memory_operand(3)), page_fault(2));
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(3)), page_fault(0));
}

TEST_P(L1sShadow, IsNotForAnL1ThatWasNotPromisedIt) {
    VirtualCpu::Options options{.shadow_vmcs = GetParam()};
    options.hardware.secondary_processor_based.allowed1 &= ~vmx::secondary::vmcs_shadowing;
    VirtualCpu other{options};
    other.prepare();
    other.port.memory.write(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    EXPECT_EQ(other.vmptrld(shadow),
              vm_fail(InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier));
}

TEST_P(L1sShadow, StaysCurrentHoweverManyVmcssL1Loads) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rip, 0x77);
    constexpr unsigned count = 40;
    for (unsigned n = 10; n < 10 + count; ++n) {
        make_shadow(n);
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        l1.write(field::guest_rip, n);
        EXPECT_EQ(l1.read(field::guest_rip), n);
    }
    for (unsigned n = 10; n < 10 + count; ++n) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        EXPECT_EQ(l1.read(field::guest_rip), n);
    }
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_rip), 0x77U);
    ASSERT_EQ(l1.vmxoff(), vm_succeed);
    ASSERT_EQ(l1.vmxon(), vm_succeed);
    EXPECT_EQ(l1.vmread(field::guest_rip.encoding), vm_fail_invalid);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_rip), 0x77U) << "VMXOFF lost nothing";
}

TEST_P(L1sShadow, MayBecomeAnOrdinaryVmcsAndBack) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::host_rsp, 0x5550);
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    l1.port.memory.write<std::uint32_t>(shadow, nested::vmcs12_revision);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::host_rsp), 0x5550U);
    EXPECT_NE(l1.vmlaunch(), vm_fail_invalid);
    // While it is active L1 must not (SDM 3C 25.2); nothing but L1's own VMCS comes to harm.
    l1.port.memory.write<std::uint32_t>(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.vmlaunch(), vm_fail_invalid);
    EXPECT_EQ(l1.read(field::host_rsp), 0x5550U);
    l1.port.memory.write<std::uint32_t>(shadow, nested::vmcs12_revision);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_NE(l1.vmlaunch(), vm_fail_invalid);
}

// --- linked

TEST_P(L1sShadow, IsL2sWhileItIsLinked) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rip, 0x1234);
    l1.write(field::guest_es_limit, 0x55);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const auto exits = l1.counters().exits_from_l2;
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x1234U);
    EXPECT_EQ(l2_reads(field::guest_es_limit.encoding), 0x55U);
    EXPECT_EQ(l1.l2_vmwrite(field::tsc_offset.encoding, 0x1'0000'0002), l2_runs);
    EXPECT_EQ(l2_reads(field::tsc_offset.encoding | 1), 1U);
    EXPECT_EQ(l1.counters().exits_from_l2, exits);
    EXPECT_EQ(l1.l2_vmread(field::guest_rsp.encoding), l1_sees(ExitReason::vmread));
    EXPECT_EQ(l1.read(field::tsc_offset), 0U) << "the VMCS that L2 runs under is another";
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::tsc_offset), 0x1'0000'0002U);
    l1.write(field::guest_rip, 0x4321);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x4321U);
    EXPECT_EQ(l1.l2_vmwrite(field::guest_rsp.encoding, 1), l1_sees(ExitReason::vmwrite));
    // Without the control all exit.
    l1.lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::vmcs_shadowing);
    l1.write(field::vmcs_link_pointer, ~0ULL);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.l2_vmread(field::guest_rip.encoding), l1_sees(ExitReason::vmread));
}

TEST_P(L1sShadow, BecomesActiveByTheEntry) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rip, 0x1234);
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x1234U);
    EXPECT_EQ(l1.l2_vmwrite(field::guest_rip.encoding, 0x99), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_rip), 0x99U);
}

TEST_P(L1sShadow, MayBeAnotherOneAtEachEntry) {
    constexpr unsigned count = 40;  // more than the engine keeps active
    for (unsigned n = 10; n < 10 + count; ++n) {
        make_shadow(n);
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        l1.write(field::guest_rip, 0x1000 + n);
    }
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(layout::vmcs_region(10));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    for (unsigned i = 0; i < 2 * count; ++i) {
        const unsigned n = 10 + i * 37 % count;
        l1.write(field::vmcs_link_pointer, layout::vmcs_region(n));
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x1000U + n + 0x1'0000 * (i / count));
        EXPECT_EQ(l1.l2_vmwrite(field::guest_rip.encoding, 0x1'1000 + n), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    l1.write(field::vmcs_link_pointer, ~0ULL);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::vmcs_link_pointer), ~0ULL) << "VMfailInvalid is the processor's";
}

TEST_P(L1sShadow, IsLookedAtByEachEntry) {
    make_shadow();
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    const auto expect_refused = [&](std::uint64_t link) {
        l1.write(field::vmcs_link_pointer, link);
        EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state)) << std::hex << link;
        EXPECT_EQ(l1.read(field::exit_qualification), 4U);
        l1.write(field::vmcs_link_pointer, shadow);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    };
    expect_refused(shadow + 8);
    expect_refused(1ULL << physical_width);
    expect_refused(layout::vmcs_region(0));  // its own
    expect_refused(L1Memory::l0_start);      // no memory
    expect_refused(layout::vmcs_region(5));  // zeros
    l1.port.memory.write<std::uint32_t>(layout::vmcs_region(5), nested::vmcs12_revision);
    expect_refused(layout::vmcs_region(5));  // an ordinary one
    // The same region, behind the entry that linked it.
    l1.port.memory.write<std::uint32_t>(shadow, nested::vmcs12_revision);
    EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state));
    l1.port.memory.write<std::uint32_t>(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    EXPECT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    // And a shadow VMCS is none for an L2 without the control.
    l1.lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::vmcs_shadowing);
    EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state));
}

TEST_P(L1sShadow, HasBitmapsAsL1LastWroteThem) {
    for (const bool notices : {true, false}) {
        l1.port.notices_writes = notices;
        make_shadow();
        ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
        l1.make_vmcs(0);
        show(shadow);
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        EXPECT_EQ(l1.l2_vmread(field::guest_rsp.encoding), l1_sees(ExitReason::vmread));
        let(read_bitmap, field::guest_rsp.encoding, true);
        let(write_bitmap, field::guest_rip.encoding, false);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        const auto exits = l1.counters().exits_from_l2;
        EXPECT_EQ(l1.l2_vmread(field::guest_rsp.encoding), l2_runs);
        EXPECT_EQ(l1.counters().exits_from_l2, exits);
        EXPECT_EQ(l1.l2_vmwrite(field::guest_rip.encoding, 1), l1_sees(ExitReason::vmwrite));
        // Other pages.
        for (std::uint64_t at = 0; at < 0x1000; at += 8) l1.port.memory.write(0x11'2000 + at, ~0ULL);
        l1.write(field::vmread_bitmap_address, 0x11'2000);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.l2_vmread(field::guest_rip.encoding), l1_sees(ExitReason::vmread));
        // None.
        l1.write(field::vmread_bitmap_address, L1Memory::l0_start);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.l2_vmread(field::guest_rip.encoding), l1_sees(ExitReason::vmread));
    }
}

// Another processor of L1's may clear a bit while L2 runs: the processor looks at each access.
TEST_P(L1sShadow, LetsL2AccessWhatL1HasJustAllowed) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rsp, 0x8888);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    let(read_bitmap, field::guest_rsp.encoding, true);
    const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
    l1.vmcs02().set(field::guest_pending_debug_exceptions, vmx::pending_debug::single_step);
    EXPECT_EQ(l1.l2_vmread(field::guest_rsp.encoding), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip) << "it is executed again";
    EXPECT_EQ(l1.vmcs02().get(field::guest_pending_debug_exceptions), 0U) << "and traps when it is done";
    EXPECT_EQ(l2_reads(field::guest_rsp.encoding), 0x8888U);
}

TEST_P(L1sShadow, HasNoFieldForL2ThatL1LacksWhateverTheBitmapsSay) {
    make_shadow();
    show(shadow);
    for (const std::uint64_t bitmap : {read_bitmap, write_bitmap}) {
        for (std::uint64_t at = 0; at < 0x1000; at += 8) l1.port.memory.write(bitmap + at, 0ULL);
    }
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    constexpr std::uint64_t flags = x86::rflags::fixed_one | x86::rflags::arithmetic;
    for (const std::uint64_t encoding :
         {std::uint64_t{field::virtualization_exception_information_address.encoding}, std::uint64_t{0x7fff},
          std::uint64_t{0x681f}}) {
        for (const bool write : {false, true}) {
            FakeVmcs& v = l1.vmcs02();
            v.set(field::guest_rflags, flags);
            const std::uint64_t rip = v.get(field::guest_rip);
            EXPECT_EQ(write ? l1.l2_vmwrite(encoding, 1) : l1.l2_vmread(encoding), l2_runs);
            EXPECT_EQ(v.get(field::guest_rip), rip + 3);
            EXPECT_EQ(v.get(field::guest_rflags), x86::rflags::fixed_one | x86::rflags::zero);
        }
    }
    EXPECT_EQ(l1.l2_vmread(0x8000), l1_sees(ExitReason::vmread)) << "no encoding at all";
    EXPECT_EQ(l1.read(field::vm_instruction_error), 12U) << "the current VMCS's";
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::vm_instruction_error), 0U);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    l1.write(field::vmcs_link_pointer, ~0ULL);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_rflags, flags);
    EXPECT_EQ(l1.l2_vmread(field::virtualization_exception_information_address.encoding), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rflags), x86::rflags::fixed_one | x86::rflags::carry);
}

// --- elsewhere

TEST_P(L1sShadow, ComesAlongWhereTheVirtualCpuMoves) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rip, 0x1234);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.move_to(1), l2_runs);
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x1234U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    static_cast<void>(l1.move_to(0));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x1234U);
}

TEST_P(L1sShadow, IsInTheStateCurrentOrLinked) {
    make_shadow();
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_rip, 0x1234);
    l1.begin_anew();
    ASSERT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.operand(), shadow);
    EXPECT_EQ(l1.read(field::guest_rip), 0x1234U);
    EXPECT_EQ(l1.vmlaunch(), vm_fail_invalid);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.l2_vmwrite(field::guest_rip.encoding, 0x99), l2_runs);
    l1.begin_anew();
    EXPECT_EQ(l2_reads(field::guest_rip.encoding), 0x99U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_rip), 0x99U);
}

TEST_P(L1sShadow, IsInAStateThatRunsByIt) {
    make_shadow();
    show(shadow);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    std::vector<std::byte> state = l1.save_state();
    ASSERT_EQ(l1.restore_state(state), std::nullopt);
    // Its flags follow its pointer.
    std::size_t at = nested::state::header_size;
    const auto word = [&](std::size_t where) {
        std::uint64_t value = 0;
        std::memcpy(&value, &state.at(where), sizeof value);
        return value;
    };
    while (word(at) != shadow) at += nested::state::vmcs_header_size + (word(at + 8) >> 32) * 12;
    EXPECT_EQ(static_cast<std::uint32_t>(word(at + 8)), nested::state::shadow);
    for (const auto& [flags, error] : {std::pair{std::uint8_t{0}, nested::StateError::impossible},
                                       std::pair{std::uint8_t{1}, nested::StateError::impossible},
                                       std::pair{std::uint8_t{3}, nested::StateError::not_a_state},
                                       std::pair{std::uint8_t{6}, nested::StateError::not_a_state}}) {
        state.at(at + 8) = std::byte{flags};
        EXPECT_EQ(l1.restore_state(state), error) << int{flags};
    }
}

}  // namespace
}  // namespace flatback::nested_test::l1s_shadow_test
