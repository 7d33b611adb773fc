#include "host/cpuid.hpp"

#include <gtest/gtest.h>

#include <array>

namespace flatback::host::cpuid_test {
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

// L1 before a processor that has everything.
struct Guest {
    [[nodiscard]] std::uint64_t& general_register(unsigned number) { return (*general)[number]; }
    [[nodiscard]] std::uint64_t get(vmx::field::NaturalGuest) const { return cr4; }
    [[nodiscard]] static CpuidRegisters cpuid(std::uint32_t, std::uint32_t) { return {all, all, all, all}; }
    [[nodiscard]] static CpuidRegisters hypervisor_leaf(std::uint32_t leaf, std::uint32_t subleaf) {
        return {leaf, subleaf, 3, 4};
    }
    [[nodiscard]] bool apic_enabled() const { return apic; }
    // ECX of the answer.
    [[nodiscard]] std::uint64_t ecx_of(std::uint32_t leaf, std::uint32_t subleaf = 0) {
        general_register(0) = 0xdead'0000'0000'0000 | leaf;
        general_register(1) = 0xdead'0000'0000'0000 | subleaf;
        emulate_cpuid(*this);
        return general_register(1);
    }

    std::array<std::uint64_t, 16>* general = nullptr;
    std::uint64_t cr4 = 0;
    bool apic = true;
};
static_assert(CpuidHost<Guest>);

TEST(Cpuid, SaysThatThereIsVmxUnderAHypervisor) {
    std::array<std::uint64_t, 16> general{};
    Guest guest{.general = &general};
    constexpr std::uint64_t both = x86::cpuid::features_ecx_vmx | x86::cpuid::features_ecx_hypervisor;
    EXPECT_EQ(guest.ecx_of(x86::cpuid::leaf_features) & both, both);
    EXPECT_EQ(guest.ecx_of(x86::cpuid::leaf_features) & x86::cpuid::features_ecx_smx, 0U);
    EXPECT_EQ(general[0], all) << "EAX";
}

// The same before a processor whose own answer has neither.
struct GuestOfALesserProcessor : Guest {
    [[nodiscard]] static CpuidRegisters cpuid(std::uint32_t, std::uint32_t) { return {}; }
};

TEST(Cpuid, SaysSoWhateverTheProcessorSays) {
    std::array<std::uint64_t, 16> general{};
    GuestOfALesserProcessor guest;
    guest.general = &general;
    general[0] = x86::cpuid::leaf_features;
    emulate_cpuid(guest);
    EXPECT_EQ(general[1], x86::cpuid::features_ecx_vmx | x86::cpuid::features_ecx_hypervisor);
    EXPECT_EQ(general[2], 0U) << "EDX";
}

// SDM 2A "CPUID": OSXSAVE and OSPKE say what CR4 has, of L1 and not of L0.
TEST(Cpuid, FollowsL1sControlRegister) {
    std::array<std::uint64_t, 16> general{};
    Guest guest{.general = &general};
    EXPECT_EQ(guest.ecx_of(x86::cpuid::leaf_features) & x86::cpuid::features_ecx_osxsave, 0U);
    EXPECT_EQ(guest.ecx_of(x86::cpuid::leaf_extended_features) & hidden::os_protection_keys, 0U);
    guest.cr4 = x86::cr4::xsave_enable | x86::cr4::protection_key_enable;
    EXPECT_NE(guest.ecx_of(x86::cpuid::leaf_features) & x86::cpuid::features_ecx_osxsave, 0U);
    EXPECT_NE(guest.ecx_of(x86::cpuid::leaf_extended_features) & hidden::os_protection_keys, 0U);
    EXPECT_EQ(guest.ecx_of(x86::cpuid::leaf_extended_features, 1), all) << "another subleaf";
}

TEST(Cpuid, FollowsL1sApic) {
    std::array<std::uint64_t, 16> general{};
    Guest guest{.general = &general};
    static_cast<void>(guest.ecx_of(x86::cpuid::leaf_features));
    EXPECT_NE(general[2] & x86::cpuid::features_edx_apic, 0U);
    guest.apic = false;
    static_cast<void>(guest.ecx_of(x86::cpuid::leaf_features));
    EXPECT_EQ(general[2] & x86::cpuid::features_edx_apic, 0U);
}

TEST(Cpuid, HypervisorLeavesAreTheHosts) {
    std::array<std::uint64_t, 16> general{};
    Guest guest{.general = &general};
    EXPECT_EQ(guest.ecx_of(0x4000'0001, 9), 3U);
    EXPECT_EQ(general[0], 0x4000'0001U);
    EXPECT_EQ(general[3], 9U);
    EXPECT_EQ(general[2], 4U);
    EXPECT_EQ(guest.ecx_of(0x4000'0100), all);
    EXPECT_EQ(guest.ecx_of(0x3fff'ffff), all);
}

}  // namespace
}  // namespace flatback::host::cpuid_test
