// The rows of the architecture's rules, on states that are made by hand.
#include "judge/explore/translations.hpp"

#include <gtest/gtest.h>

namespace flatback::machine::explore::translations_test {
namespace {

/// L2 with vpid12 1, EPTP x, PCID 0, has accessed both pages under tag 1.
struct Filled : testing::Test {
    State state{};
    static constexpr unsigned tag = 1;
    static constexpr Keys page_0 = 0x01;
    static constexpr Keys page_1 = 0x04;

    void SetUp() override {
        state.guest = static_cast<unsigned>(Guest::vpid_1) & 0xF;
        fill(state, tag, 0);
        fill(state, tag, 1);
    }
    [[nodiscard]] const Entries& entries() const { return state.entries[here][tag]; }
};

TEST_F(Filled, AnAccessCachesACombinedAndAGuestPhysicalMapping) {
    EXPECT_EQ(entries().fresh, page_0 | page_1);
    EXPECT_EQ(entries().guest(), Guest::vpid_1);
    EXPECT_EQ(state.guest_physical[here].fresh, 3U);
}

TEST_F(Filled, AnEditedPageMayBeServedAsItWasUntilTheBareProcessorDropsIt) {
    edit_page(state, 0);
    EXPECT_EQ(entries().old, page_0);
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry);
    bare_drop(state, Guest::vpid_1, page_0);
    EXPECT_EQ(entries().dead, page_0);
    EXPECT_TRUE(served(state, tag, 0).by_dead_entry);
    EXPECT_FALSE(served(state, tag, 1).by_dead_entry);
}

TEST_F(Filled, WhatTheBareProcessorHasDroppedIsWrongOnceItIsEdited) {
    bare_drop(state, Guest::vpid_1, all_keys);
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry) << "it says what memory says";
    edit_page(state, 0);
    EXPECT_TRUE(served(state, tag, 0).by_dead_entry);
}

TEST_F(Filled, AnAccessAfterTheFlushMayHaveCachedItAgain) {
    bare_drop(state, Guest::vpid_1, all_keys);
    fill(state, tag, 0);
    edit_page(state, 0);
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry);
}

TEST_F(Filled, InvvpidOfTheBareProcessorLeavesAnotherVpidAlone) {
    edit_page(state, 0);
    bare_drop(state, Guest::vpid_2, all_keys);
    EXPECT_EQ(entries().old, page_0);
}

TEST_F(Filled, AnEditedEptEntryMayBeUsedUntilInveptOnly) {
    edit_ept(state, 0, 0);
    EXPECT_EQ(entries().old_ept, page_0);
    bare_drop(state, Guest::vpid_1, all_keys);
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry) << "INVVPID leaves guest-physical mappings (29.4.3.1)";
    bare_invept(state, 1);
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry) << "another EPTP";
    bare_invept(state, 0);
    EXPECT_TRUE(served(state, tag, 0).by_dead_entry);
    EXPECT_TRUE(served(state, tag, 0).by_dead_guest_physical);
}

TEST_F(Filled, AStaleEpt02IsWhatTheNextWalkFinds) {
    edit_ept(state, 0, 0);
    drop(state, here, tag, all_keys);
    state.guest_physical[here] = {};
    fill(state, tag, 0);
    EXPECT_EQ(entries().old_ept, page_0);
}

TEST_F(Filled, ATakenPageIsWrongAtOnceWhateverTheBareProcessorHas) {
    take_page(state, 0);
    EXPECT_TRUE(served(state, tag, 0).by_dead_entry);
    EXPECT_TRUE(served(state, tag, 0).by_dead_guest_physical);
    EXPECT_FALSE(served(state, tag, 1).by_dead_entry);
    invept_of_l2s(state, here);
    EXPECT_EQ(entries().present(), 0U);
    EXPECT_EQ(state.guest_physical[here].dead, 0U);
}

TEST_F(Filled, InvvpidOnAProcessorLeavesItsGuestPhysicalMappings) {
    drop(state, here, tag, all_keys);
    EXPECT_EQ(entries().present(), 0U);
    EXPECT_EQ(entries().guest(), Guest::none);
    EXPECT_EQ(state.guest_physical[here].fresh, 3U);
}

TEST_F(Filled, AnotherPcidHasPage0OfItsOwnAndSharesTheGlobalPage) {
    edit_page(state, 0);
    edit_page(state, 1);
    bare_drop(state, Guest::vpid_1, all_keys);
    state.pcid = 1;
    EXPECT_FALSE(served(state, tag, 0).by_dead_entry);
    EXPECT_TRUE(served(state, tag, 1).by_dead_entry);
}

}  // namespace
}  // namespace flatback::machine::explore::translations_test
