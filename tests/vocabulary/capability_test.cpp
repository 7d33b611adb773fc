#include "vmx/capability.hpp"

#include <gtest/gtest.h>

#include <map>

namespace flatback::vmx::capability_test {
namespace {

TEST(ControlCapability, SplitsTheMsrIntoItsHalves) {
    const auto capability = ControlCapability::from_msr(0x0000'00ff'0000'0016);
    EXPECT_EQ(capability.allowed0, 0x16u);
    EXPECT_EQ(capability.allowed1, 0xffu);
    EXPECT_EQ(capability.to_msr(), 0x0000'00ff'0000'0016u);
}

TEST(ControlCapability, DemandsTheBitsWhoseZeroSettingIsNotAllowed) {
    constexpr ControlCapability capability{.allowed0 = 0x16, .allowed1 = 0x7f};
    EXPECT_TRUE(capability.permits(0x16));
    EXPECT_FALSE(capability.permits(0x12));
    EXPECT_FALSE(capability.permits(0));
    EXPECT_FALSE(capability.may_clear(0x10));
    EXPECT_TRUE(capability.may_clear(0x1));
}

TEST(ControlCapability, RefusesTheBitsWhoseOneSettingIsNotAllowed) {
    constexpr ControlCapability capability{.allowed0 = 0x16, .allowed1 = 0x7f};
    EXPECT_TRUE(capability.permits(0x7f));
    EXPECT_FALSE(capability.permits(0x96));
    EXPECT_FALSE(capability.permits(0x8000'0016));
    EXPECT_TRUE(capability.may_set(0x41));
    EXPECT_FALSE(capability.may_set(0x80));
}

TEST(ControlCapability, EverySettingOfOneBitFollowsTheTruthTable) {
    // SDM 3D A.3.1: (allowed0, allowed1) = (0, 0): must be 0; (0, 1): either; (1, 1): must be 1.
    EXPECT_TRUE((ControlCapability{0, 0}.permits(0)));
    EXPECT_FALSE((ControlCapability{0, 0}.permits(1)));
    EXPECT_TRUE((ControlCapability{0, 1}.permits(0)));
    EXPECT_TRUE((ControlCapability{0, 1}.permits(1)));
    EXPECT_FALSE((ControlCapability{1, 1}.permits(0)));
    EXPECT_TRUE((ControlCapability{1, 1}.permits(1)));
}

TEST(ControlCapability, AdjustGivesAPermittedValueAndKeepsWhatWasPermitted) {
    constexpr ControlCapability capability{.allowed0 = 0x16, .allowed1 = 0x7f};
    EXPECT_EQ(capability.adjust(0xffff'ff00), 0x16u);
    EXPECT_EQ(capability.adjust(0x41), 0x57u);
    for (std::uint32_t value = 0; value < 0x200; ++value) {
        EXPECT_TRUE(capability.permits(capability.adjust(value)));
        if (capability.permits(value)) {
            EXPECT_EQ(capability.adjust(value), value);
        }
    }
}

TEST(FixedBits, BindCr0ExceptTheExemptBits) {
    constexpr FixedBits cr0{.fixed0 = 0x8000'0021, .fixed1 = 0xffff'ffff};
    EXPECT_TRUE(cr0.permits(0x8000'0031));
    EXPECT_FALSE(cr0.permits(0x20));
    EXPECT_TRUE(cr0.permits(0x20, 0x8000'0001));
    EXPECT_FALSE(cr0.permits(0, 0x8000'0001));
    EXPECT_FALSE(cr0.permits(0x1'8000'0021));
    EXPECT_EQ(cr0.adjust(0x10), 0x8000'0031u);
}

TEST(BasicCapability, ReadsAnEmulatedSkylake) {
    constexpr BasicCapability basic{0x00d8'1000'0000'002b};
    EXPECT_EQ(basic.revision(), 0x2bu);
    EXPECT_EQ(basic.region_size(), 4096u);
    EXPECT_EQ(basic.memory_type(), x86::MemoryType::write_back);
    EXPECT_TRUE(basic.reports_ins_outs_information());
    EXPECT_TRUE(basic.has_true_controls());
    EXPECT_FALSE(basic.limits_addresses_to_32_bits());
    EXPECT_FALSE(basic.has_dual_monitor());
    EXPECT_FALSE(basic.injects_any_error_code());
}

TEST(MiscCapability, ReadsItsBitFields) {
    constexpr MiscCapability misc{0x0000'0000'7004'c1e5};
    EXPECT_EQ(misc.preemption_timer_rate(), 5u);
    EXPECT_TRUE(misc.stores_efer_lma());
    EXPECT_TRUE(misc.has_activity_hlt());
    EXPECT_TRUE(misc.has_activity_shutdown());
    EXPECT_TRUE(misc.has_activity_wait_for_sipi());
    EXPECT_EQ(misc.cr3_target_count(), 4u);
    EXPECT_EQ(misc.msr_list_entries(), 512u);
    EXPECT_TRUE(misc.may_write_exit_information());
    EXPECT_TRUE(misc.injects_zero_length());
    EXPECT_EQ(MiscCapability{0x0e00'0000}.msr_list_entries(), 4096u);
}

TEST(EptVpidCapability, ReadsAnEmulatedSkylake) {
    using C = EptVpidCapability;
    constexpr C capability{0x0000'0f01'0633'4141};
    EXPECT_TRUE(capability.has(C::execute_only | C::walk_length_4 | C::uncacheable | C::write_back |
                               C::page_2m | C::page_1g | C::invept | C::accessed_dirty |
                               C::invept_single_context | C::invept_all_contexts));
    EXPECT_FALSE(capability.has(C::walk_length_5));
    EXPECT_FALSE(capability.has(C::advanced_exit_information));
    for (std::uint64_t type = 0; type < 4; ++type) EXPECT_TRUE(capability.has_invvpid_type(type)) << type;
}

TEST(EptVpidCapability, OffersATypeOnlyWithItsOwnBit) {
    using C = EptVpidCapability;
    const C only_single{C::invvpid | C::invvpid_single_context | C::invept | C::invept_all_contexts};
    EXPECT_FALSE(only_single.has_invvpid_type(0));
    EXPECT_TRUE(only_single.has_invvpid_type(1));
    EXPECT_FALSE(only_single.has_invvpid_type(2));
    EXPECT_FALSE(only_single.has_invvpid_type(3));
    EXPECT_FALSE(only_single.has_invept_type(1));
    EXPECT_TRUE(only_single.has_invept_type(2));
    EXPECT_FALSE(C{C::invvpid_single_context}.has_invvpid_type(1));  // without the INVVPID bit itself
}

TEST(EptVpidCapability, RefusesEveryTypeThatIsNone) {
    constexpr EptVpidCapability all{~0ULL};
    EXPECT_FALSE(all.has_invept_type(0));
    EXPECT_FALSE(all.has_invept_type(3));
    for (int negative = -127; negative < 0; ++negative) {
        EXPECT_FALSE(all.has_invvpid_type(static_cast<std::uint64_t>(negative)));
        EXPECT_FALSE(all.has_invept_type(static_cast<std::uint64_t>(negative)));
    }
    for (std::uint64_t type = 4; type < 128; ++type) EXPECT_FALSE(all.has_invvpid_type(type));
    for (unsigned bit = 2; bit < 64; ++bit) EXPECT_FALSE(all.has_invvpid_type(1ULL << bit | 1)) << bit;
}

Capabilities skylake() {
    Capabilities all;
    all.basic.value = 0x00d8'1000'0000'002b;
    all.pin_based = {0x16, 0x7f};
    all.primary_processor_based = {0x0400'6172, 0xfff9'fffe};
    all.secondary_processor_based = {0, 0x0217'7fff};
    all.vm_exit = {0x0003'6dfb, 0x00ff'ffff};
    all.vm_entry = {0x11fb, 0x1'ffff};
    all.misc.value = 0x7004'c1e5;
    all.cr0 = {0x8000'0021, 0xffff'ffff};
    all.cr4 = {0x2000, 0x0037'27ff};
    all.vmcs_enum = 50;
    all.ept_vpid.value = 0x0f01'0633'4141;
    all.vm_functions = 1;
    return all;
}

TEST(Capabilities, OriginalMsrsAddTheDefaultOneBits) {
    const Capabilities all = skylake();
    EXPECT_EQ(all.read_msr(0x48e), 0xfff9'fffe'0400'6172u);
    EXPECT_EQ(all.read_msr(0x482), 0xfff9'fffe'0401'e172u);
    EXPECT_EQ(all.read_msr(0x483), 0x00ff'ffff'0003'6dffu);
    EXPECT_EQ(all.read_msr(0x484), 0x0001'ffff'0000'11ffu);
    EXPECT_EQ(all.read_msr(0x490), 0x0001'ffff'0000'11fbu);
}

TEST(Capabilities, ReadEveryMsrOfTheRangeThatExists) {
    const Capabilities all = skylake();
    for (std::uint32_t index = 0x480; index <= 0x491; ++index)
        EXPECT_TRUE(all.read_msr(index)) << std::hex << index;
    EXPECT_FALSE(all.read_msr(0x492));
    EXPECT_FALSE(all.read_msr(0x47f));
    EXPECT_EQ(all.read_msr(0x480), 0x00d8'1000'0000'002bu);
    EXPECT_EQ(all.read_msr(0x486), 0x8000'0021u);
    EXPECT_EQ(all.read_msr(0x489), 0x0037'27ffu);
    EXPECT_EQ(all.read_msr(0x48b), 0x0217'7fff'0000'0000u);
    EXPECT_EQ(all.read_msr(0x48c), 0x0f01'0633'4141u);
}

TEST(Capabilities, MsrOfAnAbsentFeatureDoesNotExist) {
    Capabilities all = skylake();
    all.secondary_processor_based.allowed1 &= ~secondary::enable_vm_functions;
    EXPECT_FALSE(all.read_msr(0x491));
    all.secondary_processor_based.allowed1 &= ~secondary::enable_ept;
    EXPECT_TRUE(all.read_msr(0x48c));  // VPID still needs it
    all.secondary_processor_based.allowed1 &= ~secondary::enable_vpid;
    EXPECT_FALSE(all.read_msr(0x48c));
    all.primary_processor_based.allowed1 &= ~primary::activate_secondary_controls;
    EXPECT_FALSE(all.read_msr(0x48b));
    all.basic.value &= ~BasicCapability::true_controls;
    EXPECT_FALSE(all.read_msr(0x48d));
    EXPECT_FALSE(all.read_msr(0x490));
}

TEST(Capabilities, SurviveTheirOwnMsrs) {
    const Capabilities all = skylake();
    const Capabilities again =
        Capabilities::from_msrs([&](std::uint32_t index) { return all.read_msr(index).value(); });
    EXPECT_EQ(again, all);
}

TEST(Capabilities, NeverReadAnMsrThatDoesNotExist) {
    Capabilities bare = skylake();
    bare.basic.value &= ~BasicCapability::true_controls;
    bare.pin_based = bare.pin_based.with_default1(pin::default1);
    bare.primary_processor_based = {0x0401'e172, 0x7ff9'fffe};  // no secondary controls
    bare.secondary_processor_based = {};
    bare.vm_exit = bare.vm_exit.with_default1(exit_control::default1);
    bare.vm_entry = bare.vm_entry.with_default1(entry_control::default1);
    bare.ept_vpid = {};
    bare.vm_functions = 0;
    const Capabilities again = Capabilities::from_msrs([&](std::uint32_t index) {
        EXPECT_TRUE(bare.read_msr(index)) << std::hex << index;
        return bare.read_msr(index).value_or(0);
    });
    EXPECT_EQ(again, bare);
}

}  // namespace
}  // namespace flatback::vmx::capability_test
