// L1's MSRs: what is answered in the processor's place, and what the bitmap makes exit for it.
#include "host/msrs.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <map>
#include <utility>
#include <vector>

#include "nested/capabilities.hpp"

namespace flatback::host::msrs_test {
namespace {

namespace number = x86::msr;
using Access = MsrBitmap::Access;

// A processor of all MSRs below 1000H and of C0000080H to C00000FFH, each with its own value.
class Host {
public:
    Host() {
        fill_msr_bitmap(msr_bitmap());
        capabilities.basic.value = 0x1234;
    }
    [[nodiscard]] const vmx::Capabilities* promise() const { return &capabilities; }
    [[nodiscard]] MsrBitmap msr_bitmap() { return MsrBitmap{page.data()}; }
    [[nodiscard]] std::optional<std::uint64_t> read_processor_msr(std::uint32_t msr) {
        if (!exists(msr)) return std::nullopt;
        const auto found = values.find(msr);
        return found == values.end() ? 0x5500'0000ULL + msr : found->second;
    }
    [[nodiscard]] bool write_processor_msr(std::uint32_t msr, std::uint64_t value) {
        if (!exists(msr)) return false;
        values[msr] = value;
        return true;
    }
    [[nodiscard]] bool takes_debugctl(std::uint64_t value) {
        asked_debugctl.push_back(value);
        return (value & 0x8000) == 0;
    }

    alignas(4096) std::array<std::uint64_t, 512> page{};
    vmx::Capabilities capabilities{};
    std::map<std::uint32_t, std::uint64_t> values;
    std::vector<std::uint64_t> asked_debugctl;

private:
    static bool exists(std::uint32_t msr) {
        return msr < 0x1000 || (msr >= 0xc000'0080 && msr < 0xc000'0100);
    }
};
static_assert(MsrHost<Host>);

TEST(L1Msrs, WhatDoesNotExitIsTheProcessors) {
    Host host;
    EXPECT_EQ(read_msr(host, number::ia32_lstar), 0x5500'0000ULL + number::ia32_lstar);
    EXPECT_TRUE(write_msr(host, number::ia32_lstar, 7));
    EXPECT_EQ(host.values[number::ia32_lstar], 7U);
    EXPECT_EQ(read_msr(host, 0x1fff'0000), std::nullopt);
    EXPECT_FALSE(write_msr(host, 0x1fff'0000, 0));
}

TEST(L1Msrs, VmxCapabilitiesAreAsPromisedAndReadOnly) {
    Host host;
    EXPECT_EQ(read_msr(host, number::ia32_vmx_basic), 0x1234U);
    for (std::uint32_t msr = number::ia32_vmx_basic; msr <= number::ia32_vmx_procbased_ctls3; ++msr) {
        EXPECT_FALSE(write_msr(host, msr, 0)) << std::hex << msr;
        EXPECT_FALSE(host.values.contains(msr));
    }
}

TEST(L1Msrs, FeatureControlIsLockedWithVmx) {
    Host host;
    EXPECT_EQ(read_msr(host, number::ia32_feature_control), 5U);
    EXPECT_FALSE(write_msr(host, number::ia32_feature_control, 5));
}

TEST(L1Msrs, HiddenFeaturesHaveNone) {
    Host host;
    for (const auto& [first, last] : hidden_msrs) {
        for (std::uint32_t msr = first; msr <= last; ++msr) {
            EXPECT_EQ(read_msr(host, msr), std::nullopt) << std::hex << msr;
            EXPECT_FALSE(write_msr(host, msr, 0)) << std::hex << msr;
            EXPECT_TRUE(host.msr_bitmap().intercepts(msr, Access::read));
            EXPECT_TRUE(host.msr_bitmap().intercepts(msr, Access::write));
        }
    }
    EXPECT_TRUE(host.values.empty());
}

// SDM 1 13.11: XRSTORS loads the MSRs of every state that IA32_XSS has, so that a state that CPUID does not
// show (leaf DH, subleaf 1) is a reserved bit.
TEST(L1Msrs, SupervisorStatesAreThoseThatCpuidShows) {
    Host host;
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t value = std::uint64_t{1} << bit;
        x86::CpuidResult states{.ecx = 0xffff'ffff, .edx = 0xffff'ffff};
        hide_features(x86::cpuid::leaf_extended_state, 1, states);
        const bool shown = bit >= 32 || (states.ecx >> bit & 1) != 0;
        EXPECT_EQ(write_msr(host, number::ia32_xss, value), shown) << bit;
    }
    EXPECT_FALSE(write_msr(host, number::ia32_xss, 1U << 8)) << "processor trace writes past EPT";
    EXPECT_TRUE(write_msr(host, number::ia32_xss, 1U << 13));
    EXPECT_EQ(host.values[number::ia32_xss], 1U << 13);
}

// SDM vol. 4, 1A0H: bits 11 and 12 say that the debug store is not there; bit 34 would turn off what L0's own
// pages rely on.
TEST(L1Msrs, MiscEnableHasNoDebugStoreAndKeepsExecuteDisable) {
    Host host;
    host.values[number::ia32_misc_enable] = 1;
    EXPECT_EQ(read_msr(host, number::ia32_misc_enable), 0x1801U);
    EXPECT_TRUE(write_msr(host, number::ia32_misc_enable, 0x1800 | 1ULL << 34 | 1ULL << 18));
    EXPECT_EQ(host.values[number::ia32_misc_enable], 1ULL << 18);
}

TEST(L1Msrs, AMicrocodeUpdateIsTakenAndDoesNothing) {
    Host host;
    EXPECT_TRUE(write_msr(host, number::ia32_bios_updt_trig, 0x1000));
    EXPECT_TRUE(host.values.empty());
}

TEST(L1Msrs, DebugctlIsAskedForNotWritten) {
    Host host;
    EXPECT_TRUE(write_msr(host, number::ia32_debugctl, 3));
    EXPECT_FALSE(write_msr(host, number::ia32_debugctl, 0x8000));
    EXPECT_FALSE(write_msr(host, number::ia32_debugctl, 1ULL << 20));
    EXPECT_EQ(host.asked_debugctl, (std::vector<std::uint64_t>{3, 0x8000})) << "no processor has bit 20";
    EXPECT_TRUE(host.values.empty());
}

TEST(L1Msrs, WithoutALocalApicThereIsNoX2apicMode) {
    Host host;
    EXPECT_EQ(read_msr(host, number::x2apic_first + 2), std::nullopt);
    EXPECT_FALSE(write_msr(host, number::x2apic_first + 0xb, 0));
    EXPECT_TRUE(write_msr(host, number::ia32_apic_base, 0xfee0'0900)) << "the host's own to judge";
}

TEST(L1Msrs, TheMonitorForSystemManagementIsThereAndClosed) {
    Host host;
    EXPECT_EQ(read_msr(host, number::ia32_smm_monitor_ctl), 0U);
    EXPECT_FALSE(write_msr(host, number::ia32_smm_monitor_ctl, 0));
}

// SDM 3C 25.6.9: reads of low and high numbers, writes of low and high ones, 1 KB each.
TEST(MsrBitmap, HasFourParts) {
    alignas(4096) std::array<std::uint64_t, 512> page{};
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(page.data());
    MsrBitmap bitmap{page.data()};
    bitmap.intercept(0x1234, Access::read);
    bitmap.intercept(0xc000'0081, Access::read);
    bitmap.intercept(0x277, Access::write);
    bitmap.intercept(0xc000'1fff, Access::write);
    EXPECT_EQ(bytes[0x1234 / 8], 1U << (0x1234 % 8));
    EXPECT_EQ(bytes[1024 + 0x81 / 8], 1U << 1);
    EXPECT_EQ(bytes[2048 + 0x277 / 8], 1U << 7);
    EXPECT_EQ(bytes[4095], 0x80U);
    EXPECT_TRUE(bitmap.intercepts(0xc000'0081, Access::read));
    EXPECT_FALSE(bitmap.intercepts(0xc000'0081, Access::write));
    EXPECT_TRUE(bitmap.intercepts(0x2000, Access::read)) << "outside both ranges";
    EXPECT_TRUE(bitmap.intercepts(0xbfff'ffff, Access::write));
    EXPECT_TRUE(bitmap.intercepts(0xc000'2000, Access::write));
}

// All of x2APIC mode (SDM 3A table 11-6) but for interrupt commands, and nothing beside it.
TEST(MsrBitmap, PassesTheRegistersOfAnApicThatIsL1s) {
    alignas(4096) std::array<std::uint64_t, 512> page{};
    MsrBitmap bitmap{page.data()};
    fill_msr_bitmap(bitmap);
    const std::array<std::uint64_t, 512> before = page;
    pass_x2apic_registers(bitmap);
    constexpr std::uint32_t interrupt_command = 0x830;
    constexpr std::uint32_t logical_destination = 0x80d;
    for (std::uint32_t msr = 0x800; msr <= 0x8ff; ++msr) {
        EXPECT_EQ(bitmap.intercepts(msr, Access::read),
                  msr == interrupt_command || msr == logical_destination)
            << msr;
        EXPECT_EQ(bitmap.intercepts(msr, Access::write), msr == interrupt_command) << msr;
    }
    keep_x2apic_registers(bitmap);
    EXPECT_EQ(page, before);
}

// What lives in vmcs01 has to exit when it is written (docs/porting.md), and Port::l0_msr_bitmap() may have
// 64 quadwords that are not zero.
TEST(MsrBitmap, HasWhatTheEngineReliesOn) {
    Host host;
    for (const std::uint32_t msr : {number::ia32_efer, number::ia32_pat, number::ia32_sysenter_cs,
                                    number::ia32_sysenter_esp, number::ia32_sysenter_eip}) {
        EXPECT_TRUE(host.msr_bitmap().intercepts(msr, Access::write)) << std::hex << msr;
        EXPECT_FALSE(host.msr_bitmap().intercepts(msr, Access::read)) << std::hex << msr;
    }
    for (const std::uint32_t msr : {number::ia32_fs_base, number::ia32_gs_base, number::ia32_tsc_aux})
        EXPECT_FALSE(host.msr_bitmap().intercepts(msr, Access::write)) << std::hex << msr;
    unsigned used = 0;
    for (const std::uint64_t word : host.page) used += word != 0 ? 1 : 0;
    EXPECT_LE(used, 64U);
}

}  // namespace
}  // namespace flatback::host::msrs_test
