// Fields that L0 learns to let L1 reach without an exit: when, at which price at most, and that L1 and its
// guests see nothing of it.
#include "nested/vmcs/learned_fields.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/field_table.hpp"

namespace flatback::nested_test::learned_fields_test {
namespace {

using nested::LearnedFields;
using nested::LearningRule;

// --- by itself

constexpr LearningRule rule{.uses = 3, .within = 10, .trial_every = 5};
constexpr std::size_t some_field = 40;

TEST(LearnedFields, AreThoseUsedBehindSoManyEntries) {
    LearnedFields learned;
    EXPECT_FALSE(learned.note_use(rule, some_field, 0));
    EXPECT_FALSE(learned.note_use(rule, some_field, 1));
    EXPECT_TRUE(learned.note_use(rule, some_field, 2));
}

TEST(LearnedFields, AreNotThoseUsedOftenBehindOneEntry) {
    LearnedFields learned;
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(learned.note_use(rule, some_field, 7));
    EXPECT_FALSE(learned.note_use(rule, some_field, 8));
    EXPECT_TRUE(learned.note_use(rule, some_field, 9));
}

TEST(LearnedFields, AreNotThoseUsedNowAndThen) {
    LearnedFields learned;
    // Twice within any ten entries.
    for (std::uint64_t entries = 0; entries < 500; entries += 6)
        EXPECT_FALSE(learned.note_use(rule, some_field, entries)) << entries;
}

TEST(LearnedFields, AreNoneWhereTheRuleHasNoUses) {
    LearnedFields learned;
    for (std::uint64_t entries = 0; entries < 600; ++entries)
        EXPECT_FALSE(learned.note_use({.uses = 0}, some_field, entries));
}

TEST(LearnedFields, AreCountedAnewForAnotherVmcs) {
    LearnedFields learned;
    EXPECT_FALSE(learned.note_use(rule, some_field, 0));
    EXPECT_FALSE(learned.note_use(rule, some_field, 1));
    learned.begin();
    EXPECT_FALSE(learned.note_use(rule, some_field, 2));
    EXPECT_FALSE(learned.note_use(rule, some_field, 3));
    EXPECT_TRUE(learned.note_use(rule, some_field, 4));
}

TEST(LearnedFields, AreNeverMoreThanTheBound) {
    LearnedFields learned;
    constexpr LearningRule slow{.uses = 3, .within = 1000, .trial_every = 5};
    std::uint64_t entries = 0;
    for (std::size_t i = 0; i < LearnedFields::most + 10; ++i) {
        bool to_learn = false;
        for (int use = 0; use < 3; ++use) to_learn = learned.note_use(slow, i, entries++);
        EXPECT_EQ(to_learn, i < LearnedFields::most);
        if (to_learn) learned.learn(i, true, true);
    }
    EXPECT_EQ(learned.count(), LearnedFields::most);
    // One that is read without an exit may be written so too.
    bool to_learn = false;
    for (int use = 0; use < 3; ++use) to_learn = learned.note_use(slow, 0, entries++);
    EXPECT_TRUE(to_learn);
    learned.learn(0, true, true);
    EXPECT_EQ(learned.count(), LearnedFields::most);
}

TEST(LearnedFields, AreEachTriedInTurn) {
    LearnedFields learned;
    for (const std::size_t i : {3U, 70U, 150U}) learned.learn(i, false, false);
    std::vector<std::size_t> tried;
    for (std::uint64_t entries = 1; entries <= 30; ++entries) {
        if (const auto field = learned.next_to_try(rule, entries)) {
            EXPECT_EQ(entries % rule.trial_every, 0U);
            tried.push_back(*field);
        }
    }
    EXPECT_EQ(tried, (std::vector<std::size_t>{3, 70, 150, 3, 70, 150}));
}

TEST(LearnedFields, AreLearnedAgainAtTheFirstUseBehindATrial) {
    LearnedFields learned;
    learned.learn(some_field, true, true);
    std::optional<std::size_t> tried;
    for (std::uint64_t entries = 101; entries <= 105; ++entries) tried = learned.next_to_try(rule, entries);
    ASSERT_EQ(tried, some_field);
    learned.forget(some_field);
    EXPECT_FALSE(learned.any());
    EXPECT_TRUE(learned.note_use(rule, some_field, 106));
    learned.learn(some_field, false, false);
    EXPECT_FALSE(learned.written().contains(some_field)) << "what it was before does not count";
    EXPECT_FALSE(learned.saved().contains(some_field));
}

// --- in the engine

class Learning : public ::testing::Test {
protected:
    explicit Learning(const LearningRule& of = {.uses = 3, .within = 20, .trial_every = 1000})
        : l1{{.shadow_vmcs = true, .learning = of}} {
        l1.prepare();
        EXPECT_EQ(l1.vmlaunch(), l2_runs);
        EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    void enter_and_exit() {
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    void have_read(const auto& which) {
        for (int i = 0; i < 3; ++i) {
            (void)l1.read(which);
            enter_and_exit();
        }
    }
    void have_written(const auto& which, std::uint64_t value) {
        for (int i = 0; i < 3; ++i) {
            l1.write(which, value);
            enter_and_exit();
        }
    }
    [[nodiscard]] std::uint64_t exits() { return l1.counters().vmread_exits + l1.counters().vmwrite_exits; }
    [[nodiscard]] bool reads_with_exit(const auto& which) {
        const auto before = exits();
        (void)l1.read(which);
        return exits() != before;
    }
    [[nodiscard]] bool writes_with_exit(const auto& which, std::uint64_t value) {
        const auto before = exits();
        l1.write(which, value);
        return exits() != before;
    }
    VirtualCpu l1;
};

TEST_F(Learning, ComesAfterSoManyExitsAndNotBefore) {
    const auto before = exits();
    for (int i = 0; i < 10; ++i) {
        (void)l1.read(field::guest_smbase);
        enter_and_exit();
    }
    EXPECT_EQ(exits(), before + 3);
    EXPECT_EQ(l1.counters().fields_learned, 1U);
    EXPECT_TRUE(writes_with_exit(field::guest_smbase, 5)) << "it was only read";
}

TEST_F(Learning, HasNothingOfWhatIsUsedBetweenTwoEntries) {
    for (int i = 0; i < 50; ++i) l1.write(field::guest_cr3, 0x1000U * static_cast<unsigned>(i));
    EXPECT_TRUE(writes_with_exit(field::guest_cr3, 0x70'0000));
    EXPECT_EQ(l1.counters().fields_learned, 0U);
}

TEST_F(Learning, BringsWhatEachExitSaved) {
    have_read(field::guest_cr3);
    for (unsigned i = 1; i < 5; ++i) {
        ASSERT_EQ(l1.vmresume(), l2_runs);
        l1.vmcs02().set(field::guest_cr3, 0x1000 * i);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        ASSERT_FALSE(reads_with_exit(field::guest_cr3));
        EXPECT_EQ(l1.read(field::guest_cr3), 0x1000 * i);
    }
}

TEST_F(Learning, TakesWhatL1Writes) {
    have_written(field::guest_cr3, 0x70'0000);
    for (unsigned i = 1; i < 5; ++i) {
        ASSERT_FALSE(writes_with_exit(field::guest_cr3, 0x1000 * i));
        EXPECT_FALSE(reads_with_exit(field::guest_cr3)) << "and reads it so too";
        EXPECT_EQ(l1.read(field::guest_cr3), 0x1000 * i);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x1000 * i);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

TEST_F(Learning, TakesTheSameValueAgainWhereL2HasChangedTheField) {
    have_written(field::guest_cr3, 0x70'0000);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_cr3, 0x71'0000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_FALSE(writes_with_exit(field::guest_cr3, 0x70'0000));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x70'0000U);
}

TEST_F(Learning, LeavesAloneWhatL1HasNotWritten) {
    have_written(field::guest_cr3, 0x70'0000);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_cr3, 0x71'0000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x71'0000U);
}

TEST_F(Learning, BringsHostStateToTheExit) {
    have_written(field::host_fs_base, 0x1000);
    have_written(field::host_ia32_sysenter_esp, 0x2000);
    ASSERT_FALSE(writes_with_exit(field::host_fs_base, 0x3000));
    ASSERT_FALSE(writes_with_exit(field::host_ia32_sysenter_esp, 0x4000));
    enter_and_exit();
    EXPECT_EQ(l1.vmcs01().get(field::guest_fs_base), 0x3000U);
    EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_sysenter_esp), 0x4000U);
}

TEST_F(Learning, HasTheEntryCheckWhatWasWritten) {
    have_written(field::host_cr3, layout::page_tables);
    ASSERT_FALSE(writes_with_exit(field::host_cr3, ~0ULL));
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::entry_with_invalid_host_state_fields));
    ASSERT_FALSE(writes_with_exit(field::host_cr3, layout::page_tables));
    enter_and_exit();
    have_written(field::guest_activity_state, 0);
    ASSERT_FALSE(writes_with_exit(field::guest_activity_state, 7));
    EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state));
}

TEST_F(Learning, LooksForWhatL1WasNotPromised) {
    VirtualCpu other{{.shadow_vmcs = true,
                      .cr3_masking_bits = 1ULL << 62,
                      .learning = {.uses = 1, .within = 20, .trial_every = 1000}}};
    other.prepare();
    ASSERT_EQ(other.vmlaunch(), l2_runs);
    ASSERT_EQ(other.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    other.write(field::guest_cr3, 0x70'0000);
    const auto before = other.counters().vmwrite_exits;
    other.write(field::guest_cr3, 1ULL << 62 | 0x70'0000);
    ASSERT_EQ(other.counters().vmwrite_exits, before);
    EXPECT_EQ(other.vmresume(), l1_sees(ExitReason::entry_failure_guest_state));
}

TEST_F(Learning, IsOfOneVmcs) {
    have_written(field::guest_cr3, 0x70'0000);
    l1.make_vmcs(1);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_TRUE(writes_with_exit(field::guest_cr3, 0x72'0000));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_FALSE(reads_with_exit(field::guest_cr3));
    EXPECT_EQ(l1.read(field::guest_cr3), 0x70'0000U);
    EXPECT_FALSE(writes_with_exit(field::guest_cr3, 0x71'0000));
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(1)), vm_succeed);
    EXPECT_TRUE(reads_with_exit(field::guest_cr3));
    EXPECT_EQ(l1.read(field::guest_cr3), 0x72'0000U);
    // What L1 wrote to the one without an exit waits for its entry.
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x71'0000U);
}

TEST_F(Learning, IsOverWithTheVmcs) {
    have_written(field::guest_cr3, 0x70'0000);
    ASSERT_FALSE(writes_with_exit(field::guest_cr3, 0x71'0000));
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_TRUE(reads_with_exit(field::guest_cr3));
    EXPECT_EQ(l1.read(field::guest_cr3), 0x71'0000U) << "nothing of what was written is lost";
    EXPECT_TRUE(writes_with_exit(field::guest_cr3, 0x72'0000));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_cr3), 0x72'0000U);
}

TEST_F(Learning, IsOverWithVmxOperation) {
    have_read(field::guest_cr3);
    ASSERT_EQ(l1.vmxoff(), vm_succeed);
    ASSERT_EQ(l1.vmxon(), vm_succeed);
    l1.make_vmcs(0);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_TRUE(reads_with_exit(field::guest_cr3));
    EXPECT_FALSE(reads_with_exit(field::guest_rip));
}

TEST_F(Learning, IsThereAgainBehindAShadowVmcsOfL1s) {
    have_written(field::guest_cr3, 0x70'0000);
    const std::uint64_t shadow = layout::vmcs_region(9);
    l1.port.memory.write(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write(field::guest_cr3, 5);
    EXPECT_FALSE(writes_with_exit(field::guest_cr4, 5)) << "of that every field is free";
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_FALSE(reads_with_exit(field::guest_cr3));
    EXPECT_EQ(l1.read(field::guest_cr3), 0x70'0000U);
    EXPECT_TRUE(reads_with_exit(field::guest_cr4)) << "of this no more than before";
}

TEST_F(Learning, HasHalvesOfAFieldAsOne) {
    have_written(field::tsc_offset, 0x1111'2222'3333'4444);
    const std::uint32_t high = field::tsc_offset.encoding | 1;
    ASSERT_FALSE(writes_with_exit(field::tsc_offset, 0x5555'6666'7777'8888));
    EXPECT_EQ(l1.read_raw(high), 0x5555'6666U);
    l1.write_raw(high, 0xaaaa'bbbb);
    EXPECT_EQ(l1.read(field::tsc_offset), 0xaaaa'bbbb'7777'8888);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::tsc_offset), 0xaaaa'bbbb'7777'8888);
}

TEST_F(Learning, LeavesWhatTheExitDoesNotSaveAsL1WroteIt) {
    l1.lower(field::vm_exit_controls, vmx::exit_control::save_ia32_pat);
    l1.raise(field::vm_entry_controls, vmx::entry_control::load_ia32_pat);
    have_written(field::guest_ia32_pat, 0x0606'0606'0606'0606);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_ia32_pat, 0x0404'0404'0404'0404);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_FALSE(reads_with_exit(field::guest_ia32_pat));
    EXPECT_EQ(l1.read(field::guest_ia32_pat), 0x0606'0606'0606'0606U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_pat), 0x0606'0606'0606'0606U);
}

TEST_F(Learning, HasNoErrorNumbers) {
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(l1.vmptrld(0x123), vm_fail(InstructionError::vmptrld_with_invalid_physical_address));
        EXPECT_EQ(l1.read(field::vm_instruction_error),
                  static_cast<std::uint32_t>(InstructionError::vmptrld_with_invalid_physical_address));
        EXPECT_EQ(l1.vmclear(0x123), vm_fail(InstructionError::vmclear_with_invalid_physical_address));
        EXPECT_EQ(l1.read(field::vm_instruction_error),
                  static_cast<std::uint32_t>(InstructionError::vmclear_with_invalid_physical_address));
        enter_and_exit();
    }
}

TEST_F(Learning, GoesWithoutWhereL0HasNoPage) {
    l1.port.page_limit = 0;
    have_read(field::guest_cr3);
    EXPECT_TRUE(reads_with_exit(field::guest_cr3));
    EXPECT_EQ(l1.counters().fields_learned, 0U);
}

class Forgetting : public Learning {
protected:
    static constexpr std::uint32_t every = 6;
    Forgetting() : Learning{{.uses = 3, .within = 20, .trial_every = every}} {}
};

TEST_F(Forgetting, CostsAFieldInUseOneExit) {
    have_written(field::guest_cr3, 0x70'0000);
    const auto before = exits();
    for (unsigned i = 0; i < 10 * every; ++i) {
        l1.write(field::guest_cr3, 0x1000 * (i + 1));
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.vmcs02().get(field::guest_cr3), 0x1000 * (i + 1));
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    EXPECT_LE(exits() - before, 10U);
    EXPECT_GE(l1.counters().fields_forgotten, 9U);
}

TEST_F(Forgetting, EndsThePriceOfWhatIsNoLongerUsed) {
    for (int i = 0; i < 3; ++i) {
        l1.write(field::guest_cr3, 0x70'0000);
        l1.write(field::guest_fs_base, 0x1000);
        l1.write(field::host_fs_base, 0x2000);
        enter_and_exit();
    }
    EXPECT_EQ(l1.counters().fields_learned, 3U);
    const auto accesses_of = [&] {
        const auto before = l1.counters().vmreads;
        enter_and_exit();
        return l1.counters().vmreads - before;
    };
    const auto with = accesses_of();
    for (unsigned i = 0; i < 3 * every; ++i) enter_and_exit();
    EXPECT_EQ(accesses_of(), with - 5) << "three at the entry, two at the exit";
    EXPECT_EQ(l1.counters().fields_forgotten, 3U);
    EXPECT_EQ(l1.read(field::guest_cr3), 0x70'0000U);
    EXPECT_EQ(l1.read(field::guest_fs_base), 0x1000U);
    EXPECT_EQ(l1.read(field::host_fs_base), 0x2000U);
}

// L1 uses every field that it has, in turn, which would be the most that it can make L0 learn.
TEST_F(Forgetting, HasABoundThatIsNotL1s) {
    std::vector<std::uint32_t> fields;
    l1.fields_of_l1().for_each([&](std::size_t i) {
        if (nested::field_handling[i] == nested::FieldHandling::guest_state ||
            nested::field_handling[i] == nested::FieldHandling::direct_control)
            fields.push_back(vmx::all_fields[i].encoding);
    });
    ASSERT_GT(fields.size(), 2 * LearnedFields::most);
    const auto accesses = [&] { return l1.counters().vmreads + l1.counters().vmwrites; };
    const auto plain = [&] {
        const auto before = accesses();
        enter_and_exit();
        return accesses() - before;
    };
    const auto without = plain();
    std::uint64_t dearest = 0;
    for (int round = 0; round < 40; ++round) {
        for (const std::uint32_t encoding : fields) l1.write_raw(encoding, l1.read_raw(encoding));
        enter_and_exit();  // with all that was written by exits
        dearest = std::max(dearest, plain());
    }
    EXPECT_GE(l1.counters().fields_learned, LearnedFields::most);
    EXPECT_GT(dearest, without + LearnedFields::most);
    EXPECT_LE(dearest, without + 2 * LearnedFields::most + 2);
}

}  // namespace
}  // namespace flatback::nested_test::learned_fields_test
