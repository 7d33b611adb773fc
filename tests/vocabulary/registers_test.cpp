#include <gtest/gtest.h>

#include "x86/control_registers.hpp"
#include "x86/cpuid.hpp"
#include "x86/msr.hpp"
#include "x86/segment.hpp"

namespace flatback::x86::registers_test {
namespace {

TEST(ControlRegisterBits, HaveThePositionsOfTheManual) {
    EXPECT_EQ(cr0::protection_enable | cr0::paging, 0x8000'0001u);
    EXPECT_EQ(cr0::write_protect, 0x1'0000u);
    EXPECT_EQ(cr4::physical_address_extension, 0x20u);
    EXPECT_EQ(cr4::page_global_enable, 0x80u);
    EXPECT_EQ(cr4::vmx_enable, 0x2000u);
    EXPECT_EQ(cr4::pcid_enable, 0x2'0000u);
    EXPECT_EQ(efer::long_mode_enable | efer::long_mode_active, 0x500u);
    EXPECT_EQ(rflags::arithmetic, 0x8d5u);
    EXPECT_EQ(rflags::interrupt_enable, 0x200u);
}

TEST(Rflags, EveryBitIsReservedOrNamed) {
    using namespace rflags;
    constexpr std::uint64_t named = arithmetic | fixed_one | trap | interrupt_enable | direction |
                                    io_privilege_level | nested_task | resume | virtual_8086 |
                                    alignment_check | virtual_interrupt | virtual_interrupt_pending |
                                    identification;
    EXPECT_EQ(named & reserved_zero, 0u);
    EXPECT_EQ(named | reserved_zero, ~0ULL);
}

TEST(MsrNumbers, AreThoseOfTheManual) {
    EXPECT_EQ(msr::ia32_feature_control, 0x3au);
    EXPECT_EQ(msr::ia32_sysenter_eip, 0x176u);
    EXPECT_EQ(msr::ia32_pat, 0x277u);
    EXPECT_EQ(msr::ia32_vmx_basic, 0x480u);
    EXPECT_EQ(msr::ia32_vmx_procbased_ctls2, 0x48bu);
    EXPECT_EQ(msr::ia32_vmx_ept_vpid_cap, 0x48cu);
    EXPECT_EQ(msr::ia32_vmx_vmfunc, 0x491u);
    EXPECT_EQ(msr::ia32_tsc_deadline, 0x6e0u);
    EXPECT_EQ(msr::ia32_efer, 0xc000'0080u);
    EXPECT_EQ(msr::ia32_kernel_gs_base, 0xc000'0102u);
}

TEST(Pat, AllowsTheSixMemoryTypesInEachField) {
    EXPECT_TRUE(is_valid_pat(0x0007'0406'0007'0406));  // after reset
    for (unsigned shift = 0; shift < 64; shift += 8) {
        for (std::uint64_t type = 0; type < 256; ++type) {
            const bool valid = type == 0 || type == 1 || type == 4 || type == 5 || type == 6 || type == 7;
            EXPECT_EQ(is_valid_pat(type << shift), valid) << type << " at " << shift;
        }
    }
}

TEST(AccessRights, AreDecoded) {
    constexpr AccessRights long_code{0xa09b};
    EXPECT_EQ(long_code.type(), 11u);
    EXPECT_TRUE(long_code.is_code_or_data());
    EXPECT_TRUE(long_code.is_code());
    EXPECT_TRUE(long_code.is_present());
    EXPECT_TRUE(long_code.is_long_mode());
    EXPECT_FALSE(long_code.is_default_big());
    EXPECT_TRUE(long_code.has_page_granularity());
    EXPECT_EQ(AccessRights{0xc0f3}.privilege_level(), 3u);
    EXPECT_TRUE(AccessRights{0x1'0000}.is_unusable());
    EXPECT_FALSE(AccessRights{0x1'f0ff}.has_reserved_bits());
    EXPECT_TRUE(AccessRights{0x100}.has_reserved_bits());
    EXPECT_TRUE(AccessRights{0x2'0000}.has_reserved_bits());
}

TEST(SegmentLimit, MustFitItsGranularity) {
    EXPECT_TRUE(limit_matches_granularity(0xffff'ffff, AccessRights{0xc093}));
    EXPECT_FALSE(limit_matches_granularity(0xffff'ffff, AccessRights{0x4093}));
    EXPECT_TRUE(limit_matches_granularity(0xffff, AccessRights{0x93}));
    EXPECT_FALSE(limit_matches_granularity(0xfffe, AccessRights{0x8093}));
    EXPECT_TRUE(limit_matches_granularity(0xfffff, AccessRights{0x93}));
    EXPECT_TRUE(limit_matches_granularity(0xfffff, AccessRights{0x8093}));
    EXPECT_TRUE(limit_matches_granularity(0, AccessRights{0x82}));
}

TEST(CpuidBits, HaveThePositionsOfTheManual) {
    EXPECT_EQ(cpuid::features_ecx_vmx, 0x20u);
    EXPECT_EQ(cpuid::features_ecx_pcid, 0x2'0000u);
    EXPECT_EQ(cpuid::features_ecx_hypervisor, 0x8000'0000u);
    EXPECT_EQ(cpuid::extended_ebx_invpcid, 0x400u);
    EXPECT_EQ(cpuid::amd_edx_page_1g, 0x400'0000u);
}

}  // namespace
}  // namespace flatback::x86::registers_test
