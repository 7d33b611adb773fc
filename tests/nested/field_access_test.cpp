// VMREAD and VMWRITE.
#include <gtest/gtest.h>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/field_table.hpp"

namespace flatback::nested_test::field_access_test {
namespace {

using nested::FieldHandling;

constexpr auto unsupported = vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
constexpr auto read_only = vm_fail(InstructionError::vmwrite_to_read_only_vmcs_component);

class EveryField : public ::testing::TestWithParam<bool> {
protected:
    EveryField() { l1.prepare(); }
    VirtualCpu l1{{.shadow_vmcs = GetParam(), .posted_interrupts = true}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, EveryField, ::testing::Bool());

TEST_P(EveryField, KeepsWhatWasWritten) {
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        const std::uint32_t encoding = vmx::all_fields[i].encoding;
        if (nested::field_handling[i] == FieldHandling::unsupported) continue;
        const std::uint64_t value = 0xfedc'ba98'7654'3210 + i;
        l1.write_raw(encoding, value);
        EXPECT_EQ(l1.read_raw(encoding), value & nested::field_mask(encoding)) << vmx::all_fields[i].name;
    }
    // And none overwrote another.
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        const std::uint32_t encoding = vmx::all_fields[i].encoding;
        if (nested::field_handling[i] == FieldHandling::unsupported) continue;
        EXPECT_EQ(l1.read_raw(encoding), (0xfedc'ba98'7654'3210 + i) & nested::field_mask(encoding));
    }
}

TEST_P(EveryField, OfExitInformationIsReadOnlyWhereTheProcessorHasItSo) {
    VirtualCpu::Options options{.shadow_vmcs = GetParam()};
    options.hardware.misc.value &= ~vmx::MiscCapability::vmwrite_any_field;
    VirtualCpu other{options};
    other.prepare();
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (nested::field_handling[i] != FieldHandling::information) continue;
        EXPECT_EQ(other.vmwrite(vmx::all_fields[i].encoding, 1), read_only) << vmx::all_fields[i].name;
        EXPECT_EQ(other.vmread(vmx::all_fields[i].encoding), vm_succeed) << vmx::all_fields[i].name;
    }
}

TEST_P(EveryField, OfExitInformationStaysWhereAnExitDoesNotDefineIt) {
    const std::array kept{field::io_rcx.encoding, field::io_rip.encoding,
                          field::guest_linear_address.encoding,
                          field::vm_exit_interruption_error_code.encoding};
    const auto expect_kept = [&](std::uint64_t first) {
        for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(l1.read_raw(kept[i]), first + i);
    };
    for (std::size_t i = 0; i < kept.size(); ++i) l1.write_raw(kept[i], 0x70 + i);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::hlt, .guest_linear = 5}), l1_sees(ExitReason::hlt));
    expect_kept(0x70);
    for (std::size_t i = 0; i < kept.size(); ++i) l1.write_raw(kept[i], 0x90 + i);
    // Through its region too, and with another VMCS in between.
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    l1.make_vmcs(1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::io_rcx, 3);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::hlt}), l1_sees(ExitReason::hlt));
    EXPECT_EQ(l1.read(field::io_rcx), 3U);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(1)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::hlt}), l1_sees(ExitReason::hlt));
    expect_kept(0x90);
}

TEST_P(EveryField, OfAControlThatIsNotOfferedIsUnsupported) {
    unsigned seen = 0;
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (nested::field_handling[i] != FieldHandling::unsupported) continue;
        ++seen;
        EXPECT_EQ(l1.vmread(vmx::all_fields[i].encoding), unsupported) << vmx::all_fields[i].name;
        EXPECT_EQ(l1.vmwrite(vmx::all_fields[i].encoding, 0), unsupported) << vmx::all_fields[i].name;
    }
    EXPECT_GT(seen, 5U);  // of the field sheet
}

TEST_P(EveryField, OfNoSuchEncodingIsUnsupported) {
    for (const std::uint64_t encoding : {0x7fffULL, 0x1000ULL, 0x8000ULL, 0x681eULL | 1, 0x4000ULL | 1,
                                         0x0001ULL, 1ULL << 32 | 0x681e, ~0ULL}) {
        EXPECT_EQ(l1.vmread(encoding), unsupported) << std::hex << encoding;
        EXPECT_EQ(l1.vmwrite(encoding, 0), unsupported) << std::hex << encoding;
    }
}

TEST(FieldAccess, NeedsACurrentVmcs) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_EQ(l1.vmread(field::guest_rip.encoding), vm_fail_invalid);
    EXPECT_EQ(l1.vmwrite(field::guest_rip.encoding, 1), vm_fail_invalid);
}

TEST(FieldAccess, TheHighHalfOfA64BitFieldIsOnItsOwn) {
    VirtualCpu l1;
    l1.prepare();
    const std::uint32_t high = field::tsc_offset.encoding | 1;
    l1.write(field::tsc_offset, 0x1111'2222'3333'4444);
    EXPECT_EQ(l1.read_raw(high), 0x1111'2222U);
    l1.write_raw(high, 0xaaaa'bbbb);
    EXPECT_EQ(l1.read(field::tsc_offset), 0xaaaa'bbbb'3333'4444);
}

TEST(FieldAccess, GoesToMemoryAndToTheStackPointerToo) {
    VirtualCpu l1;
    l1.prepare();
    l1.port.registers.at(3) = layout::operand;
    l1.port.registers.at(2) = field::guest_cr3.encoding;
    l1.port.memory.write<std::uint64_t>(layout::operand, 0xabcd'e000);
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(3)), vm_succeed);
    l1.port.memory.write<std::uint64_t>(layout::operand, 0);
    EXPECT_EQ(l1.execute(ExitReason::vmread, memory_operand(3)), vm_succeed);
    EXPECT_EQ(l1.operand(), 0xabcd'e000U);

    EXPECT_EQ(l1.execute(ExitReason::vmread, register_operand(4)), vm_succeed);
    EXPECT_EQ(l1.vmcs01().get(field::guest_rsp), 0xabcd'e000U);
    l1.vmcs01().set(field::guest_rsp, 0x5000);
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, register_operand(4)), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_cr3), 0x5000U);
}

TEST(FieldAccess, FaultsWhereItsMemoryOperandDoes) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::guest_cr3, 0x1000);
    l1.port.registers.at(3) = 0x30'0000;
    l1.port.registers.at(2) = field::guest_cr3.encoding;
    EXPECT_EQ(l1.execute(ExitReason::vmread, memory_operand(3)), page_fault(2));
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(3)), page_fault(0));
    EXPECT_EQ(l1.port.cr2, 0x30'0000U);
    EXPECT_EQ(l1.read(field::guest_cr3), 0x1000U);
}

class NarrowFieldAccess : public ::testing::TestWithParam<std::uint32_t> {};
// L, which is reserved outside IA-32e mode, means nothing there.
INSTANTIATE_TEST_SUITE_P(CodeAccessRights, NarrowFieldAccess, ::testing::Values(0xc09b, 0xe09b));

TEST_P(NarrowFieldAccess, Has32BitsOutside64BitMode) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::guest_cr3, 0x1234'5678'9abc'd000);
    l1.write(field::tsc_offset, 0x1111'2222'3333'4444);
    l1.leave_64_bit_mode(GetParam());
    l1.port.registers.at(2) = 0xffff'ffff'0000'0000 | field::guest_cr3.encoding;
    EXPECT_EQ(l1.execute(ExitReason::vmread, register_operand(0)), vm_succeed);
    EXPECT_EQ(l1.value_read(), 0x9abc'd000U);
    l1.port.registers.at(0) = 0xffff'ffff'0000'7000;
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, register_operand(0)), vm_succeed);
    l1.port.registers.at(2) = field::tsc_offset.encoding;
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, register_operand(0)), vm_succeed);

    l1.port.registers.at(3) = layout::operand;
    l1.port.memory.write<std::uint64_t>(layout::operand, ~0ULL);
    EXPECT_EQ(l1.execute(ExitReason::vmread, memory_operand(3)), vm_succeed);
    EXPECT_EQ(l1.operand(), 0xffff'ffff'0000'7000) << "four bytes";
    l1.port.memory.write<std::uint64_t>(layout::operand, 0x5555'6666'7777'8888);
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(3)), vm_succeed);

    l1.return_to_64_bit_mode();
    EXPECT_EQ(l1.read(field::guest_cr3), 0x7000U) << "the rest of a natural-width field is cleared";
    EXPECT_EQ(l1.read(field::tsc_offset), 0x7777'8888U) << "and of a 64-bit field";
}

TEST(FieldAccess, AfterAnExitReadsWhatTheProcessorSaved) {
    for (const bool shadow : {false, true}) {
        VirtualCpu l1{{.shadow_vmcs = shadow}};
        l1.prepare_and_launch();
        FakeVmcs& v = l1.vmcs02();
        std::uint64_t value = 0x1000;
        std::map<std::uint32_t, std::uint64_t> saved;
        for (const vmx::NamedField& named : vmx::all_fields) {
            const auto handling =
                nested::field_handling.at(static_cast<std::size_t>(vmx::dense_index(named.encoding)));
            const bool of_exit = named.encoding == field::exit_reason.encoding ||
                                 named.encoding == field::vm_instruction_error.encoding;
            const bool saves =
                handling == FieldHandling::guest_state || handling == FieldHandling::information;
            const bool timer = named.encoding == field::vmx_preemption_timer_value.encoding;
            if (!saves || of_exit || timer) continue;
            value += 0x1000;
            saved[named.encoding] = value & nested::field_mask(named.encoding);
        }
        const L2Exit exit{
            .reason = ExitReason::ept_violation,
            .qualification = saved.at(field::exit_qualification.encoding),
            .interruption =
                static_cast<std::uint32_t>(saved.at(field::vm_exit_interruption_information.encoding)),
            .error_code =
                static_cast<std::uint32_t>(saved.at(field::vm_exit_interruption_error_code.encoding)),
            .vectoring = static_cast<std::uint32_t>(saved.at(field::idt_vectoring_information.encoding)),
            .vectoring_error_code =
                static_cast<std::uint32_t>(saved.at(field::idt_vectoring_error_code.encoding)),
            .instruction_length =
                static_cast<std::uint32_t>(saved.at(field::vm_exit_instruction_length.encoding)),
            .instruction_information =
                static_cast<std::uint32_t>(saved.at(field::vm_exit_instruction_information.encoding)),
            .guest_physical = saved.at(field::guest_physical_address.encoding),
            .guest_linear = saved.at(field::guest_linear_address.encoding)};
        for (const auto& [encoding, word] : saved) v.word(encoding) = word;
        L2Exit seen = exit;
        seen.reason = ExitReason::io_instruction;
        ASSERT_EQ(l1.l2_exits(seen), l1_sees(ExitReason::io_instruction));
        for (const auto& [encoding, word] : saved) {
            // Defined for exceptions and EPT violations only: at this exit they keep what L1 had before.
            if (encoding == field::vm_exit_interruption_error_code.encoding ||
                encoding == field::idt_vectoring_error_code.encoding ||
                encoding == field::guest_physical_address.encoding) {
                EXPECT_EQ(l1.read_raw(encoding), 0U) << vmx::name_of(encoding);
                continue;
            }
            EXPECT_EQ(l1.read_raw(encoding), word) << vmx::name_of(encoding);
        }
        EXPECT_EQ(l1.read(field::exit_reason), 30U);
    }
}

TEST(FieldAccess, AWriteAfterAnExitStands) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    l1.vmcs02().set(field::guest_cr3, 0x1000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::guest_cr3, 0x2000);
    EXPECT_EQ(l1.read(field::guest_cr3), 0x2000U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x2000U);
    l1.vmcs02().set(field::guest_cr3, 0x3000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::guest_cr3), 0x3000U);
}

}  // namespace
}  // namespace flatback::nested_test::field_access_test
