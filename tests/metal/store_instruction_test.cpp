#include "metal/l0/store_instruction.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flatback::metal::store_instruction_test {
namespace {

using Code = std::vector<std::uint8_t>;

// Encodings: SDM 2A chapter 2, and as GNU as makes them.
TEST(StoreInstruction, OfARegisterAsLinuxWritesItsApic) {
    // mov %esi, 0xffffffffff5fd000(%rdi)
    const auto store = decode_store(Code{0x89, 0xB7, 0x00, 0xD0, 0x5F, 0xFF, 0x90}, CodeSize::bits_64);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->length, 6);
    EXPECT_EQ(store->register_number, 6);
    EXPECT_FALSE(store->immediate);
    EXPECT_FALSE(store->exchanges);
}

TEST(StoreInstruction, OfAnImmediateToAnAbsoluteAddress) {
    // movl $0, 0xffffffffff5fd0b0
    const auto store = decode_store(Code{0xC7, 0x04, 0x25, 0xB0, 0xD0, 0x5F, 0xFF, 0x78, 0x56, 0x34, 0x12},
                                    CodeSize::bits_64);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->length, 11);
    EXPECT_EQ(store->immediate, 0x12345678u);
}

TEST(StoreInstruction, WithRexAndSib) {
    // mov %r9d, 8(%rax,%r12,4)
    const auto store = decode_store(Code{0x46, 0x89, 0x4C, 0xA0, 0x08}, CodeSize::bits_64);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->length, 5);
    EXPECT_EQ(store->register_number, 9);
}

TEST(StoreInstruction, Exchanges) {
    const auto store = decode_store(Code{0x87, 0x07}, CodeSize::bits_32);
    ASSERT_TRUE(store);
    EXPECT_TRUE(store->exchanges);
    EXPECT_EQ(store->length, 2);
}

TEST(StoreInstruction, OfTheAccumulatorToAnOffset) {
    EXPECT_EQ(decode_store(Code{0xA3, 1, 2, 3, 4, 5, 6, 7, 8}, CodeSize::bits_64)->length, 9);
    EXPECT_EQ(decode_store(Code{0xA3, 1, 2, 3, 4}, CodeSize::bits_32)->length, 5);
    EXPECT_EQ(decode_store(Code{0x66, 0xA3, 1, 2}, CodeSize::bits_16)->length, 4);
}

TEST(StoreInstruction, In16BitCodeHasTheOtherSizes) {
    const auto word = decode_store(Code{0x89, 0x07}, CodeSize::bits_16);
    ASSERT_TRUE(word);
    EXPECT_EQ(word->size, 2);
    const auto store = decode_store(Code{0x66, 0x67, 0x89, 0x05, 1, 2, 3, 4}, CodeSize::bits_16);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->length, 8);
    EXPECT_EQ(store->size, 4);
    EXPECT_EQ(decode_store(Code{0x66, 0x89, 0x06, 1, 2}, CodeSize::bits_16)->length, 5);
    EXPECT_EQ(decode_store(Code{0xC7, 0x06, 1, 2, 3, 4}, CodeSize::bits_16)->immediate, 0x0403U);
}

TEST(StoreInstruction, OfEachSize) {
    const auto quad = decode_store(Code{0x48, 0x89, 0x07}, CodeSize::bits_64);
    ASSERT_TRUE(quad);
    EXPECT_EQ(quad->size, 8);
    const auto word = decode_store(Code{0x66, 0x89, 0x07}, CodeSize::bits_64);
    ASSERT_TRUE(word);
    EXPECT_EQ(word->size, 2);
    EXPECT_EQ(decode_store(Code{0x66, 0x48, 0x89, 0x07}, CodeSize::bits_64)->size, 8) << "REX.W wins";
    const auto byte = decode_store(Code{0x88, 0x07}, CodeSize::bits_64);
    ASSERT_TRUE(byte);
    EXPECT_EQ(byte->size, 1);
    EXPECT_EQ(decode_store(Code{0xA2, 1, 2, 3, 4}, CodeSize::bits_32)->size, 1);
    EXPECT_EQ(decode_store(Code{0x86, 0x07}, CodeSize::bits_32)->size, 1);
    EXPECT_TRUE(decode_store(Code{0x86, 0x07}, CodeSize::bits_32)->exchanges);
}

TEST(StoreInstruction, OfAByteIsOfItsRegistersHighOneOnlyWithoutRex) {
    const auto high = decode_store(Code{0x88, 0x27}, CodeSize::bits_64);  // mov %ah, (%rdi)
    ASSERT_TRUE(high);
    EXPECT_TRUE(high->high_byte);
    EXPECT_EQ(high->register_number, 0);
    const auto low = decode_store(Code{0x40, 0x88, 0x27}, CodeSize::bits_64);  // mov %spl, (%rdi)
    ASSERT_TRUE(low);
    EXPECT_FALSE(low->high_byte);
    EXPECT_EQ(low->register_number, 4);
    EXPECT_FALSE(decode_store(Code{0x89, 0x27}, CodeSize::bits_64)->high_byte) << "32 bits";
}

TEST(StoreInstruction, OfAnImmediateOfEachSize) {
    EXPECT_EQ(decode_store(Code{0xC6, 0x07, 0x9A}, CodeSize::bits_64)->immediate, 0x9AU);
    EXPECT_EQ(decode_store(Code{0xC6, 0x07, 0x9A}, CodeSize::bits_64)->length, 3);
    EXPECT_EQ(decode_store(Code{0x66, 0xC7, 0x07, 0x34, 0xF2}, CodeSize::bits_64)->immediate, 0xF234U);
    const auto wide = decode_store(Code{0x48, 0xC7, 0x07, 0, 0, 0, 0x80}, CodeSize::bits_64);
    ASSERT_TRUE(wide);
    EXPECT_EQ(wide->immediate, 0xFFFF'FFFF'8000'0000U) << "with its sign";
    EXPECT_EQ(wide->length, 7);
}

TEST(StoreInstruction, OtherInstructionsAreNone) {
    EXPECT_FALSE(decode_store(Code{0x89, 0xC7}, CodeSize::bits_64)) << "a register";
    EXPECT_FALSE(decode_store(Code{0xC7, 0x0F, 0, 0, 0, 0}, CodeSize::bits_64)) << "C7 /1";
    EXPECT_FALSE(decode_store(Code{0x09, 0x07}, CodeSize::bits_64)) << "OR";
    EXPECT_FALSE(decode_store(Code{0xF3, 0x89, 0x07}, CodeSize::bits_64)) << "XRELEASE";
}

TEST(StoreInstruction, ThatEndsTooSoonIsNone) {
    const Code code{0xC7, 0x04, 0x25, 0xB0, 0xD0, 0x5F, 0xFF, 0x78, 0x56, 0x34, 0x12};
    for (std::size_t size = 0; size < code.size(); ++size)
        EXPECT_FALSE(decode_store(std::span{code}.first(size), CodeSize::bits_64)) << size;
    EXPECT_FALSE(decode_store(Code(20, 0x66), CodeSize::bits_64)) << "prefixes alone";
}

TEST(RememberedStores, SayWhatTheBytesSayWhateverWasThereBefore) {
    RememberedStores remembered;
    constexpr std::uint64_t rip = 0xFFFFFFFF81001234;
    const RememberedStores::Code from_eax{0x89, 0x07};
    const RememberedStores::Code from_ecx{0x89, 0x0F};
    const RememberedStores::Code call{0xE8, 1, 2, 3, 4};
    for (int turn = 0; turn < 2; ++turn) {
        const auto first = remembered.decode(rip, from_eax, CodeSize::bits_64);
        ASSERT_TRUE(first);
        EXPECT_EQ(first->register_number, 0);
        EXPECT_EQ(first->length, 2);
        const auto changed = remembered.decode(rip, from_ecx, CodeSize::bits_64);
        ASSERT_TRUE(changed);
        EXPECT_EQ(changed->register_number, 1);
        EXPECT_FALSE(remembered.decode(rip, call, CodeSize::bits_64));
        EXPECT_FALSE(remembered.decode(rip, from_ecx, CodeSize::bits_16)) << "there it stores 16 bits";
        // All of the bytes count, those of a displacement too.
        RememberedStores::Code far{0x89, 0x87, 0xB0, 0xD0, 0x5F, 0xFF};
        ASSERT_TRUE(remembered.decode(rip, far, CodeSize::bits_64));
        far[0] = 0x8B;
        EXPECT_FALSE(remembered.decode(rip, far, CodeSize::bits_64)) << "a load";
    }
}

TEST(RememberedStores, AnEmptyPlaceIsNoInstruction) {
    RememberedStores remembered;
    EXPECT_FALSE(remembered.decode(0, {}, CodeSize::bits_16));
}

}  // namespace
}  // namespace flatback::metal::store_instruction_test
