#include <gtest/gtest.h>

#include "vmx/exit_qualification.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/instruction_information.hpp"

namespace flatback::vmx::exit_information_test {
namespace {

TEST(ControlRegisterAccess, DecodesMovToCr4FromR11) {
    constexpr auto access = ControlRegisterAccess::decode(0xb04);
    EXPECT_EQ(access.control_register, 4);
    EXPECT_EQ(access.kind, ControlRegisterAccess::Kind::mov_to);
    EXPECT_EQ(access.general_register, 11);
    EXPECT_EQ(access.encode(), 0xb04u);
}

TEST(ControlRegisterAccess, DecodesMovFromCr8AndClts) {
    EXPECT_EQ(ControlRegisterAccess::decode(0x18).control_register, 8);
    EXPECT_EQ(ControlRegisterAccess::decode(0x18).kind, ControlRegisterAccess::Kind::mov_from);
    EXPECT_EQ(ControlRegisterAccess::decode(0x20).kind, ControlRegisterAccess::Kind::clts);
}

TEST(ControlRegisterAccess, DecodesLmswFromMemory) {
    constexpr auto access = ControlRegisterAccess::decode(0xfff1'0070);
    EXPECT_EQ(access.kind, ControlRegisterAccess::Kind::lmsw);
    EXPECT_TRUE(access.lmsw_memory_operand);
    EXPECT_EQ(access.lmsw_source, 0xfff1);
    EXPECT_EQ(access.encode(), 0xfff1'0070u);
}

TEST(ExitReason, TellsTheVmxInstructions) {
    unsigned count = 0;
    for (std::uint16_t number = 0; number < exit_reason_count; ++number) {
        const auto reason = static_cast<ExitReason>(number);
        // By their names: all that begin with VM or INV but are of other sets.
        const std::string_view name = name_of(reason);
        const bool is_one = (name.starts_with("VM") || name == "INVEPT" || name == "INVVPID") &&
                            name != "VMFUNC" && name != "VMX-preemption timer expired";
        EXPECT_EQ(is_vmx_instruction(reason), is_one) << name;
        if (is_vmx_instruction(reason)) ++count;
    }
    EXPECT_EQ(count, 12U);
}

TEST(DebugRegisterAccess, DecodesBothDirections) {
    constexpr auto access = DebugRegisterAccess::decode(0x317);
    EXPECT_EQ(access.debug_register, 7);
    EXPECT_TRUE(access.from_debug_register);
    EXPECT_EQ(access.general_register, 3);
    EXPECT_EQ(access.encode(), 0x317u);
    EXPECT_FALSE(DebugRegisterAccess::decode(0x307).from_debug_register);
}

TEST(IoAccess, DecodesOutToSerialPortByImmediate) {
    constexpr auto access = IoAccess::decode(0x03f8'0000);
    EXPECT_EQ(access.port, 0x3f8);
    EXPECT_EQ(access.size, 1);
    EXPECT_FALSE(access.is_in);
    EXPECT_FALSE(access.immediate_operand);
    EXPECT_EQ(IoAccess::decode(0x0080'0040).immediate_operand, true);
}

TEST(IoAccess, DecodesRepInsd) {
    constexpr auto access = IoAccess::decode(0x01f0'003b);
    EXPECT_EQ(access.size, 4);
    EXPECT_TRUE(access.is_in);
    EXPECT_TRUE(access.is_string);
    EXPECT_TRUE(access.has_rep);
    EXPECT_EQ(access.port, 0x1f0);
    EXPECT_EQ(access.encode(), 0x01f0'003bu);
    EXPECT_EQ(IoAccess::decode(0x0cf8'0001).size, 2);
}

TEST(TaskSwitch, DecodesItsSource) {
    EXPECT_EQ(TaskSwitch::decode(0x0000'0028).source, TaskSwitch::Source::call);
    EXPECT_EQ(TaskSwitch::decode(0x4000'0028).source, TaskSwitch::Source::iret);
    EXPECT_EQ(TaskSwitch::decode(0x8000'0028).source, TaskSwitch::Source::jmp);
    EXPECT_EQ(TaskSwitch::decode(0xc000'0028).source, TaskSwitch::Source::task_gate);
    EXPECT_EQ(TaskSwitch::decode(0xc000'0028).selector, 0x28);
    EXPECT_EQ((TaskSwitch{0x28, TaskSwitch::Source::task_gate}.encode()), 0xc000'0028u);
}

TEST(ApicAccess, DecodesAWriteOfTheEoiRegister) {
    constexpr auto access = ApicAccess::decode(0x10b0);
    EXPECT_EQ(access.offset, 0xb0);
    EXPECT_EQ(access.kind, ApicAccess::Kind::linear_write);
    EXPECT_EQ(access.encode(), 0x10b0u);
}

TEST(EptViolation, TellsTheAccessFromThePermissions) {
    // A write to a page that is read-only and executable, to a linear address.
    constexpr EptViolation violation{0x1aa};
    EXPECT_TRUE(violation.is_write());
    EXPECT_FALSE(violation.is_read());
    EXPECT_FALSE(violation.is_fetch());
    EXPECT_EQ(violation.access(), 2u);
    EXPECT_EQ(violation.permissions(), 0b101u);
    EXPECT_TRUE(violation.has(EptViolation::linear_address_valid));
    EXPECT_TRUE(violation.has(EptViolation::of_linear_address));
}

TEST(EptViolation, TakesThePermissionsOfAnotherWalk) {
    constexpr EptViolation violation{0x1aa};
    EXPECT_EQ(violation.with_permissions(0).value, 0x182u);
    EXPECT_EQ(violation.with_permissions(7).value, 0x1bau);
    EXPECT_EQ(violation.with_permissions(~0ULL).value, 0x1bau);
}

TEST(InstructionInformation, DecodesVmreadIntoMemory) {
    // vmread [fs:rbx + r9*8 + disp], rcx
    constexpr InstructionInformation information{3u | 2u << 7 | 4u << 15 | 9u << 18 | 3u << 23 | 1u << 28};
    EXPECT_FALSE(information.has_register_operand());
    EXPECT_EQ(information.scale(), 8u);
    EXPECT_EQ(information.address_bits(), 64u);
    EXPECT_EQ(information.segment(), x86::SegmentRegister::fs);
    EXPECT_EQ(information.index_register(), 9);
    EXPECT_EQ(information.base_register(), 3);
    EXPECT_EQ(information.register2(), 1);
    const auto registers = [](std::uint8_t number) -> std::uint64_t { return number == 9 ? 0x10 : 0x1000; };
    EXPECT_EQ(information.effective_offset(0x20, registers), 0x10a0u);
    EXPECT_EQ(information.effective_offset(static_cast<std::uint64_t>(-0x20), registers), 0x1060u);
}

TEST(InstructionInformation, DecodesVmwriteFromRegister) {
    constexpr InstructionInformation information{1u << 10 | 14u << 3 | 15u << 28};
    EXPECT_TRUE(information.has_register_operand());
    EXPECT_EQ(information.register1(), 14);
    EXPECT_EQ(information.register2(), 15);
}

TEST(InstructionInformation, AbsoluteAddressHasNeitherIndexNorBase) {
    constexpr InstructionInformation information{2u << 7 | 3u << 15 | 1u << 22 | 1u << 27};
    EXPECT_EQ(information.index_register(), std::nullopt);
    EXPECT_EQ(information.base_register(), std::nullopt);
    EXPECT_EQ(information.effective_offset(0xffff'8000'0000'1000, [](std::uint8_t) { return 1ULL; }),
              0xffff'8000'0000'1000u);
}

TEST(InstructionInformation, OffsetWrapsAtTheAddressSize) {
    constexpr InstructionInformation thirty_two{1u << 7 | 1u << 22 | 3u << 23};
    EXPECT_EQ(thirty_two.address_bits(), 32u);
    EXPECT_EQ(thirty_two.effective_offset(0x10, [](std::uint8_t) { return 0xffff'fff8ULL; }), 8u);
    constexpr InstructionInformation sixteen{1u << 22 | 3u << 23};
    EXPECT_EQ(sixteen.address_bits(), 16u);
    EXPECT_EQ(sixteen.effective_offset(1, [](std::uint8_t) { return 0xffffULL; }), 0u);
}

TEST(InstructionOperands, EncodeWhatTheDecoderReads) {
    for (const unsigned scale : {1u, 2u, 4u, 8u}) {
        for (const unsigned address_bits : {16u, 32u, 64u}) {
            const auto information = InstructionOperands{.scale = scale,
                                                         .address_bits = address_bits,
                                                         .segment = x86::SegmentRegister::gs,
                                                         .index_register = 12,
                                                         .base_register = std::nullopt,
                                                         .register1 = std::nullopt,
                                                         .register2 = 7}
                                         .encode();
            EXPECT_EQ(information.scale(), scale);
            EXPECT_EQ(information.address_bits(), address_bits);
            EXPECT_EQ(information.segment(), x86::SegmentRegister::gs);
            EXPECT_EQ(information.index_register(), 12);
            EXPECT_EQ(information.base_register(), std::nullopt);
            EXPECT_EQ(information.register2(), 7);
            EXPECT_FALSE(information.has_register_operand());
        }
    }
    InstructionOperands register_form;
    register_form.register1 = std::uint8_t{9};
    EXPECT_TRUE(register_form.encode().has_register_operand());
    EXPECT_EQ(register_form.encode().register1(), 9);
}

}  // namespace
}  // namespace flatback::vmx::exit_information_test
