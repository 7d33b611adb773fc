// Where the memory operand of L1's instruction is: addresses, segments, pages.
#include <gtest/gtest.h>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/segment.hpp"

namespace flatback::nested_test::operands_test {
namespace {

using x86::SegmentRegister;

constexpr std::uint64_t stored = layout::vmcs_region(0);

// VMPTRST with this operand; the pointer it stores is layout::vmcs_region(0).
class Operand : public ::testing::Test {
protected:
    Operand() { l1.prepare(); }
    Outcome store(const vmx::InstructionOperands& operands, std::uint64_t displacement = 0) {
        return l1.execute(ExitReason::vmptrst, operands, displacement);
    }
    std::uint64_t at(std::uint64_t physical) { return l1.port.memory.read<std::uint64_t>(physical); }
    VirtualCpu l1;
};

vmx::InstructionOperands plain() {
    vmx::InstructionOperands operands;
    operands.register2 = 2;
    return operands;
}

TEST_F(Operand, IsBaseIndexScaleAndDisplacement) {
    vmx::InstructionOperands operands = memory_operand(3);
    operands.index_register = std::uint8_t{9};
    l1.port.registers.at(3) = 0x8000;
    l1.port.registers.at(9) = 0x20;
    for (const unsigned scale : {1U, 2U, 4U, 8U}) {
        operands.scale = scale;
        EXPECT_EQ(store(operands, 0x40), vm_succeed);
        EXPECT_EQ(at(0x8040 + 0x20ULL * scale), stored) << scale;
    }
}

TEST_F(Operand, MayBeRelativeToTheInstructionPointer) {
    // The processor adds RIP to the displacement itself (SDM 3C 28.2.1).
    EXPECT_EQ(store(plain(), 0x8200), vm_succeed);
    EXPECT_EQ(at(0x8200), stored);
}

TEST_F(Operand, MayBeOnTheStack) {
    l1.vmcs01().set(field::guest_rsp, 0x8300);
    vmx::InstructionOperands operands = memory_operand(4);
    operands.segment = SegmentRegister::ss;
    EXPECT_EQ(store(operands, ~0ULL - 7), vm_succeed);
    EXPECT_EQ(at(0x82f8), stored);
}

TEST_F(Operand, HasABaseOnlyInFsAndGsIn64BitMode) {
    for (const auto segment : {SegmentRegister::es, SegmentRegister::ds, SegmentRegister::ss,
                               SegmentRegister::fs, SegmentRegister::gs}) {
        const auto number = static_cast<std::uint32_t>(segment);
        l1.vmcs01().word(field::guest_es_base.encoding + 2 * number) = 0x1000;
        l1.port.memory.write<std::uint64_t>(0x8400, 0);
        l1.port.memory.write<std::uint64_t>(0x9400, 0);
        vmx::InstructionOperands operands;
        operands.segment = segment;
        EXPECT_EQ(store(operands, 0x8400), vm_succeed);
        const bool based = segment == SegmentRegister::fs || segment == SegmentRegister::gs;
        EXPECT_EQ(at(based ? 0x9400 : 0x8400), stored) << number;
    }
}

TEST_F(Operand, WithA32BitAddressIsTruncatedBeforeTheBaseIsAdded) {
    vmx::InstructionOperands operands = memory_operand(3);
    operands.address_bits = 32;
    operands.segment = SegmentRegister::fs;
    l1.vmcs01().set(field::guest_fs_base, 0x1000);
    l1.port.registers.at(3) = 0xffff'ffff'ffff'ff00;
    EXPECT_EQ(store(operands, 0x8500), vm_succeed);
    EXPECT_EQ(at(0x9400), stored);
}

TEST_F(Operand, ThatIsNotCanonicalFaults) {
    EXPECT_EQ(store(plain(), 0x8000'0000'0000), general_protection);
    vmx::InstructionOperands operands;
    operands.segment = SegmentRegister::ss;
    EXPECT_EQ(store(operands, 0x8000'0000'0000), stack_fault);
    operands.segment = SegmentRegister::gs;
    l1.vmcs01().set(field::guest_gs_base, 0x7fff'ffff'f000);
    EXPECT_EQ(store(operands, 0x1000), general_protection);
}

TEST_F(Operand, ThatEndsBeyondTheCanonicalAddressesFaults) {
    // Its first byte is canonical; PML4 entry 256 is not asked whatever stands there.
    l1.port.memory.write<std::uint64_t>(layout::page_tables + 255 * 8, 0x2023);
    l1.port.memory.write<std::uint64_t>(layout::page_tables + 256 * 8, 0x2023);
    l1.port.memory.write<std::uint64_t>(0x2000 + 511 * 8, 0x3023);
    l1.port.memory.write<std::uint64_t>(0x3000 + 511 * 8, 0x4023);
    EXPECT_EQ(store(plain(), 0x7fff'ffff'fff8), vm_succeed);
    EXPECT_EQ(store(plain(), 0x7fff'ffff'fffc), general_protection);
}

TEST_F(Operand, MayCrossAPage) {
    // Linear page 0xa lies at 0x1b000.
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 0xa * 8, 0x1'b063);
    EXPECT_EQ(store(plain(), 0x9ffc), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x9ffc), static_cast<std::uint32_t>(stored));
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x1'b000), 0U);
    l1.port.memory.write<std::uint32_t>(0x9ffc, 0x1'0000);
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, plain(), 0x9ffc), vm_succeed) << "and be read so";
}

TEST_F(Operand, ThatCrossesIntoAPageThatIsNotThereFaultsThereAndWritesNothing) {
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 0xa * 8, 0);
    l1.port.memory.write<std::uint64_t>(0x9ff8, 0x77);
    EXPECT_EQ(store(plain(), 0x9ffc), page_fault(2));
    EXPECT_EQ(l1.port.cr2, 0xa000U);
    EXPECT_EQ(at(0x9ff8), 0x77U);
    EXPECT_EQ(l1.invvpid(2), vm_succeed);
    l1.port.registers.at(2) = 2;
    EXPECT_EQ(l1.execute(ExitReason::invvpid, plain(), 0x9ff4), page_fault(0));
}

TEST_F(Operand, InAHoleReadsAllOnesAndTakesNothing) {
    // Linear page 0xb: L0's memory, as L1 might map it.
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 0xb * 8, L1Memory::l0_start | 0x63);
    EXPECT_EQ(store(plain(), 0xb000), vm_succeed);
    l1.port.registers.at(2) = field::guest_cr3.encoding;
    EXPECT_EQ(l1.execute(ExitReason::vmwrite, memory_operand(1), 0xb000), vm_succeed);
    EXPECT_EQ(l1.read(field::guest_cr3), ~0ULL);
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, plain(), 0xb000),
              vm_fail(InstructionError::vmptrld_with_invalid_physical_address));
}

// --- what else an access does

TEST_F(Operand, ThatMeetsADataBreakpointOfL1sTrapsWhenItsInstructionIsDone) {
    namespace pending = vmx::pending_debug;
    const auto trapped = [&](std::uint64_t dr7, std::uint64_t address) {
        l1.vmcs01().set(field::guest_dr7, dr7 | 0x400);
        l1.vmcs01().set(field::guest_pending_debug_exceptions, 0);
        l1.port.debug_addresses = {0, address, 0, address};
        EXPECT_EQ(store(plain(), 0x8200), vm_succeed);
        return l1.vmcs01().get(field::guest_pending_debug_exceptions);
    };
    constexpr std::uint64_t local_1 = 1 << 2;
    constexpr std::uint64_t global_3 = 2 << 6;
    const auto kind = [](unsigned n, std::uint64_t rw, std::uint64_t length) {
        return rw << (16 + 4 * n) | length << (18 + 4 * n);
    };
    const std::uint64_t due = pending::enabled_breakpoint | 1 << 1;
    EXPECT_EQ(trapped(kind(1, 1, 0), 0x8200), 0U) << "not enabled";
    EXPECT_EQ(trapped(local_1 | kind(1, 1, 0), 0x8200), due) << "a write";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 0), 0x8207), due) << "its last byte";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 0), 0x8208), 0U);
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 0), 0x81ff), 0U);
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 3), 0x81ff), 0U) << "four bytes, aligned: up to 81ffH";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 2), 0x8203), due) << "eight, from 8200H";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 2), 0x820f), 0U) << "eight, from 8208H";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 3), 0x8207), due) << "four, from 8204H";
    EXPECT_EQ(trapped(local_1 | kind(1, 3, 3), 0x820b), 0U);
    EXPECT_EQ(trapped(local_1 | kind(1, 0, 0), 0x8200), 0U) << "of instructions";
    EXPECT_EQ(trapped(local_1 | kind(1, 2, 0), 0x8200), 0U) << "of ports";
    EXPECT_EQ(trapped(global_3 | kind(3, 1, 1), 0x8201), pending::enabled_breakpoint | 1 << 3);
    l1.vmcs01().set(field::guest_dr7, 0x400 | local_1 | kind(1, 1, 0));
    l1.vmcs01().set(field::guest_pending_debug_exceptions, 0);
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, plain(), 0x8200), vm_succeed);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), 0U) << "a read is no write";
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 8 * 8, 0);
    EXPECT_EQ(store(plain(), 0x8200), page_fault(2));
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), 0U) << "nor is what faults";
}

// --- outside 64-bit mode

class SegmentedOperand : public Operand, public ::testing::WithParamInterface<std::uint32_t> {
protected:
    SegmentedOperand() {
        l1.leave_64_bit_mode(GetParam());
        operands.address_bits = 32;
        operands.register2 = 2;
    }
    void set(SegmentRegister segment, std::uint64_t base, std::uint32_t limit, std::uint32_t rights) {
        const auto number = static_cast<std::uint32_t>(segment);
        l1.vmcs01().word(field::guest_es_base.encoding + 2 * number) = base;
        l1.vmcs01().word(field::guest_es_limit.encoding + 2 * number) = limit;
        l1.vmcs01().word(field::guest_es_access_rights.encoding + 2 * number) = rights;
    }
    vmx::InstructionOperands operands;
};

// With and without L, which is reserved outside IA-32e mode and means nothing there.
INSTANTIATE_TEST_SUITE_P(CodeAccessRights, SegmentedOperand, ::testing::Values(0xc09b, 0xe09b));

TEST_P(SegmentedOperand, HasABaseInEverySegment) {
    set(SegmentRegister::ds, 0xffff'f000, 0xffff'ffff, 0xc093);
    EXPECT_EQ(store(operands, 0x9000), vm_succeed) << "the sum wraps at 4 GB";
    EXPECT_EQ(at(0x8000), stored);
}

TEST_P(SegmentedOperand, MustEndWithinTheLimit) {
    set(SegmentRegister::ds, 0, 0x8007, 0x4093);
    EXPECT_EQ(store(operands, 0x8000), vm_succeed);
    EXPECT_EQ(store(operands, 0x8001), general_protection);
    set(SegmentRegister::ss, 0, 0x8007, 0x4093);
    operands.segment = SegmentRegister::ss;
    EXPECT_EQ(store(operands, 0x8001), stack_fault);
    operands.segment = SegmentRegister::ds;
    set(SegmentRegister::ds, 0, 0x8003, 0x4093);
    l1.port.registers.at(2) = field::guest_cr3.encoding;
    EXPECT_EQ(l1.execute(ExitReason::vmread, operands, 0x8000), vm_succeed) << "four bytes";
    l1.port.registers.at(2) = 2;
    EXPECT_EQ(l1.execute(ExitReason::invvpid, operands, 0x8000), general_protection) << "sixteen";
}

TEST_P(SegmentedOperand, MayLieInAnExpandDownSegmentAboveItsLimit) {
    set(SegmentRegister::ds, 0, 0x7fff, 0x4097);
    EXPECT_EQ(store(operands, 0x8000), vm_succeed);
    EXPECT_EQ(store(operands, 0x7fff), general_protection) << "the limit itself is outside";
    EXPECT_EQ(store(operands, 0x7ffc), general_protection);
    set(SegmentRegister::ds, 0, 0x7fff, 0x0097);  // 16 bits: up to FFFFH
    EXPECT_EQ(store(operands, 0xfff8), vm_succeed);
    EXPECT_EQ(store(operands, 0xfffc), general_protection);
}

TEST_P(SegmentedOperand, NeedsASegmentThatIsUsableAndOfTheRightKind) {
    set(SegmentRegister::ds, 0, 0xffff'ffff, 0x1'0000);
    EXPECT_EQ(store(operands, 0x8000), general_protection);
    set(SegmentRegister::ds, 0, 0xffff'ffff, 0xc091);  // read-only data
    EXPECT_EQ(store(operands, 0x8000), general_protection);
    l1.port.memory.write<std::uint64_t>(0x8000, layout::vmcs_region(0));
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, operands, 0x8000), vm_succeed);
    operands.segment = SegmentRegister::cs;
    EXPECT_EQ(store(operands, 0x8000), general_protection) << "code is not written";
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, operands, 0x8000), vm_succeed) << "but read";
    set(SegmentRegister::cs, 0, 0xffff'ffff, 0xc099);  // execute-only
    EXPECT_EQ(l1.execute(ExitReason::vmptrld, operands, 0x8000), general_protection);
}

TEST_P(SegmentedOperand, Uses32BitsOfTheTypeRegister) {
    l1.port.memory.write<std::uint64_t>(0x8000, 0);
    l1.port.memory.write<std::uint64_t>(0x8008, 0);
    l1.port.registers.at(2) = 0xffff'ffff'0000'0002;
    EXPECT_EQ(l1.execute(ExitReason::invvpid, operands, 0x8000), vm_succeed);
    EXPECT_EQ(l1.execute(ExitReason::invept, operands, 0x8000), vm_succeed);
}

}  // namespace
}  // namespace flatback::nested_test::operands_test
