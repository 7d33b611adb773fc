// INS and OUTS of L2's at ports that the host keeps and L1 does not (SDM 2A "INS", 2B "OUTS"): memory by L2's
// paging and EPT12, faults for L2, violations for L1.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/instruction_information.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::l2_string_io_test {
namespace {

namespace bit = vmx::ept_entry;
constexpr std::uint16_t kept = 0xB004;
using Outputs = std::vector<std::pair<std::uint16_t, std::uint32_t>>;

// L2's physical memory, from its tables on.
constexpr std::uint64_t tables = 0x70'0000;  // as VirtualCpu::prepare() has CR3: PML4, PDPT, PD, PT
constexpr std::uint64_t level1 = tables + 0x3000;
constexpr std::uint64_t data = 0x71'0000;
constexpr std::uint64_t next = 0x71'1000;
// Its linear addresses of these two.
constexpr std::uint64_t linear = 0x8000;
constexpr std::uint64_t linear_next = 0x9000;

struct Shape {
    bool ept;
    bool shadow_vmcs;
};

class L2StringIo : public ::testing::TestWithParam<Shape> {
protected:
    L2StringIo() {
        l1.prepare();
        if (GetParam().ept) {
            l1.use_ept(ept.eptp());
            for (std::uint64_t page = tables; page < tables + 0x4000; page += 0x1000)
                ept.map(page, l1_of(page));
            ept.map(data, l1_of(data));
            ept.map(next, l1_of(next));
        }
        constexpr std::uint64_t flags = 0x67;
        write(tables, (tables + 0x1000) | flags);
        write(tables + 0x1000, (tables + 0x2000) | flags);
        write(tables + 0x2000, level1 | flags);
        map_linear(linear, data | flags);
        map_linear(linear_next, next | flags);
    }
    // With EPT they lie elsewhere, so that one is not taken for the other.
    static std::uint64_t l1_of(std::uint64_t guest_physical) {
        return GetParam().ept ? guest_physical + 0x1000'0000 : guest_physical;
    }
    template <typename T = std::uint64_t>
    T read(std::uint64_t guest_physical) {
        return l1.port.memory.read<T>(l1_of(guest_physical));
    }
    template <typename T = std::uint64_t>
    void write(std::uint64_t guest_physical, std::type_identity_t<T> value) {
        l1.port.memory.write<T>(l1_of(guest_physical), value);
    }
    void map_linear(std::uint64_t address, std::uint64_t entry) {
        write(level1 + address / 0x1000 * 8, entry);
    }
    std::uint64_t entry_of(std::uint64_t address) { return read(level1 + address / 0x1000 * 8); }

    Outcome string(vmx::IoAccess access) {
        access.is_string = true;
        access.port = kept;
        rip = l1.vmcs02().get(field::guest_rip);
        vmx::InstructionOperands operands;
        return l1.l2_exits({.reason = ExitReason::io_instruction,
                            .qualification = access.encode(),
                            .instruction_length = 2,
                            .instruction_information = operands.encode().value});
    }
    Outcome outs(std::uint8_t size, bool rep = false) { return string({.size = size, .has_rep = rep}); }
    Outcome ins(std::uint8_t size, bool rep = false) {
        return string({.size = size, .is_in = true, .has_rep = rep});
    }
    [[nodiscard]] std::uint64_t moved() { return l1.vmcs02().get(field::guest_rip) - rip; }
    void expect_exit(std::uint64_t qualification, std::uint64_t guest_physical, std::uint64_t at) {
        EXPECT_EQ(l1.read(field::exit_qualification), qualification);
        EXPECT_EQ(l1.read(field::guest_physical_address), guest_physical);
        EXPECT_EQ(l1.read(field::guest_linear_address), at);
        EXPECT_EQ(l1.read(field::guest_rip), rip) << "the instruction begins again";
        EXPECT_NE(l1.read(field::guest_rflags) & x86::rflags::resume, 0U);
        EXPECT_EQ(l1.read(field::vm_exit_interruption_information) >> 31, 0U);
        EXPECT_TRUE(l1.port.outputs.empty()) << "the port is not touched";
    }

    VirtualCpu l1{{.shadow_vmcs = GetParam().shadow_vmcs,
                   .hardware = processor_for(GetParam().shadow_vmcs),
                   .kept_ports = {kept}}};
    Ept12 ept{l1};
    std::uint64_t& rcx = l1.port.registers.at(1);
    std::uint64_t& rsi = l1.port.registers.at(6);
    std::uint64_t& rdi = l1.port.registers.at(7);
    std::uint64_t rip = 0;
};
INSTANTIATE_TEST_SUITE_P(Shapes, L2StringIo,
                         ::testing::Values(Shape{false, false}, Shape{false, true}, Shape{true, false},
                                           Shape{true, true}));
class L2StringIoByEpt : public L2StringIo {};
INSTANTIATE_TEST_SUITE_P(Shapes, L2StringIoByEpt, ::testing::Values(Shape{true, false}, Shape{true, true}));

TEST_P(L2StringIo, MovesBetweenItsMemoryAndThePort) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    write<std::uint32_t>(data + 0x10, 0x11223344);
    rsi = linear + 0x10;
    EXPECT_EQ(outs(4), l2_runs);
    EXPECT_EQ(moved(), 2U);
    EXPECT_EQ(rsi, linear + 0x14);
    EXPECT_EQ(l1.port.outputs, (Outputs{{kept, 0x11223344}}));
    l1.port.inputs = {0xABCD};
    rdi = linear + 0x20;
    EXPECT_EQ(ins(2), l2_runs);
    EXPECT_EQ(read<std::uint16_t>(data + 0x20), 0xABCD);
    EXPECT_NE(entry_of(linear) & 0x40, 0U) << "dirty";
    EXPECT_EQ(l1.port.io_handled, 0U);
}

TEST_P(L2StringIo, IsRepeatedOneElementAnExit) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    write<std::uint16_t>(data, 1);
    write<std::uint16_t>(data + 2, 2);
    rsi = linear;
    rcx = 2;
    EXPECT_EQ(outs(2, true), l2_runs);
    EXPECT_EQ(moved(), 0U);
    EXPECT_EQ(outs(2, true), l2_runs);
    EXPECT_EQ(moved(), 2U);
    EXPECT_EQ(l1.port.outputs, (Outputs{{kept, 1}, {kept, 2}}));
}

TEST_P(L2StringIo, CrossesIntoTheNextPage) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    write<std::uint16_t>(data + 0xFFE, 0x2211);
    write<std::uint16_t>(next, 0x4433);
    rsi = linear + 0xFFE;
    EXPECT_EQ(outs(4), l2_runs);
    EXPECT_EQ(l1.port.outputs, (Outputs{{kept, 0x44332211}}));
    rsi = linear + 0xFFF;
    EXPECT_EQ(outs(4), l2_runs);
    EXPECT_EQ(l1.port.outputs.back(), (Outputs::value_type{kept, 0x00443322}));
    map_linear(linear_next, 0);
    rsi = linear + 0xFFC;
    EXPECT_EQ(outs(4), l2_runs);
    EXPECT_EQ(l1.injected() >> 31, 0U) << "what ends with its page needs no other";
}

TEST_P(L2StringIo, APageFaultIsL2s) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    map_linear(linear_next, 0);
    rdi = linear_next + 8;
    EXPECT_EQ(ins(4), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0B0EU);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 2U) << "a write, of the supervisor";
    EXPECT_EQ(l1.port.cr2, linear_next + 8);
    EXPECT_EQ(moved(), 0U);
    EXPECT_EQ(rdi, linear_next + 8);
    EXPECT_NE(l1.vmcs02().get(field::guest_rflags) & x86::rflags::resume, 0U);
}

TEST_P(L2StringIo, APageFaultIsL1sExitWhereItAskedForSuchAnOne) {
    l1.raise(field::exception_bitmap, 1U << 14);
    l1.write(field::page_fault_error_code_mask, 2U);
    l1.write(field::page_fault_error_code_match, 2U);  // writes
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    map_linear(linear_next, 0);
    rsi = rdi = linear_next + 8;
    EXPECT_EQ(outs(1), l2_runs) << "a read is L2's";
    EXPECT_EQ(l1.port.cr2, linear_next + 8);
    l1.port.cr2 = 0;
    EXPECT_EQ(ins(1), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::exit_qualification), linear_next + 8);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), 0x8000'0B0EU);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_error_code), 2U);
    EXPECT_EQ(l1.port.cr2, 0U) << "such an exit leaves CR2";
}

TEST_P(L2StringIo, WithoutAWordOfItsOperandIsAFault) {
    vmx::Capabilities hardware = processor();
    hardware.basic.value &= ~(std::uint64_t{1} << 54);
    VirtualCpu other{{.shadow_vmcs = GetParam().shadow_vmcs, .hardware = hardware, .kept_ports = {kept}}};
    other.prepare_and_launch();
    other.port.io_is_done = false;
    EXPECT_EQ(other.l2_exits({.reason = ExitReason::io_instruction,
                              .qualification = vmx::IoAccess{.is_string = true, .port = kept}.encode(),
                              .instruction_length = 2}),
              l2_runs);
    EXPECT_EQ(other.injected(), 0x8000'0B0DU);
}

TEST_P(L2StringIoByEpt, AViolationOfTheOperandIsL1s) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    rsi = linear + 0x18;
    ept.set(data, 0);
    EXPECT_EQ(outs(1), l1_sees(ExitReason::ept_violation));
    expect_exit(0x181, data + 0x18, linear + 0x18);
    ept.map(data, l1_of(data), bit::read | Ept12::write_back);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    rdi = linear + 0x18;
    EXPECT_EQ(ins(1), l1_sees(ExitReason::ept_violation));
    expect_exit(0x18A, data + 0x18, linear + 0x18);
    ept.map(data, l1_of(data));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(ins(1), l2_runs);
    EXPECT_EQ(moved(), 2U);
}

TEST_P(L2StringIoByEpt, AViolationOfTheSecondPageMovesNothing) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ept.set(next, 0);
    write<std::uint16_t>(data + 0xFFE, 0x5555);
    rdi = linear + 0xFFE;
    EXPECT_EQ(ins(4), l1_sees(ExitReason::ept_violation));
    expect_exit(0x182, next, linear_next);
    EXPECT_EQ(read<std::uint16_t>(data + 0xFFE), 0x5555);
}

TEST_P(L2StringIoByEpt, AViolationOfATableComesBeforeWhatTheTableSays) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    map_linear(linear_next, 0);  // a page fault, were the table there
    ept.set(level1, 0);
    rsi = linear_next;
    EXPECT_EQ(outs(1), l1_sees(ExitReason::ept_violation));
    expect_exit(0x81, level1 + linear_next / 0x1000 * 8, linear_next);
}

TEST_P(L2StringIoByEpt, FlagsOfATableThatCannotBeWrittenAreAViolation) {
    ept.map(level1, l1_of(level1), bit::read | Ept12::write_back);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    rsi = linear;
    EXPECT_EQ(outs(1), l2_runs) << "accessed already";
    l1.port.outputs.clear();
    map_linear(linear, data | 7);
    EXPECT_EQ(outs(1), l1_sees(ExitReason::ept_violation));
    expect_exit(0x8B, level1 + linear / 0x1000 * 8, linear + 1);
    EXPECT_EQ(entry_of(linear), data | 7);
}

TEST_P(L2StringIoByEpt, WithFlagsInEpt12EachAccessToATableIsAWrite) {
    l1.write(field::ept_pointer, ept.eptp(true));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    rsi = linear;
    EXPECT_EQ(outs(1), l2_runs);
    l1.port.outputs.clear();
    EXPECT_EQ(ept.entry(level1) & 0x300, 0x300U) << "accessed and dirty";
    EXPECT_EQ(ept.entry(data) & 0x300, 0x100U) << "read only";
    ept.map(level1, l1_of(level1), bit::read | Ept12::write_back);
    EXPECT_EQ(outs(1), l1_sees(ExitReason::ept_violation));
    expect_exit(0x8B, level1 + linear / 0x1000 * 8, linear + 1);
}

// SDM 3C 29.4.3.1: the violation drops what the processor had cached, so that L1 needs no INVEPT.
TEST_P(L2StringIoByEpt, AViolationDropsWhatWasFilledOfItsPage) {
    constexpr std::uint64_t elsewhere = 0x1234'5000;
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_touches(data, bit::read), l2_runs);
    ASSERT_EQ(l1.ept02_leaf(data)->host, FakePort::host_of(l1_of(data)));
    rsi = linear;
    for (const std::uint64_t left : {std::uint64_t{0}, std::uint64_t{bit::execute}}) {
        ept.map(data, l1_of(data), left);
        ASSERT_EQ(outs(4), l1_sees(ExitReason::ept_violation)) << left;
        EXPECT_FALSE(l1.ept02_leaf(data)) << left;
        ept.map(data, elsewhere);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_touches(data, bit::read), l2_runs);
        EXPECT_EQ(l1.ept02_leaf(data)->host, FakePort::host_of(elsewhere));
    }
}

TEST_P(L2StringIoByEpt, WithoutFlagsInEpt12ItStaysAsItIs) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const auto entries = [&] {
        std::vector<std::uint64_t> all;
        for (const std::uint64_t page : {tables, level1, data})
            for (unsigned level = 1; level <= 4; ++level) all.push_back(ept.entry(page, level));
        return all;
    };
    const auto before = entries();
    rdi = linear;
    ASSERT_EQ(ins(4), l2_runs);
    EXPECT_EQ(entries(), before);
}

TEST_P(L2StringIoByEpt, AMisconfigurationIsL1s) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ept.map(data, l1_of(data), bit::write | Ept12::write_back);
    rsi = linear;
    EXPECT_EQ(outs(1), l1_sees(ExitReason::ept_misconfiguration));
    EXPECT_EQ(l1.read(field::guest_physical_address), data);
    EXPECT_TRUE(l1.port.outputs.empty());
}

TEST_P(L2StringIo, AtAnAddressOfAnApicAccessPageThatIsNotUsedIsAnOrdinaryAccess) {
    l1.write(field::apic_access_address, l1_of(data));
    if (!GetParam().ept) {  // which needs the secondary controls
        l1.use_secondary(vmx::secondary::virtualize_apic_accesses);
        l1.lower(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::activate_secondary_controls);
    }
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    rsi = linear + 0x20;
    EXPECT_EQ(outs(4), l2_runs);
    EXPECT_EQ(l1.port.outputs.size(), 1U);
}

TEST_P(L2StringIo, AtTheApicAccessPageIsThatExit) {
    l1.use_secondary(vmx::secondary::virtualize_apic_accesses);
    l1.write(field::apic_access_address, l1_of(data));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    rsi = linear + 0x20;
    EXPECT_EQ(outs(4), l1_sees(ExitReason::apic_access));
    EXPECT_EQ(l1.read(field::exit_qualification), 0x020U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    rdi = linear + 0x300;
    EXPECT_EQ(ins(4), l1_sees(ExitReason::apic_access));
    EXPECT_EQ(l1.read(field::exit_qualification), 0x1300U);
    EXPECT_TRUE(l1.port.outputs.empty());
}

}  // namespace
}  // namespace flatback::nested_test::l2_string_io_test
