#include "metal/processors/processor_features.hpp"

#include <gtest/gtest.h>

#include <string_view>

namespace flatback::metal::processor_features_test {
namespace {

ProcessorFeatures usual() {
    ProcessorFeatures features;
    for (std::size_t number = 0; number < features.vmx.size(); ++number)
        features.vmx[number] = 0x1000 + number;
    features.vmx.back().reset();
    for (std::uint32_t leaf = 0; leaf < features.cpuid.size(); ++leaf)
        features.cpuid[leaf] = {0x10 + leaf, 0x20 + leaf, 0x30 + leaf, 0x40 + leaf};
    return features;
}

template <typename Change>
std::string_view difference_by(const Change& change) {
    ProcessorFeatures other = usual();
    change(other);
    const char* const said = difference(usual(), other);
    return said == nullptr ? "none" : said;
}

TEST(ProcessorFeatures, LikeProcessorsDifferInNothing) {
    EXPECT_EQ(difference(usual(), usual()), nullptr);
}

TEST(ProcessorFeatures, EveryCapabilityOfVtxCounts) {
    for (std::size_t number = 0; number < usual().vmx.size(); ++number) {
        EXPECT_EQ(difference_by([=](auto& other) { other.vmx[number] = 7; }), "its capabilities of VT-x");
        if (number + 1 == usual().vmx.size()) continue;
        EXPECT_EQ(difference_by([=](auto& other) { other.vmx[number].reset(); }), "its capabilities of VT-x");
    }
}

TEST(ProcessorFeatures, WhatCpuidSaysCountsButForWhatIsEachProcessorsOwn) {
    for (std::size_t leaf = 0; leaf < usual().cpuid.size(); ++leaf) {
        EXPECT_EQ(difference_by([=](auto& other) { other.cpuid[leaf].eax ^= 1; }), "what CPUID says");
        EXPECT_EQ(difference_by([=](auto& other) { other.cpuid[leaf].ecx ^= 1; }), "what CPUID says");
        EXPECT_EQ(difference_by([=](auto& other) { other.cpuid[leaf].edx ^= 1; }), "what CPUID says");
        // Of leaf 1, the identifier of the APIC.
        EXPECT_EQ(difference_by([=](auto& other) { other.cpuid[leaf].ebx ^= 1; }), "none");
        // CR4.OSXSAVE, which L0 has set on the first already.
        constexpr std::uint32_t osxsave = x86::cpuid::features_ecx_osxsave;
        const bool is_features = ProcessorFeatures::leaves[leaf] == x86::cpuid::leaf_features;
        EXPECT_EQ(difference_by([=](auto& other) { other.cpuid[leaf].ecx ^= osxsave; }),
                  is_features ? "none" : "what CPUID says");
    }
}

}  // namespace
}  // namespace flatback::metal::processor_features_test
