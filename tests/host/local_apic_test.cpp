// L1's local APIC: the transitions of SDM 3A 11.12.5, and the registers of x2APIC mode over the page.
#include "host/local_apic.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>
#include <vector>

namespace flatback::host::local_apic_test {
namespace {

namespace xapic = x86::xapic;

constexpr std::uint64_t home = 0xfee0'0000;
constexpr std::uint64_t bsp = x86::apic_base::bootstrap_processor;
constexpr std::uint64_t disabled = home | bsp;
constexpr std::uint64_t in_xapic = disabled | x86::apic_base::global_enable;
constexpr std::uint64_t in_x2apic = in_xapic | x86::apic_base::x2apic_enable;
constexpr std::uint64_t invalid = disabled | x86::apic_base::x2apic_enable;

// A real APIC with the registers of its page as words. EN = 0 is for good where `one_way` says so.
class Hardware {
public:
    std::uint32_t read_page(std::uint32_t offset) {
        EXPECT_EQ(real >> 10 & 3, 2U) << "the page is read outside of xAPIC mode";
        return page[offset];
    }
    void write_page(std::uint32_t offset, std::uint32_t value) {
        EXPECT_EQ(real >> 10 & 3, 2U) << "the page is written outside of xAPIC mode";
        if (offset == xapic::end_of_interrupt) {
            for (std::uint32_t word = 0; word < 8; ++word) page[xapic::in_service + 16 * word] = 0;
            ++ends;
            return;
        }
        if (offset == xapic::command_low) sent.emplace_back(page[xapic::command_high] >> 24, value);
        page[offset] = value;
    }
    std::optional<std::uint64_t> read_msr(std::uint32_t msr) {
        return msr == x86::msr::ia32_apic_base ? real : msrs[msr];
    }
    bool write_msr(std::uint32_t msr, std::uint64_t value) {
        if (msr != x86::msr::ia32_apic_base) {
            msrs[msr] = value;
            return true;
        }
        EXPECT_FALSE((real >> 10 & 3) == 3 && (value >> 10 & 3) == 2) << "x2APIC mode left without EN = 0";
        real = value;
        return true;
    }
    std::uint32_t x2apic_id() { return 5; }
    bool has_x2apic() { return x2apic; }
    bool place_page(std::optional<std::uint64_t> address) {
        if (address && forbidden.contains(*address)) return false;
        place = address;
        return true;
    }
    bool take_interrupt() { return requested > 0 && requested-- > 0; }

    std::uint64_t real = in_xapic;
    bool x2apic = true;
    std::map<std::uint32_t, std::uint32_t> page{{xapic::version, 0x6'0014}};
    std::map<std::uint32_t, std::uint64_t> msrs;
    std::optional<std::uint64_t> place = home;
    std::set<std::uint64_t> forbidden;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> sent;  // destination, low half of the command
    unsigned requested = 0;
    unsigned ends = 0;
};
static_assert(ApicHardware<Hardware>);

class LocalApicTest : public testing::Test {
protected:
    Hardware hardware;
    LocalApic<Hardware> apic{hardware, 40};

    void expect_refused(std::uint64_t value) {
        const std::uint64_t before = apic.base();
        const auto place = hardware.place;
        EXPECT_FALSE(apic.write_base(value)) << std::hex << value;
        EXPECT_EQ(apic.base(), before);
        EXPECT_EQ(hardware.place, place);
    }
};

TEST_F(LocalApicTest, EveryLegalTransitionIsTaken) {
    for (const std::uint64_t base : {in_xapic, in_x2apic, in_x2apic, disabled, disabled, in_xapic, disabled,
                                     in_xapic, in_x2apic, disabled, in_xapic}) {
        ASSERT_TRUE(apic.write_base(base));
        EXPECT_EQ(apic.base(), base);
        EXPECT_EQ(hardware.real, in_xapic) << "the real one stays as it is";
        EXPECT_EQ(hardware.place, base == in_xapic ? std::optional{home} : std::nullopt);
    }
}

TEST_F(LocalApicTest, EveryOtherTransitionFaults) {
    expect_refused(invalid);
    ASSERT_TRUE(apic.write_base(in_x2apic));
    expect_refused(in_xapic);
    expect_refused(invalid);
    ASSERT_TRUE(apic.write_base(disabled));
    expect_refused(in_x2apic);
    expect_refused(invalid);
}

TEST_F(LocalApicTest, ReservedBitsFault) {
    for (const unsigned bit : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U, 9U, 40U, 52U, 63U})
        expect_refused(in_xapic | 1ULL << bit);
    EXPECT_TRUE(apic.write_base(in_xapic & ~bsp)) << "the BSP flag can be written";
}

TEST(LocalApic, WithoutX2ApicItsBitIsReserved) {
    Hardware hardware;
    hardware.x2apic = false;
    LocalApic<Hardware> apic{hardware, 40};
    EXPECT_FALSE(apic.write_base(in_x2apic));
}

TEST_F(LocalApicTest, ThePageGoesWhereTheBaseSays) {
    constexpr std::uint64_t elsewhere = 0xfed4'0000;
    constexpr std::uint64_t moved = elsewhere | bsp | x86::apic_base::global_enable;
    ASSERT_TRUE(apic.write_base(moved));
    EXPECT_EQ(hardware.place, elsewhere);
    ASSERT_TRUE(apic.write_base(elsewhere | bsp));
    EXPECT_EQ(hardware.place, std::nullopt);
    ASSERT_TRUE(apic.write_base(moved));
    EXPECT_EQ(hardware.place, elsewhere);
    hardware.forbidden = {0x1000};
    expect_refused(0x1000 | bsp | x86::apic_base::global_enable);
}

TEST_F(LocalApicTest, DisabledItIsAPlainWire) {
    ASSERT_TRUE(apic.write_base(disabled));
    EXPECT_EQ(hardware.page[xapic::local_vector_lint0], xapic::deliver_external);
    EXPECT_EQ(hardware.page[xapic::local_vector_lint1], xapic::deliver_nmi);
    EXPECT_EQ(hardware.page[xapic::spurious_vector] & 0x100, 0x100U);
    EXPECT_FALSE(apic.enabled());
}

TEST_F(LocalApicTest, EnabledAgainItIsAsAfterReset) {
    for (const std::uint32_t offset : {xapic::task_priority, xapic::local_vector_timer, xapic::initial_count,
                                       xapic::logical_destination, xapic::divide_configuration})
        hardware.page[offset] = 0x41;
    hardware.page[xapic::in_service + 0x40] = 1;
    hardware.requested = 3;
    ASSERT_TRUE(apic.write_base(disabled));
    ASSERT_TRUE(apic.write_base(in_xapic));
    // SDM 3A 11.4.7.1.
    for (const std::uint32_t offset :
         {xapic::task_priority, xapic::initial_count, xapic::logical_destination, xapic::divide_configuration,
          xapic::in_service + 0x40, xapic::error_status}) {
        EXPECT_EQ(hardware.page[offset], 0U) << std::hex << offset;
    }
    for (const std::uint32_t offset :
         {xapic::local_vector_timer, xapic::local_vector_lint0, xapic::local_vector_lint1,
          xapic::local_vector_error, xapic::local_vector_performance, xapic::local_vector_thermal,
          xapic::local_vector_cmci}) {
        EXPECT_EQ(hardware.page[offset], xapic::masked) << std::hex << offset;
    }
    EXPECT_EQ(hardware.page[xapic::destination_format], 0xffff'ffffU);
    EXPECT_EQ(hardware.page[xapic::spurious_vector], 0xffU);
    EXPECT_EQ(hardware.page[xapic::identification], 5U << 24);
    EXPECT_EQ(hardware.requested, 0U);
    EXPECT_TRUE(hardware.sent.empty());
}

TEST_F(LocalApicTest, ALineThatStaysAssertedDoesNotHoldL0) {
    hardware.requested = 1'000'000;
    ASSERT_TRUE(apic.write_base(disabled));
    EXPECT_LE(hardware.ends, 512U);
}

TEST_F(LocalApicTest, ThePageIsReadRegisterByRegister) {
    for (std::uint32_t offset = 0; offset < 0x400; offset += 16) hardware.page[offset] = 0x1000 + offset;
    hardware.page[xapic::version] = 0x4'0014;
    const std::set<std::uint32_t> there{0x020, 0x030, 0x080, 0x0a0, 0x0d0, 0x0e0, 0x0f0, 0x280, 0x300,
                                        0x310, 0x320, 0x340, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0};
    for (std::uint32_t offset = 0; offset < 0x400; offset += 16) {
        const bool is_vector = offset >= 0x100 && offset < 0x280;
        EXPECT_EQ(apic.read_page(offset), there.contains(offset) || is_vector ? hardware.page[offset] : 0U)
            << std::hex << offset;
    }
}

// Left so by the firmware: until L1 leaves the mode, for good.
TEST(LocalApic, InX2ApicModeFromTheStartTheRegistersAreTheRealOnes) {
    Hardware hardware;
    hardware.real = in_x2apic;
    LocalApic<Hardware> apic{hardware, 40};
    EXPECT_TRUE(apic.has_real_registers());
    EXPECT_TRUE(apic.write_base(in_x2apic));
    EXPECT_TRUE(apic.has_real_registers());
    EXPECT_FALSE(apic.write_base(in_xapic));
    EXPECT_TRUE(apic.has_real_registers());
    EXPECT_TRUE(apic.write_base(disabled));
    EXPECT_FALSE(apic.has_real_registers());
    EXPECT_TRUE(apic.write_base(in_xapic));
    EXPECT_TRUE(apic.write_base(in_x2apic));
    EXPECT_FALSE(apic.has_real_registers());
}
TEST_F(LocalApicTest, InXApicModeFromTheStartTheRegistersAreL0sWord) {
    EXPECT_TRUE(apic.write_base(in_x2apic));
    EXPECT_FALSE(apic.has_real_registers());
}

TEST_F(LocalApicTest, OutsideX2ApicModeItsRegistersFault) {
    for (const std::uint64_t base : {in_xapic, disabled}) {
        ASSERT_TRUE(apic.write_base(base));
        for (std::uint32_t msr = 0x800; msr < 0x900; ++msr) {
            EXPECT_EQ(apic.read(msr), std::nullopt);
            EXPECT_FALSE(apic.write(msr, 0));
        }
    }
}

// SDM 3A table 11-6, and 11.12.1.3 for the reserved bits.
TEST_F(LocalApicTest, X2ApicRegistersAreThoseOfTheManual) {
    ASSERT_TRUE(apic.write_base(in_x2apic));
    std::map<std::uint32_t, std::uint64_t> writable{
        {0x808, 0xff},    {0x80b, 0},          {0x80f, 0x1ff},
        {0x828, 0},       {0x82f, 0x117ff},    {0x832, 0x710ff},
        {0x833, 0x117ff}, {0x834, 0x117ff},    {0x835, 0x1f7ff},
        {0x836, 0x1f7ff}, {0x837, 0x110ff},    {0x83e, 0xb},
        {0x83f, 0xff},    {0x838, 0xffffffff}, {0x830, 0xffffffff000ccfff}};
    std::set<std::uint32_t> readable{0x802, 0x803, 0x80a, 0x80d, 0x839};
    for (std::uint32_t msr = 0x810; msr < 0x828; ++msr) readable.insert(msr);
    for (const auto& [msr, bits] : writable) {
        if (msr != 0x80b && msr != 0x83f) readable.insert(msr);
    }
    for (std::uint32_t msr = 0x800; msr < 0x900; ++msr) {
        EXPECT_EQ(apic.read(msr).has_value(), readable.contains(msr)) << std::hex << msr;
        EXPECT_EQ(apic.write(msr, 0), writable.contains(msr)) << std::hex << msr;
        for (unsigned bit = 0; bit < 64; ++bit) {
            const bool taken = writable.contains(msr) && (writable[msr] >> bit & 1) != 0;
            EXPECT_EQ(apic.write(msr, 1ULL << bit), taken) << std::hex << msr << " bit " << std::dec << bit;
        }
    }
}

TEST_F(LocalApicTest, TheSuppressionOfEoiBroadcastsIsThereWhereTheVersionSaysSo) {
    ASSERT_TRUE(apic.write_base(in_x2apic));
    EXPECT_FALSE(apic.write(0x80f, 0x11ff));
    hardware.page[xapic::version] |= xapic::version_suppresses_eoi;
    EXPECT_TRUE(apic.write(0x80f, 0x11ff));
}

TEST_F(LocalApicTest, X2ApicModeHasTheStateOfXApicModeAndIdsOfItsOwn) {
    hardware.page[xapic::task_priority] = 0x30;
    hardware.page[xapic::identification] = 0x7700'0000;
    hardware.page[xapic::logical_destination] = 0x0100'0000;
    hardware.page[xapic::command_low] = 0x40f1;
    hardware.page[xapic::command_high] = 0x0700'0000;
    ASSERT_TRUE(apic.write_base(in_x2apic));
    EXPECT_EQ(apic.read(0x808), 0x30U);
    EXPECT_EQ(apic.read(0x802), 5U);
    EXPECT_EQ(apic.read(0x80d), 1U << 5);
    EXPECT_EQ(apic.read(0x830), 0x40f1U) << "its upper half is not kept";
}

TEST_F(LocalApicTest, InterruptCommandsReachThoseThatTheyName) {
    using Sent = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
    ASSERT_TRUE(apic.write_base(in_x2apic));
    const auto sent_by = [&](std::uint32_t msr, std::uint64_t value) {
        hardware.sent.clear();
        EXPECT_TRUE(apic.write(msr, value));
        return hardware.sent;
    };
    EXPECT_EQ(sent_by(0x830, 0x3'0000'4041), (Sent{{3, 0x4041}}));
    EXPECT_EQ(apic.read(0x830), 0x3'0000'4041U);
    EXPECT_EQ(sent_by(0x830, 0x103'0000'4041), Sent{}) << "no such processor";
    EXPECT_EQ(sent_by(0x830, 0xffff'ffff'0000'4041), (Sent{{0xff, 0x4041}}));
    EXPECT_EQ(sent_by(0x830, 0x4'4041), (Sent{{0, 0x4'4041}})) << "a shorthand";
    EXPECT_EQ(sent_by(0x83f, 0x41), (Sent{{0, 0x4'4041}}));
    // Cluster 1, members 0 and 3.
    EXPECT_EQ(sent_by(0x830, 0x1'0009'0000'4841), (Sent{{16, 0x4041}, {19, 0x4041}}));
    EXPECT_EQ(sent_by(0x830, 0x1'0008'0000'4941), (Sent{{19, 0x4041}})) << "lowest priority";
    EXPECT_EQ(sent_by(0x830, 0xffff'ffff'0000'4841), (Sent{{0xff, 0x4041}}));
}

TEST(LocalApic, X2ApicModeOfTheFirmwareIsTheRealOneUntilItIsLeft) {
    Hardware hardware;
    hardware.real = in_x2apic;
    LocalApic<Hardware> apic{hardware, 40};
    EXPECT_EQ(apic.base(), in_x2apic);
    EXPECT_TRUE(apic.write(0x808, 0x20));
    EXPECT_EQ(hardware.msrs[0x808], 0x20U);
    ASSERT_TRUE(apic.write_base(disabled));
    EXPECT_EQ(hardware.real, in_xapic);
    EXPECT_EQ(hardware.place, std::nullopt);
    ASSERT_TRUE(apic.write_base(in_xapic));
    ASSERT_TRUE(apic.write_base(in_x2apic));
    EXPECT_EQ(hardware.real, in_xapic);
    EXPECT_TRUE(apic.write(0x808, 0x10));
    EXPECT_EQ(hardware.page[xapic::task_priority], 0x10U);
}

}  // namespace
}  // namespace flatback::host::local_apic_test
