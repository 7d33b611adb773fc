// L1's page-modification log (SDM 3C 29.3.6), which L0 keeps: against what the SDM says, and against a model.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested_test::page_modification_log_test {
namespace {

namespace bit = vmx::ept_entry;
constexpr std::uint64_t wb = Ept12::write_back;
constexpr std::uint64_t log_page = 0x3000'0000;
constexpr std::uint64_t pages_of_l1 = 0x1000'0000;
constexpr auto log_full = l1_sees(ExitReason::page_modification_log_full);
constexpr std::uint64_t flags = bit::accessed | bit::dirty;

class PageModificationLog : public ::testing::TestWithParam<bool> {
protected:
    PageModificationLog() {
        l1.prepare();
        l1.use_vpid(1);
        l1.use_ept(ept.eptp(true));
        l1.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_pml);
        l1.write(field::pml_address, log_page);
        l1.write(field::pml_index, 511);
    }
    std::uint64_t noted(unsigned index) {
        return l1.port.memory.read<std::uint64_t>(log_page + 8 * std::uint64_t{index});
    }
    void launch() { ASSERT_EQ(l1.vmlaunch(), l2_runs); }
    std::uint64_t index_after_exit() {
        EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        return l1.read(field::pml_index);
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
    Ept12 ept{l1};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, PageModificationLog, ::testing::Bool());

TEST_P(PageModificationLog, NotesEachPageOnceFromTheEndOn) {
    for (std::uint64_t page = 0; page < 3; ++page)
        ept.map(0x5000 + page * 0x1000, pages_of_l1 + page * 0x1000);
    launch();
    ASSERT_EQ(l1.l2_touches(0x6123, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x5ff8, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x6fff, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x7000, bit::read), l2_runs);
    EXPECT_EQ(index_after_exit(), 509U);
    EXPECT_EQ(noted(511), 0x6000U);
    EXPECT_EQ(noted(510), 0x5000U);
    EXPECT_EQ(noted(509), 0U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x7000, bit::write), l2_runs);
    EXPECT_EQ(index_after_exit(), 508U);
    EXPECT_EQ(noted(509), 0x7000U);
}

// As an L1 does that empties its log at each exit: L0 learns the field, and L1 reads it in its shadow VMCS.
TEST_P(PageModificationLog, HasAnIndexThatL1MayReadAtEveryExit) {
    launch();
    for (std::uint64_t page = 0; page < 40; ++page) {
        ept.map(page * 0x1000, pages_of_l1 + page * 0x1000);
        ASSERT_EQ(l1.l2_touches(page * 0x1000, bit::write), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        ASSERT_EQ(l1.read(field::pml_index), 510 - page);
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
    EXPECT_EQ(l1.counters().fields_learned != 0, GetParam());
}

TEST_P(PageModificationLog, IsNotTheProcessors) {
    launch();
    EXPECT_EQ(
        l1.vmcs02().get(field::secondary_processor_based_vm_execution_controls) & vmx::secondary::enable_pml,
        0U);
}

TEST_P(PageModificationLog, HasFourKilobytePiecesOfALargePage) {
    ept.map(0x20'0000, 0x4000'0000, 7 | wb, 2);
    launch();
    ASSERT_EQ(l1.l2_touches(0x21'2345, bit::write), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x31'0000, bit::write), l2_runs);
    EXPECT_EQ(index_after_exit(), 510U) << "one dirty flag for all of it";
    EXPECT_EQ(noted(511), 0x21'2000U);
}

TEST_P(PageModificationLog, ThatIsFullKeepsTheFlagsAsTheyAreAndTheAccessFromL2) {
    ept.map(0x5000, pages_of_l1);
    ept.map(0x6000, pages_of_l1 + 0x1000);
    l1.write(field::pml_index, 0);
    launch();
    ASSERT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(noted(0), 0x5000U);
    ASSERT_EQ(l1.l2_touches(0x6000, bit::write), log_full);
    EXPECT_EQ(l1.read(field::pml_index), 0xffffU) << "behind 0";
    EXPECT_EQ(l1.read(field::exit_qualification), 0U);
    EXPECT_EQ(ept.entry(0x6000) & flags, 0U);
    EXPECT_FALSE(l1.ept02_leaf(0x6000) && (l1.ept02_leaf(0x6000)->permissions & bit::write) != 0);
    l1.write(field::pml_index, 100);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x6000, bit::write), l2_runs);
    EXPECT_EQ(ept.entry(0x6000) & flags, flags);
    EXPECT_EQ(noted(100), 0x6000U);
    EXPECT_EQ(index_after_exit(), 99U);
}

// "Accessed or dirty flag": the index is looked at for either.
TEST_P(PageModificationLog, ThatIsFullKeepsAnAccessedFlagToo) {
    ept.map(0x5000, pages_of_l1);
    ept.map(0x6000, pages_of_l1, 7 | wb | flags);
    for (const std::uint16_t index : {std::uint16_t{512}, std::uint16_t{0x8000}, std::uint16_t{0xffff}}) {
        l1.write(field::pml_index, index);
        ASSERT_EQ(l1.counters().l2_entries == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.l2_touches(0x5000, bit::read), log_full) << index;
        EXPECT_EQ(ept.entry(0x5000) & flags, 0U);
        EXPECT_EQ(l1.read(field::pml_index), index);
    }
}

TEST_P(PageModificationLog, OfAnExitThatInterruptsAnIretTellsSo) {
    ept.map(0x5000, pages_of_l1);
    l1.write(field::pml_index, 0xffff);
    launch();
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = 2 | vmx::EptViolation::linear_address_valid |
                                            vmx::EptViolation::nmi_unblocking_by_iret,
                           .guest_physical = 0x5000}),
              log_full);
    EXPECT_EQ(l1.read(field::exit_qualification), std::uint64_t{vmx::EptViolation::nmi_unblocking_by_iret});
}

TEST_P(PageModificationLog, IsLeftAloneWithoutFlagsOrWithoutTheControl) {
    ept.map(0x5000, pages_of_l1);
    l1.use_ept(ept.eptp(false));
    l1.write(field::pml_index, 0xffff);
    launch();
    EXPECT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(index_after_exit(), 0xffffU);

    l1.use_ept(ept.eptp(true));
    l1.lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_pml);
    l1.write(field::pml_index, 511);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(ept.entry(0x5000) & flags, flags);
    EXPECT_EQ(index_after_exit(), 511U);
    EXPECT_EQ(noted(511), 0U);
}

TEST_P(PageModificationLog, AtAnAddressWithoutMemoryLosesWhatIsNoted) {
    ept.map(0x5000, pages_of_l1);
    l1.write(field::pml_address, std::uint64_t{1} << 32);
    launch();
    EXPECT_EQ(l1.l2_touches(0x5000, bit::write), l2_runs);
    EXPECT_EQ(index_after_exit(), 510U);
}

// Random accesses, pages of 4 KB and 2 MB, logs that are emptied, and flags that L1 clears with an INVEPT.
TEST_P(PageModificationLog, IsWhatAModelSays) {
    constexpr std::uint64_t small = 12;
    constexpr std::uint64_t window = 0x40'0000;
    const auto leaf_of = [](std::uint64_t page) { return page < small ? page : small + (page - small) / 4; };
    const auto address_of = [](std::uint64_t page) {
        // Of each large page four pieces.
        return page < small ? page * 0x1000
                            : window + (page - small) / 4 * 0x20'0000 + (page - small) % 4 * 0x1000;
    };
    constexpr std::uint64_t pages = small + 12;
    const auto clear = [&] {
        for (std::uint64_t page = 0; page < small; ++page)
            ept.map(page * 0x1000, pages_of_l1 + page * 0x1000);
        for (std::uint64_t large = 0; large < 3; ++large)
            ept.map(window + large * 0x20'0000, 0x4000'0000 + large * 0x20'0000, 7 | wb, 2);
    };
    std::mt19937 random{GetParam() ? 2U : 1U};
    std::map<std::uint64_t, std::uint64_t> state;  // of a leaf: its flags
    std::uint16_t index = 511;
    std::vector<std::uint64_t> log(512);
    clear();
    launch();
    for (unsigned step = 0; step < 3000; ++step) {
        const std::uint64_t page = random() % pages;
        const bool write = random() % 2 == 0;
        const std::uint64_t address = address_of(page) + random() % 0x1000;
        std::uint64_t& leaf = state[leaf_of(page)];
        const std::uint64_t wanted = bit::accessed | (write ? bit::dirty : std::uint64_t{0});
        const bool full = (leaf & wanted) != wanted && index > 511;
        ASSERT_EQ(l1.l2_touches(address, write ? bit::write : bit::read), full ? log_full : l2_runs) << step;
        if (!full) {
            if (write && (leaf & bit::dirty) == 0) log.at(index--) = address & ~std::uint64_t{0xfff};
            leaf |= wanted;
            if (random() % 16 != 0) continue;
            ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        }
        ASSERT_EQ(l1.read(field::pml_index), index) << step;
        for (unsigned i = 0; i < 512; ++i) ASSERT_EQ(noted(i), log.at(i)) << step << " entry " << i;
        if (full || random() % 4 == 0) {
            index = static_cast<std::uint16_t>(random() % 8);
            l1.write(field::pml_index, index);
        }
        if (random() % 2 == 0) {
            state.clear();
            clear();
            ASSERT_EQ(l1.invept(1, ept.eptp(true)), vm_succeed);
        }
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
}

}  // namespace
}  // namespace flatback::nested_test::page_modification_log_test
