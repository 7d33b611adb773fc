// L1's own page walk for the operands of its instructions (SDM 3A chapter 4).
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "nested/l1/paging.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "x86/control_registers.hpp"
#include "x86/paging.hpp"

namespace flatback::nested_test::l1_paging_test {
namespace {

namespace bit = x86::page_entry;
using x86::page_fault::present;
using x86::page_fault::reserved_bit;

constexpr std::uint64_t stored = layout::vmcs_region(0);
constexpr std::uint64_t linear = 0x1'8000;  // page 18H, for these tests to play with
constexpr std::uint64_t entry_address = layout::level1_table + 0x18 * 8;

vmx::Capabilities processor_with_protection_keys() {
    vmx::Capabilities all = processor();
    all.cr4.fixed1 |= x86::cr4::protection_key_enable;
    return all;
}

// L1 writes by VMPTRST and reads by VMPTRLD.
class L1Paging : public ::testing::Test {
protected:
    L1Paging() {
        l1.prepare();
        l1.port.memory.write(linear, stored);
    }
    void set_entry(std::uint64_t entry) { l1.port.memory.write(entry_address, entry); }
    std::uint64_t entry() { return l1.port.memory.read<std::uint64_t>(entry_address); }
    Outcome write(std::uint64_t address = linear) { return access(ExitReason::vmptrst, address); }
    Outcome read(std::uint64_t address = linear) { return access(ExitReason::vmptrld, address); }
    Outcome access(ExitReason reason, std::uint64_t address) {
        vmx::InstructionOperands operands;
        operands.address_bits = wide ? 64 : 32;
        return l1.execute(reason, operands, address);
    }
    void leave_64_bit_mode() {
        l1.vmcs01().set(field::guest_cs_access_rights, 0xc09b);
        l1.vmcs01().set(field::guest_rip, 0x10'0000);
        wide = false;
    }
    VirtualCpu l1{{.hardware = processor_with_protection_keys()}};
    bool wide = true;
};

TEST_F(L1Paging, SetsTheAccessedAndDirtyFlagsThatAreClear) {
    for (const std::uint64_t table : {layout::page_tables, 0x2000UL, 0x3000UL}) {
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) & ~bit::accessed);
    }
    set_entry(linear | bit::present | bit::writable);
    EXPECT_EQ(read(), vm_succeed);
    EXPECT_EQ(entry(), linear | bit::present | bit::writable | bit::accessed);
    for (const std::uint64_t table : {layout::page_tables, 0x2000UL, 0x3000UL}) {
        EXPECT_NE(l1.port.memory.read<std::uint64_t>(table) & bit::accessed, 0U) << std::hex << table;
    }
    EXPECT_EQ(write(), vm_succeed);
    EXPECT_EQ(entry(), linear | bit::present | bit::writable | bit::accessed | bit::dirty);
}

TEST_F(L1Paging, FaultsOnAPageThatIsNotPresent) {
    set_entry(linear);
    EXPECT_EQ(read(), page_fault(0));
    EXPECT_EQ(write(), page_fault(2));
    EXPECT_EQ(l1.port.cr2, linear);
    EXPECT_EQ(entry(), linear) << "no flag is set";
    for (const std::uint64_t table : {0x3000UL, 0x2000UL, 0x1000UL}) {
        l1.port.memory.write<std::uint64_t>(table, 0);
        EXPECT_EQ(read(), page_fault(0)) << std::hex << table;
    }
}

TEST_F(L1Paging, ObeysReadOnlyPagesWhereCr0WpSaysSo) {
    set_entry(linear | bit::present | bit::accessed);
    EXPECT_EQ(read(), vm_succeed);
    EXPECT_EQ(write(), page_fault(2 | present));
    EXPECT_EQ(entry() & bit::dirty, 0U);
    l1.vmcs01().set(field::guest_cr0, 0x8004'0033);
    EXPECT_EQ(write(), vm_succeed);
    EXPECT_NE(entry() & bit::dirty, 0U);
}

TEST_F(L1Paging, ObeysSmap) {
    for (const std::uint64_t table : {0x1000UL, 0x2000UL, 0x3000UL}) {
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) | bit::user);
    }
    set_entry(linear | bit::present | bit::writable | bit::user);
    EXPECT_EQ(write(), vm_succeed) << "SMAP is off";
    l1.vmcs01().set(field::guest_cr4, 0x26a0 | x86::cr4::smap_enable);
    EXPECT_EQ(read(), page_fault(present));
    EXPECT_EQ(write(), page_fault(2 | present));
    l1.extra_rflags = x86::rflags::alignment_check;
    EXPECT_EQ(write(), vm_succeed) << "RFLAGS.AC lifts it";
    l1.extra_rflags = 0;
    l1.port.memory.write(0x3000UL, l1.port.memory.read<std::uint64_t>(0x3000) & ~bit::user);
    EXPECT_EQ(write(), vm_succeed) << "one level that is the supervisor's makes it the supervisor's";
}

TEST_F(L1Paging, FindsReservedBits) {
    set_entry(linear | bit::present | bit::accessed | 1ULL << physical_width);
    EXPECT_EQ(read(), page_fault(present | reserved_bit));
    set_entry(linear | bit::present | bit::accessed | bit::execute_disable);
    EXPECT_EQ(read(), vm_succeed);
    l1.vmcs01().set(field::guest_ia32_efer, 0x501);
    l1.l1_msr_changed();
    EXPECT_EQ(read(), page_fault(present | reserved_bit)) << "without EFER.NXE";
    l1.vmcs01().set(field::guest_ia32_efer, 0xd01);
    set_entry(linear | bit::present | bit::accessed);
    l1.port.memory.write(0x1000UL, l1.port.memory.read<std::uint64_t>(0x1000) | bit::page_size);
    EXPECT_EQ(read(), page_fault(present | reserved_bit)) << "a PML4 entry maps no page";
}

TEST_F(L1Paging, KnowsLargePages) {
    l1.port.memory.write<std::uint64_t>(0x3008, 0x60'00e3);    // 2 MB to 6 MB
    l1.port.memory.write<std::uint64_t>(0x2008, 0x4000'00e3);  // 1 GB to 1 GB
    EXPECT_EQ(write(0x20'0040), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x60'0040), stored);
    EXPECT_EQ(write(0x4012'3440), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x4012'3440), stored);
    l1.port.memory.write<std::uint64_t>(0x3008, 0x60'20e3);  // bit 13 is reserved
    EXPECT_EQ(write(0x20'0040), page_fault(2 | present | reserved_bit));
    l1.port.memory.write<std::uint64_t>(0x3008, 0x60'10e3);  // bit 12 is PAT
    EXPECT_EQ(write(0x20'0048), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x60'0048), stored);
    l1.port.memory.write<std::uint64_t>(0x3008, 0x60'0083);  // neither accessed nor dirty yet
    EXPECT_EQ(write(0x20'0050), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x3008), 0x60'00e3U);
}

TEST_F(L1Paging, SurvivesTablesThatAreHostile) {
    // In L0's memory, beyond all memory, in a loop.
    for (const std::uint64_t table : {L1Memory::l0_start, L1Memory::size, 0xff'ffff'f000UL}) {
        l1.port.memory.write<std::uint64_t>(0x3000, table | 0x23);
        EXPECT_EQ(read(), page_fault(0)) << std::hex << table;
        EXPECT_EQ(write(), page_fault(2)) << std::hex << table;
    }
    l1.port.memory.write<std::uint64_t>(0x3000, layout::page_tables | 0x63);
    EXPECT_NE(read(0x0).kind, Outcome::Kind::lost);
    l1.vmcs01().set(field::guest_cr3, L1Memory::l0_start);
    EXPECT_EQ(read(), page_fault(0));
}

TEST_F(L1Paging, IgnoresThePcidInCr3) {
    l1.vmcs01().set(field::guest_cr3, layout::page_tables | 0x123);
    l1.vmcs01().set(field::guest_cr4, 0x26a0 | x86::cr4::pcid_enable);
    EXPECT_EQ(write(), vm_succeed);
}

// --- the remembered walk

TEST_F(L1Paging, ARememberedWalkIsNotBelievedAfterL1EditsAnEntry) {
    ASSERT_EQ(write(), vm_succeed);
    ASSERT_EQ(write(), vm_succeed);
    set_entry(0x1'9000 | 0x63);
    EXPECT_EQ(write(), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x1'9000), stored) << "the new page";
    l1.port.memory.write(0x1'9000, 0ULL);

    set_entry(0x1'9000 | 0x61);
    EXPECT_EQ(write(), page_fault(3)) << "read-only now";
    EXPECT_EQ(read(), vm_fail(InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier));
    set_entry(0);
    EXPECT_EQ(write(), page_fault(2)) << "gone";
    EXPECT_EQ(read(), page_fault(0)) << "for reads too";
}

TEST_F(L1Paging, ARememberedWalkIsNotBelievedAfterL1EditsAnUpperEntryOrCr3) {
    ASSERT_EQ(write(), vm_succeed);
    for (const std::uint64_t table : {0x3000UL, 0x2000UL, 0x1000UL}) {
        const auto before = l1.port.memory.read<std::uint64_t>(table);
        ASSERT_EQ(write(), vm_succeed);
        l1.port.memory.write<std::uint64_t>(table, 0);
        EXPECT_EQ(write(), page_fault(2)) << std::hex << table;
        l1.port.memory.write<std::uint64_t>(table, before);
    }
    // A second hierarchy with page 18H elsewhere.
    for (std::uint64_t level = 0; level < 3; ++level) {
        l1.port.memory.write<std::uint64_t>(0x4'1000 + level * 0x1000, (0x4'2000 + level * 0x1000) | 0x23);
    }
    l1.port.memory.write<std::uint64_t>(0x4'4000 + 0x18 * 8, 0x1'a063);
    ASSERT_EQ(write(), vm_succeed);
    l1.vmcs01().set(field::guest_cr3, 0x4'1000);
    EXPECT_EQ(write(), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x1'a000), stored);
}

TEST_F(L1Paging, ARememberedWalkSetsTheFlagsThatL1Cleared) {
    ASSERT_EQ(write(), vm_succeed);
    ASSERT_EQ(write(), vm_succeed);
    set_entry(linear | 0x23);  // the dirty flag is clear again
    EXPECT_EQ(write(), vm_succeed);
    EXPECT_NE(entry() & bit::dirty, 0U);
    set_entry(linear | 0x3);
    EXPECT_EQ(read(), vm_succeed);
    EXPECT_NE(entry() & bit::accessed, 0U);
}

TEST_F(L1Paging, ARememberedWalkOfAReadDoesNotServeAWrite) {
    set_entry(linear | 0x21);  // read-only
    ASSERT_EQ(read(), vm_succeed);
    ASSERT_EQ(read(), vm_succeed);
    EXPECT_EQ(write(), page_fault(3));
}

TEST_F(L1Paging, ARememberedWalkIsNotBelievedWhereARuleHasChanged) {
    set_entry(linear | 0x63 | bit::execute_disable);
    ASSERT_EQ(write(), vm_succeed);
    ASSERT_EQ(write(), vm_succeed);
    // However that came about: an exit that loads IA32_EFER, an MSR list, WRMSR.
    l1.vmcs01().set(field::guest_ia32_efer, 0x501);
    EXPECT_EQ(write(), page_fault(3 | reserved_bit)) << "without EFER.NXE";
    EXPECT_EQ(read(), page_fault(present | reserved_bit));
    l1.vmcs01().set(field::guest_ia32_efer, 0xd01);
    EXPECT_EQ(write(), vm_succeed);
}

TEST_F(L1Paging, ARememberedWalkOfAUserPageServesUntilSmapOrProtectionKeys) {
    for (const std::uint64_t table : {0x1000UL, 0x2000UL, 0x3000UL}) {
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) | bit::user);
    }
    set_entry(linear | 0x67);
    ASSERT_EQ(write(), vm_succeed);
    l1.port.memory.write(linear, 0ULL);
    const auto vmreads = l1.counters().vmreads;
    ASSERT_EQ(write(), vm_succeed);
    EXPECT_LE(l1.counters().vmreads - vmreads, 16U) << "found without a walk";
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(linear), stored);
    l1.vmcs01().set(field::guest_cr4, 0x26a0 | x86::cr4::smap_enable);
    EXPECT_EQ(write(), page_fault(3));
    l1.extra_rflags = x86::rflags::alignment_check;
    EXPECT_EQ(write(), vm_succeed);
    l1.extra_rflags = 0;
    EXPECT_EQ(write(), page_fault(3)) << "what AC lifted is not remembered";
    l1.vmcs01().set(field::guest_cr4, 0x26a0);
    EXPECT_EQ(write(), vm_succeed);
}

TEST_F(L1Paging, ARememberedWalkOfAUserPageWithoutExecutionServesUntilEitherRuleChanges) {
    for (const std::uint64_t table : {0x1000UL, 0x2000UL, 0x3000UL}) {
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) | bit::user);
    }
    set_entry(linear | 0x67 | bit::execute_disable);
    ASSERT_EQ(write(), vm_succeed);
    const auto vmreads = l1.counters().vmreads;
    ASSERT_EQ(write(), vm_succeed);
    EXPECT_LE(l1.counters().vmreads - vmreads, 16U) << "found without a walk";
    l1.vmcs01().set(field::guest_cr4, 0x26a0 | x86::cr4::smap_enable);
    EXPECT_EQ(write(), page_fault(3));
    l1.vmcs01().set(field::guest_cr4, 0x26a0);
    ASSERT_EQ(write(), vm_succeed);
    l1.vmcs01().set(field::guest_ia32_efer, 0x501);
    EXPECT_EQ(write(), page_fault(3 | reserved_bit));
}

TEST_F(L1Paging, ObeysProtectionKeys) {
    constexpr std::uint64_t key = 5;
    for (const std::uint64_t table : {0x1000UL, 0x2000UL, 0x3000UL}) {
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) | bit::user);
    }
    set_entry(linear | 0x67 | key << 59);
    constexpr auto of_key = x86::page_fault::protection_key;
    ASSERT_EQ(write(), vm_succeed);
    l1.port.pkru = 1U << (2 * key);
    EXPECT_EQ(write(), vm_succeed) << "without CR4.PKE";
    l1.vmcs01().set(field::guest_cr4, 0x26a0 | x86::cr4::protection_key_enable);
    EXPECT_EQ(write(), page_fault(3 | of_key));
    EXPECT_EQ(read(), page_fault(present | of_key));
    l1.port.pkru = 2U << (2 * key);
    EXPECT_EQ(write(), page_fault(3 | of_key)) << "write-disable, in supervisor mode with CR0.WP";
    EXPECT_EQ(read(), vm_succeed);
    l1.vmcs01().set(field::guest_cr0, 0x8004'0033);
    EXPECT_EQ(write(), vm_succeed) << "without CR0.WP";
    l1.vmcs01().set(field::guest_cr0, 0x8005'0033);
    l1.port.pkru = ~(3U << (2 * key));
    EXPECT_EQ(write(), vm_succeed) << "the rights of other keys";
    l1.port.pkru = ~0U;
    set_entry(linear | 0x63 | key << 59);
    EXPECT_EQ(write(), vm_succeed) << "a supervisor page has no key";
}

TEST_F(L1Paging, SetsFlagsOnlyInTheEntryThatItRead) {
    std::uint64_t slot = 0x63;
    EXPECT_FALSE(x86::set_bits<std::uint64_t>(&slot, 0x3, bit::accessed));
    EXPECT_EQ(slot, 0x63U) << "what another processor wrote";
    EXPECT_TRUE(x86::set_bits<std::uint64_t>(&slot, 0x63, bit::accessed));
    slot = 0x3;
    EXPECT_TRUE(x86::set_bits<std::uint64_t>(&slot, 0x3, bit::accessed));
    EXPECT_EQ(slot, 0x23U);
}

TEST_F(L1Paging, ARememberedWalkServesOnlyItsPage) {
    // Pages whose numbers share their low bits.
    for (unsigned page = 0x18; page < 0x118; page += 8) ASSERT_EQ(write(page * 0x1000ULL), vm_succeed);
    for (unsigned page = 0x18; page < 0x118; page += 8) {
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(page * 0x1000ULL), stored);
        l1.port.memory.write<std::uint64_t>(page * 0x1000ULL, 0);
        EXPECT_EQ(write(page * 0x1000ULL), vm_succeed);
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(page * 0x1000ULL), stored);
    }
}

// --- code, of an instruction that the host does

class L1Code : public L1Paging {
protected:
    using Bytes = std::vector<std::uint8_t>;
    // From `first` on, one more each.
    void write_code(std::uint64_t physical, unsigned size, std::uint8_t first) {
        for (unsigned n = 0; n < size; ++n)
            l1.port.memory.write(physical + n, static_cast<std::uint8_t>(first + n));
    }
    static constexpr std::uint64_t next_entry_address = entry_address + 8;
    static constexpr std::uint64_t next_page = 0x1'b000;  // where the page behind `linear` is
    void map_two_pages(std::uint64_t bits) {
        set_entry(linear | bits);
        l1.port.memory.write(next_entry_address, next_page | bits);
        write_code(linear + 0xffc, 4, 0x10);
        write_code(next_page, 4, 0x20);
    }
    static constexpr std::uint64_t supervisors = 0x63;
};

TEST_F(L1Code, IsReadOverTwoPages) {
    map_two_pages(supervisors);
    EXPECT_EQ(l1.read_l1_code(linear + 0xffc, 4), (Bytes{0x10, 0x11, 0x12, 0x13}));
    EXPECT_EQ(l1.read_l1_code(linear + 0xffe, 5), (Bytes{0x12, 0x13, 0x20, 0x21, 0x22}));
    EXPECT_EQ(l1.read_l1_code(linear + 0x1000, 2), (Bytes{0x20, 0x21}));
    EXPECT_EQ(l1.read_l1_code(linear + 0xfff, 1), (Bytes{0x13}));
}

TEST_F(L1Code, ThatIsGoneIsNotRead) {
    map_two_pages(supervisors);
    l1.port.memory.write<std::uint64_t>(next_entry_address, 0);
    EXPECT_EQ(l1.read_l1_code(linear + 0xffc, 4), (Bytes{0x10, 0x11, 0x12, 0x13}));
    EXPECT_EQ(l1.read_l1_code(linear + 0xffd, 4), std::nullopt);
    EXPECT_EQ(l1.read_l1_code(linear + 0x1000, 1), std::nullopt);
    l1.port.memory.write(next_entry_address, L1Memory::l0_start | supervisors);
    EXPECT_EQ(l1.read_l1_code(linear + 0xffd, 4), std::nullopt) << "no memory of L1's";
    EXPECT_EQ(l1.read_l1_code(linear + 0x1000, 1), std::nullopt);
}

// SMAP and protection keys are rules for data, and the fetch has set the flags.
TEST_F(L1Code, OfAUserPageIsReadWhateverL1sRulesForDataAre) {
    for (const std::uint64_t table : {0x1000UL, 0x2000UL, 0x3000UL})
        l1.port.memory.write(table, l1.port.memory.read<std::uint64_t>(table) | bit::user);
    map_two_pages(supervisors | bit::user);
    l1.port.pkru = ~0U;
    for (const std::uint64_t rule : {std::uint64_t{0}, std::uint64_t{x86::cr4::smap_enable},
                                     std::uint64_t{x86::cr4::protection_key_enable}}) {
        l1.vmcs01().set(field::guest_cr4, 0x26a0 | rule);
        EXPECT_EQ(l1.read_l1_code(linear + 0xffc, 4), (Bytes{0x10, 0x11, 0x12, 0x13})) << rule;
        EXPECT_EQ(l1.read_l1_code(linear + 0xffe, 4), (Bytes{0x12, 0x13, 0x20, 0x21})) << rule;
    }
}

// --- other paging modes

TEST_F(L1Paging, WithoutPagingTheAddressIsPhysical) {
    leave_64_bit_mode();
    l1.vmcs01().set(field::guest_cr0, 0x31);
    l1.vmcs01().set(field::guest_ia32_efer, 0);
    l1.vmcs01().set(field::vm_entry_controls,
                    l1.vmcs01().get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    l1.vmcs01().set(field::guest_rip, 0x10'0000);
    EXPECT_EQ(write(0x5'5550), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x5'5550), stored);
}

class L1PagingOf32Bits : public L1Paging {
protected:
    void use(std::uint64_t cr3, std::uint64_t cr4) {
        leave_64_bit_mode();
        FakeVmcs& v = l1.vmcs01();
        v.set(field::guest_ia32_efer, 0x800);
        v.set(field::vm_entry_controls,
              v.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
        v.set(field::guest_cr3, cr3);
        v.set(field::guest_cr4, cr4);
    }
};

TEST_F(L1PagingOf32Bits, PaeWalksThreeLevels) {
    constexpr std::uint64_t pdpt = 0x5'0020;
    use(pdpt, 0x26a0);
    l1.vmcs01().set(field::guest_pdpte1, 0x5'1001);            // 1 GB and up
    l1.port.memory.write<std::uint64_t>(pdpt + 8, 0x7'1001);   // what L1 has there now does not count
    l1.port.memory.write<std::uint64_t>(0x5'1000, 0x5'2003);   // page table
    l1.port.memory.write<std::uint64_t>(0x5'1008, 0x80'0083);  // 2 MB page
    l1.port.memory.write<std::uint64_t>(0x5'2000, 0x1'b003);
    EXPECT_EQ(write(0x4000'0010), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x1'b010), stored);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x5'2000), 0x1'b063U) << "accessed and dirty";
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x5'1000), 0x5'2023U);
    EXPECT_EQ(l1.vmcs01().get(field::guest_pdpte1), 0x5'1001U) << "a PDPTE has no accessed flag";
    EXPECT_EQ(write(0x4020'0018), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x80'0018), stored);
    EXPECT_EQ(write(0x8000'0000), page_fault(2));
    EXPECT_EQ(l1.port.cr2, 0x8000'0000U);
    l1.port.memory.write<std::uint64_t>(0x5'2000, 0x1'b001);
    EXPECT_EQ(write(0x4000'0010), page_fault(3));
}

TEST_F(L1PagingOf32Bits, ReadsWhereItMayNotWrite) {
    use(0x5'0000, 0x2010);
    l1.port.memory.write<std::uint32_t>(0x5'0000, 0x5'1003);
    l1.port.memory.write<std::uint32_t>(0x5'1000, 0x1'c001);
    l1.port.memory.write(0x1'c010, stored);
    EXPECT_EQ(read(0x10), vm_succeed);
    EXPECT_EQ(write(0x10), page_fault(3));
}

TEST_F(L1PagingOf32Bits, LinearAddressesWrapAt4Gb) {
    use(0x5'0000, 0x2010);
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 0x3ff * 4, 0x5'1003);
    l1.port.memory.write<std::uint32_t>(0x5'1000 + 0x3ff * 4, 0x1'c003);
    l1.port.memory.write<std::uint32_t>(0x5'0000, 0x5'2003);
    l1.port.memory.write<std::uint32_t>(0x5'2000, 0x1'd003);
    l1.vmcs01().set(field::guest_ds_base, 0xffff'f000);
    EXPECT_EQ(write(0xffc), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x1'cffc), static_cast<std::uint32_t>(stored));
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x1'd000), 0U);
    l1.port.memory.write<std::uint32_t>(0x5'2000, 0);
    EXPECT_EQ(write(0xffc), page_fault(2));
    EXPECT_EQ(l1.port.cr2, 0U);
}

TEST_F(L1PagingOf32Bits, CodeWrapsAt4Gb) {
    use(0x5'0000, 0x2010);
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 0x3ff * 4, 0x5'1023);
    l1.port.memory.write<std::uint32_t>(0x5'1000 + 0x3ff * 4, 0x1'c023);
    l1.port.memory.write<std::uint32_t>(0x5'0000, 0x5'2023);
    l1.port.memory.write<std::uint32_t>(0x5'2000, 0x1'd023);
    l1.port.memory.write<std::uint16_t>(0x1'cffe, 0x2211);
    l1.port.memory.write<std::uint16_t>(0x1'd000, 0x4433);
    EXPECT_EQ(l1.read_l1_code(0xffff'fffe, 4), (std::vector<std::uint8_t>{0x11, 0x22, 0x33, 0x44}));
}

// Tables that would lead somewhere, were they of four levels.
TEST_F(L1PagingOf32Bits, CodeIsFoundByTwoLevels) {
    use(0x5'0000, 0x2010);
    l1.port.memory.write<std::uint32_t>(0x5'0000, 0x5'1023);
    l1.port.memory.write<std::uint32_t>(0x5'1000, 0x1'c023);
    l1.port.memory.write<std::uint64_t>(0x1'c000, 0x20'00a3);
    l1.port.memory.write<std::uint16_t>(0x1'c008, 0x2211);
    l1.port.memory.write<std::uint16_t>(0x20'0008, 0xffff);
    EXPECT_EQ(l1.read_l1_code(8, 2), (std::vector<std::uint8_t>{0x11, 0x22}));
}

TEST_F(L1PagingOf32Bits, TwoLevelsOf1024Entries) {
    use(0x5'0000, 0x2010);
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 0x300 * 4, 0x5'1003);
    l1.port.memory.write<std::uint32_t>(0x5'1000 + 0x12 * 4, 0x1'c003);
    EXPECT_EQ(write(0xc001'2010), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x1'c010), stored);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x5'1000 + 0x12 * 4), 0x1'c063U);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(0x5'0000 + 0x300 * 4), 0x5'1023U);
    EXPECT_EQ(write(0xc001'3010), page_fault(2)) << "no page";
    EXPECT_EQ(write(0xd000'0000), page_fault(2)) << "no table";
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 0x300 * 4, L1Memory::l0_start | 3);
    EXPECT_EQ(read(0xc001'2010), page_fault(0)) << "tables in L0's memory";
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 0x300 * 4, 0x5'1001);
    EXPECT_EQ(write(0xc001'2010), page_fault(3)) << "the table is read-only";
}

TEST_F(L1PagingOf32Bits, FourMegabytePagesReachAbove4GbBits) {
    use(0x5'0000, 0x2010);
    // Bits 20:13 are address bits 39:32; there is no memory, so the store goes nowhere and VMPTRLD reads all
    // ones.
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 4, 0x00c0'0083);
    EXPECT_EQ(write(0x0048'0010), vm_succeed);
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(0x00c8'0010), stored);
    l1.port.memory.write<std::uint32_t>(0x5'0000 + 4, 0x00c0'2083);
    EXPECT_EQ(read(0x0048'0010), vm_fail(InstructionError::vmptrld_with_invalid_physical_address));
    l1.vmcs01().set(field::guest_cr4, 0x2000);
    EXPECT_EQ(read(0x0048'0010), page_fault(0)) << "without CR4.PSE the bit is ignored: a table, in a hole";
}

TEST_F(L1PagingOf32Bits, FourMegabytePagesHaveReservedBits) {
    use(0x5'0000, 0x2010);
    const auto read_with = [&](std::uint32_t bits) {
        l1.port.memory.write<std::uint32_t>(0x5'0000 + 4, 0x00c0'0083 | bits);
        return read(0x0048'0010);
    };
    l1.port.memory.write<std::uint64_t>(0x00c8'0010, stored);
    EXPECT_EQ(read_with(0), vm_succeed);
    EXPECT_EQ(read_with(1U << 21), page_fault(present | reserved_bit)) << "always (SDM 3A table 4-4)";
    l1.vmcs01().set(field::guest_cr4, 0x2000);
    EXPECT_EQ(read_with(1U << 21), page_fault(0)) << "without CR4.PSE it is a table's address";
}

}  // namespace
}  // namespace flatback::nested_test::l1_paging_test
