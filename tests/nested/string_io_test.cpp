// INS and OUTS of L1's at ports that the host keeps (SDM 2A "INS", 2B "OUTS").
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"
#include "x86/segment.hpp"

namespace flatback::nested_test::string_io_test {
namespace {

using x86::SegmentRegister;

constexpr std::uint16_t port = 0xB004;
constexpr Outcome again{Outcome::Kind::begins_again, 0, {}};
using Outputs = std::vector<std::pair<std::uint16_t, std::uint32_t>>;

vmx::InstructionOperands with_address_size(unsigned bits, SegmentRegister segment = SegmentRegister::ds) {
    vmx::InstructionOperands operands;
    operands.address_bits = bits;
    operands.segment = segment;
    return operands;
}

class StringIo : public ::testing::Test {
protected:
    VirtualCpu l1;
    std::uint64_t& rcx = l1.port.registers.at(1);
    std::uint64_t& rsi = l1.port.registers.at(6);
    std::uint64_t& rdi = l1.port.registers.at(7);
    L1Memory& memory = l1.port.memory;

    Outcome ins(std::uint8_t size, bool rep = false, unsigned bits = 64) {
        return l1.string_io({.size = size, .is_in = true, .has_rep = rep, .port = port},
                            with_address_size(bits));
    }
    Outcome outs(std::uint8_t size, bool rep = false, unsigned bits = 64,
                 SegmentRegister segment = SegmentRegister::ds) {
        return l1.string_io({.size = size, .has_rep = rep, .port = port}, with_address_size(bits, segment));
    }
    void run_at_level_3() {
        l1.vmcs01().set(field::guest_ss_access_rights, 0xc0f3);
        l1.vmcs01().set(field::guest_cs_access_rights, 0xa0fb);
    }
    void make_user_page(std::uint64_t page, bool writable = true) {
        for (const std::uint64_t table : {0x1000U, 0x2000U, 0x3000U})
            memory.write<std::uint64_t>(table, memory.read<std::uint64_t>(table) | 4);
        memory.write<std::uint64_t>(layout::level1_table + page / 0x1000 * 8, page | (writable ? 7U : 5U));
    }
};

TEST_F(StringIo, MovesOneElementAndTheIndex) {
    memory.write<std::uint32_t>(0x8000, 0x11223344);
    rsi = 0x8000;
    EXPECT_EQ(outs(4), vm_succeed);
    EXPECT_EQ(outs(1), vm_succeed);
    EXPECT_EQ(rsi, 0x8005U);
    EXPECT_EQ(l1.port.outputs, (Outputs{{port, 0x11223344}, {port, 0}}));
    rdi = 0x8100;
    memory.write<std::uint32_t>(0x8100, 0xFFFFFFFF);
    l1.port.inputs = {0xABCD};
    EXPECT_EQ(ins(2), vm_succeed);
    EXPECT_EQ(memory.read<std::uint32_t>(0x8100), 0xFFFFABCDU);
    EXPECT_EQ(rdi, 0x8102U);
    EXPECT_EQ(rcx, 0U) << "without REP nobody counts";
}

TEST_F(StringIo, GoesDownwardsWithTheDirectionFlag) {
    l1.extra_rflags = x86::rflags::direction;
    rsi = rdi = 0x8100;
    EXPECT_EQ(outs(2), vm_succeed);
    EXPECT_EQ(ins(4), vm_succeed);
    EXPECT_EQ(rsi, 0x80FEU);
    EXPECT_EQ(rdi, 0x80FCU);
}

TEST_F(StringIo, RepeatedExitsForEachElement) {
    for (std::uint16_t i = 0; i < 3; ++i)
        memory.write<std::uint16_t>(0x8000U + 2U * i, static_cast<std::uint16_t>(0x100 + i));
    rsi = 0x8000;
    rcx = 3;
    EXPECT_EQ(outs(2, true), again);
    EXPECT_EQ(outs(2, true), again);
    EXPECT_EQ(outs(2, true), vm_succeed);
    EXPECT_EQ(rcx, 0U);
    EXPECT_EQ(rsi, 0x8006U);
    EXPECT_EQ(l1.port.outputs, (Outputs{{port, 0x100}, {port, 0x101}, {port, 0x102}}));
}

TEST_F(StringIo, RepeatedNoTimesDoesNothing) {
    rcx = 0xFFFF'0000'0000;
    rdi = 0x30'0000;  // not mapped
    EXPECT_EQ(ins(1, true, 32), vm_succeed) << "ECX counts";
    EXPECT_EQ(rcx, 0xFFFF'0000'0000U);
    EXPECT_EQ(rdi, 0x30'0000U);
}

TEST_F(StringIo, WrapsAtTheAddressSize) {
    rdi = 0xAAAA'BBBB'0000'8000;
    rcx = 0x1'0000'0001;
    EXPECT_EQ(ins(4, true, 32), vm_succeed);
    EXPECT_EQ(rdi, 0x8004U) << "a 32-bit result clears the upper half";
    EXPECT_EQ(rcx, 0U);
    l1.leave_64_bit_mode();
    l1.extra_rflags = x86::rflags::direction;
    rsi = 0x12340000;
    rcx = 0x56780002;
    EXPECT_EQ(outs(1, true, 16), again);
    EXPECT_EQ(rsi, 0x1234FFFFU) << "a 16-bit one leaves it";
    EXPECT_EQ(rcx, 0x56780001U);
}

TEST_F(StringIo, TrapsBetweenElementsAndEndsTheBlockingOfOneInstruction) {
    l1.extra_rflags = x86::rflags::trap;
    l1.vmcs01().set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_sti);
    rsi = 0x8000;
    rcx = 2;
    EXPECT_EQ(outs(1, true), again);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), vmx::pending_debug::single_step);
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), 0U);
}

TEST_F(StringIo, MeetsDataBreakpoints) {
    l1.vmcs01().set(field::guest_dr7, 0x401 | 3U << 16);  // DR0, one byte, reads and writes
    l1.port.debug_addresses[0] = 0x8003;
    rsi = 0x8000;
    EXPECT_EQ(outs(4), vm_succeed);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions) & 0xF, 1U);
}

TEST_F(StringIo, FaultsInMemoryBeforeItReachesThePort) {
    rsi = rdi = 0x30'0000;
    rcx = 5;
    EXPECT_EQ(outs(1, true), page_fault(0));
    EXPECT_EQ(ins(1, true), page_fault(2));
    EXPECT_EQ(l1.port.cr2, 0x30'0000U);
    l1.port.inputs = {7};
    rdi = 0x8000'0000'0000;
    EXPECT_EQ(ins(1), general_protection);
    EXPECT_TRUE(l1.port.outputs.empty());
    EXPECT_EQ(l1.port.inputs.size(), 1U);
    EXPECT_EQ(rcx, 5U);
    EXPECT_EQ(rsi, 0x30'0000U);
}

TEST_F(StringIo, AtLevel3IsAUserModeAccess) {
    run_at_level_3();
    rsi = rdi = 0x8000;
    EXPECT_EQ(outs(2), page_fault(5)) << "a supervisor page";
    EXPECT_EQ(ins(2), page_fault(7));
    make_user_page(0x8000);
    EXPECT_EQ(outs(2), vm_succeed);
    EXPECT_EQ(ins(2), vm_succeed);
    make_user_page(0x8000, false);
    rdi = 0x8000;
    l1.vmcs01().set(field::guest_cr0, l1.vmcs01().get(field::guest_cr0) & ~x86::cr0::write_protect);
    EXPECT_EQ(ins(2), page_fault(7)) << "CR0.WP is for supervisor mode";
}

TEST_F(StringIo, AtLevel3IsNoMatterOfSmap) {
    make_user_page(0x8000);
    l1.vmcs01().set(field::guest_cr4, l1.vmcs01().get(field::guest_cr4) | x86::cr4::smap_enable);
    rsi = 0x8000;
    EXPECT_EQ(outs(2), page_fault(1));
    run_at_level_3();
    EXPECT_EQ(outs(2), vm_succeed);
}

TEST_F(StringIo, AtLevel3MayHaveToBeAligned) {
    run_at_level_3();
    make_user_page(0x8000);
    l1.vmcs01().set(field::guest_cr0, l1.vmcs01().get(field::guest_cr0) | x86::cr0::alignment_mask);
    rsi = 0x8001;
    EXPECT_EQ(outs(2), vm_succeed);
    l1.extra_rflags = x86::rflags::alignment_check;
    rsi = 0x8001;
    EXPECT_EQ(outs(2), fault(x86::Vector::alignment_check, 0));
    EXPECT_EQ(outs(1), vm_succeed);
}

TEST_F(StringIo, UsesTheSegmentOfOutsAndAlwaysEsForIns) {
    l1.vmcs01().set(field::guest_fs_base, 0x1000);
    memory.write<std::uint8_t>(0x9000, 0x5A);
    rsi = 0x8000;
    EXPECT_EQ(outs(1, false, 64, SegmentRegister::fs), vm_succeed);
    EXPECT_EQ(l1.port.outputs.back().second, 0x5AU);
    l1.leave_64_bit_mode();
    l1.vmcs01().set(field::guest_es_base, 0x1000);
    l1.vmcs01().set(field::guest_es_limit, 0x8001);
    l1.port.inputs = {0x77};
    rdi = 0x8000;
    EXPECT_EQ(
        l1.string_io({.size = 1, .is_in = true, .port = port}, with_address_size(32, SegmentRegister::fs)),
        vm_succeed);
    EXPECT_EQ(memory.read<std::uint8_t>(0x9000), 0x77U);
    EXPECT_EQ(ins(2, false, 32), general_protection) << "ES's limit";
    l1.vmcs01().set(field::guest_ss_limit, 0xFFF);
    EXPECT_EQ(outs(1, false, 32, SegmentRegister::ss), stack_fault);
}

TEST_F(StringIo, IsNotDoneWhereTheProcessorDoesNotTellTheOperand) {
    vmx::Capabilities hardware = processor();
    hardware.basic.value &= ~vmx::BasicCapability::ins_outs_information;
    VirtualCpu other{{.hardware = hardware}};
    EXPECT_EQ(other.string_io({.size = 1, .port = port}).kind, Outcome::Kind::lost);
    EXPECT_TRUE(other.port.outputs.empty());
}

}  // namespace
}  // namespace flatback::nested_test::string_io_test
