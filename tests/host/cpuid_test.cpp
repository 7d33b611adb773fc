#include "host/cpuid.hpp"

#include <gtest/gtest.h>

namespace flatback::host {
namespace {

constexpr std::uint32_t all = 0xFFFFFFFF;

x86::CpuidResult of_a_processor_with_everything(std::uint32_t leaf, std::uint32_t subleaf) {
    x86::CpuidResult answer{.eax = all, .ebx = all, .ecx = all, .edx = all};
    if (is_adjusted(leaf)) hide_features(leaf, subleaf, answer);
    return answer;
}
bool is_zero(const x86::CpuidResult& answer) {
    return (answer.eax | answer.ebx | answer.ecx | answer.edx) == 0;
}

// SDM 2A, CPUID: each of them tells only of a feature that another leaf has a bit for.
TEST(HiddenFeatures, LeavesOfWhatIsNotOfferedAreZero) {
    for (const std::uint32_t leaf : {0x12U, 0x14U, 0x19U, 0x1BU}) {
        for (const std::uint32_t subleaf : {0U, 1U, 2U, 7U})
            EXPECT_TRUE(is_zero(of_a_processor_with_everything(leaf, subleaf))) << leaf << " " << subleaf;
    }
}

TEST(HiddenFeatures, StateOfWhatIsNotOfferedIsNoneOfXsavess) {
    EXPECT_EQ(of_a_processor_with_everything(0xD, 1).ecx, all & ~(1U << 8 | 3U << 11 | 1U << 14));
    EXPECT_EQ(of_a_processor_with_everything(0xD, 1).eax, all);
    for (std::uint32_t component = 2; component < 64; ++component) {
        const bool hidden = component == 8 || component == 11 || component == 12 || component == 14;
        EXPECT_EQ(is_zero(of_a_processor_with_everything(0xD, component)), hidden) << component;
    }
}

TEST(HiddenFeatures, TheirBitsAreClear) {
    const auto extended = of_a_processor_with_everything(7, 0);
    EXPECT_EQ(extended.ebx & (1U << 2 | 1U << 25), 0U) << "SGX, processor trace";
    EXPECT_EQ(extended.ecx & (1U << 7 | 1U << 16 | 1U << 23 | 1U << 30 | 1U << 31), 0U);
    EXPECT_EQ(extended.edx & (1U << 5 | 1U << 18 | 1U << 20), 0U);
    EXPECT_EQ(of_a_processor_with_everything(1, 0).edx & 1U << 21, 0U) << "the debug store";
    EXPECT_EQ(of_a_processor_with_everything(1, 0).ecx & (1U << 2 | 1U << 4 | 1U << 6), 0U);
}

TEST(HiddenFeatures, EveryOtherLeafIsTheProcessors) {
    for (const std::uint32_t leaf : {0U, 2U, 4U, 0xAU, 0xBU, 0x15U, 0x16U, 0x1FU, 0x27U, 0x80000001U})
        EXPECT_FALSE(is_adjusted(leaf)) << leaf;
}

}  // namespace
}  // namespace flatback::host
