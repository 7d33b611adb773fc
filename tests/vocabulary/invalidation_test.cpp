#include "vmx/invalidation.hpp"

#include <gtest/gtest.h>

namespace flatback::vmx::invalidation_test {
namespace {

constexpr InvvpidType every_type[] = {InvvpidType::individual_address, InvvpidType::single_context,
                                      InvvpidType::all_contexts,
                                      InvvpidType::single_context_retaining_globals};

TEST(InvvpidDescriptor, HasTheVpidInItsLowestWord) {
    EXPECT_EQ(InvvpidDescriptor::make(0x1234, 0x5000).vpid_and_reserved, 0x1234u);
    EXPECT_EQ((InvvpidDescriptor{0xffff, 0}.vpid()), 0xffff);
    EXPECT_EQ(sizeof(InvvpidDescriptor), 16u);
}

TEST(InvvpidDescriptor, ReservedBitsFailEveryType) {
    for (const auto type : every_type) {
        EXPECT_TRUE(is_valid_invvpid_descriptor(type, {1, 0}));
        for (unsigned bit = 16; bit < 64; ++bit) {
            EXPECT_FALSE(is_valid_invvpid_descriptor(type, {1 | 1ULL << bit, 0})) << bit;
        }
    }
}

TEST(InvvpidDescriptor, VpidZeroFailsEveryTypeButAllContexts) {
    for (const auto type : every_type) {
        EXPECT_EQ(is_valid_invvpid_descriptor(type, {0, 0}), type == InvvpidType::all_contexts);
    }
}

TEST(InvvpidDescriptor, AddressMattersToIndividualAddressAlone) {
    for (const auto type : every_type) {
        const bool ignores_address = type != InvvpidType::individual_address;
        EXPECT_EQ(is_valid_invvpid_descriptor(type, {1, 0x0000'8000'0000'0000}), ignores_address);
        EXPECT_EQ(is_valid_invvpid_descriptor(type, {1, 0x7fff'0000'0000'1000}),
                  ignores_address);  // LAM-tagged
        EXPECT_TRUE(is_valid_invvpid_descriptor(type, {1, 0xffff'8000'0000'1000}));
    }
}

TEST(InvalidationType, HasTheNumbersOfTheManual) {
    EXPECT_EQ(static_cast<int>(InveptType::single_context), 1);
    EXPECT_EQ(static_cast<int>(InveptType::all_contexts), 2);
    EXPECT_EQ(static_cast<int>(InvvpidType::individual_address), 0);
    EXPECT_EQ(static_cast<int>(InvvpidType::single_context_retaining_globals), 3);
}

}  // namespace
}  // namespace flatback::vmx::invalidation_test
