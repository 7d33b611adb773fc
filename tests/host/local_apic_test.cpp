// L1's local APIC: the transitions of SDM 3A 11.12.5, and whose registers L1 has in which mode.
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

// A real APIC that never leaves x2APIC mode. The registers of L1's page are words, whatever mode that is in.
class Hardware {
public:
    std::uint32_t read_page(std::uint32_t offset) { return page[offset]; }
    void write_page(std::uint32_t offset, std::uint32_t value) {
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
        EXPECT_NE(msr, x86::msr::ia32_apic_base) << "the mode of the real APIC is the host's";
        if (faulting.contains(msr)) return false;
        msrs[msr] = value;
        return true;
    }
    bool enter_x2apic_mode() {
        if (!may_enter) return false;
        real = in_x2apic;
        l1_has_registers = true;
        return true;
    }
    void leave_x2apic_mode() {
        EXPECT_TRUE(l1_has_registers);
        l1_has_registers = false;
    }
    bool take_command(std::uint32_t command, std::uint32_t destination, bool by_x2apic) {
        const std::uint32_t mode = command & xapic::delivery_mode_mask;
        if (mode != xapic::deliver_init && mode != xapic::deliver_start) return false;
        taken.emplace_back(destination, command);
        taken_by_x2apic = by_x2apic;
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
    bool may_enter = true;
    bool l1_has_registers = false;
    std::set<std::uint32_t> faulting;  // when they are written
    std::vector<std::pair<std::uint32_t, std::uint32_t>> taken;
    bool taken_by_x2apic = false;
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
    bool was_in_x2apic = false;
    for (const std::uint64_t base : {in_xapic, disabled, in_xapic, in_x2apic, in_x2apic, disabled, disabled,
                                     in_xapic, disabled, in_xapic, in_x2apic, disabled, in_xapic}) {
        ASSERT_TRUE(apic.write_base(base));
        EXPECT_EQ(apic.base(), base);
        was_in_x2apic |= base == in_x2apic;
        EXPECT_EQ(hardware.real, was_in_x2apic ? in_x2apic : in_xapic) << "it is never disabled";
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
    EXPECT_EQ(hardware.requested, 1'000'000U - 256) << "every vector once";
}

// With nothing requested behind it, too.
TEST_F(LocalApicTest, WhatIsInServiceEndsWithTheReset) {
    hardware.page[xapic::in_service + 0x70] = 1U << 31;
    ASSERT_TRUE(apic.write_base(disabled));
    EXPECT_EQ(hardware.page[xapic::in_service + 0x70], 0U);
    EXPECT_EQ(hardware.ends, 1U);
}

TEST_F(LocalApicTest, APageThatMovesKeepsItsRegisters) {
    hardware.page[xapic::task_priority] = 0x40;
    ASSERT_TRUE(apic.write_base(0xfed4'0000 | bsp | x86::apic_base::global_enable));
    EXPECT_EQ(hardware.page[xapic::task_priority], 0x40U);
    EXPECT_EQ(hardware.ends, 0U);
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

TEST_F(LocalApicTest, L1HasTheRealRegistersInX2ApicModeAndNoneElsewhere) {
    EXPECT_FALSE(hardware.l1_has_registers);
    for (unsigned time = 0; time < 2; ++time) {
        ASSERT_TRUE(apic.write_base(in_x2apic));
        EXPECT_EQ(hardware.real, in_x2apic);
        EXPECT_TRUE(hardware.l1_has_registers);
        EXPECT_EQ(hardware.place, std::nullopt);
        expect_refused(in_xapic);
        EXPECT_TRUE(hardware.l1_has_registers);
        ASSERT_TRUE(apic.write_base(disabled));
        EXPECT_FALSE(hardware.l1_has_registers);
        ASSERT_TRUE(apic.write_base(in_xapic));
        EXPECT_FALSE(hardware.l1_has_registers);
        EXPECT_EQ(hardware.place, home);
    }
}

// The state of the real one is there, so nothing is to be done to it.
TEST(LocalApic, MayBeInX2ApicModeFromTheStart) {
    Hardware hardware;
    hardware.real = in_x2apic;
    hardware.l1_has_registers = true;
    LocalApic<Hardware> apic{hardware, 40};
    EXPECT_TRUE(apic.in_x2apic_mode());
    EXPECT_TRUE(apic.write_base(in_x2apic));
    EXPECT_FALSE(apic.write_base(in_xapic));
    EXPECT_TRUE(apic.write(0x808, 0x20));
    EXPECT_EQ(hardware.msrs[0x808], 0x20U);
    ASSERT_TRUE(apic.write_base(disabled));
    EXPECT_FALSE(hardware.l1_has_registers);
    EXPECT_EQ(hardware.place, std::nullopt);
    EXPECT_EQ(hardware.page[xapic::local_vector_lint0], xapic::deliver_external);
}

TEST_F(LocalApicTest, WhereTheRealOneDoesNotEnterX2ApicModeL1DoesNot) {
    hardware.may_enter = false;
    constexpr std::uint64_t elsewhere = 0xfed4'0000;
    expect_refused(in_x2apic);
    expect_refused((in_x2apic & ~home) | elsewhere);
    EXPECT_FALSE(apic.in_x2apic_mode());
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

TEST_F(LocalApicTest, InX2ApicModeARegisterIsTheProcessors) {
    ASSERT_TRUE(apic.write_base(in_x2apic));
    EXPECT_TRUE(apic.write(0x838, 0x1234));
    EXPECT_EQ(hardware.msrs[0x838], 0x1234U);
    hardware.msrs[0x839] = 0x77;
    EXPECT_EQ(apic.read(0x839), 0x77U);
    hardware.faulting = {0x803};
    EXPECT_FALSE(apic.write(0x803, 0));
}

TEST_F(LocalApicTest, AnInterruptCommandIsReadAsL1WroteIt) {
    hardware.page[xapic::command_low] = 0x40f1;
    hardware.page[xapic::command_high] = 0x0700'0000;
    ASSERT_TRUE(apic.write_base(in_x2apic));
    EXPECT_EQ(apic.read(0x830), 0x40f1U) << "its upper half is not kept";
    EXPECT_TRUE(apic.write(0x830, 0x3'0000'4041));
    EXPECT_EQ(hardware.msrs[0x830], 0x3'0000'4041U);
    hardware.msrs[0x830] = 0x4400;  // the host's own
    EXPECT_EQ(apic.read(0x830), 0x3'0000'4041U);
    EXPECT_TRUE(apic.write(0x830, 0x103'0000'4500));
    EXPECT_EQ(hardware.taken, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{0x103, 0x4500}}));
    EXPECT_TRUE(hardware.taken_by_x2apic);
    EXPECT_EQ(hardware.msrs[0x830], 0x4400U) << "INIT reaches no processor";
    EXPECT_EQ(apic.read(0x830), 0x103'0000'4500U);
    for (const unsigned bit : {12U, 13U, 16U, 17U, 20U, 31U}) {
        EXPECT_FALSE(apic.write(0x830, 1ULL << bit)) << bit;
        EXPECT_FALSE(apic.write(0x830, 0x4500 | 1ULL << bit)) << bit;
    }
    apic.take_init();
    EXPECT_EQ(apic.read(0x830), 0U);
    EXPECT_TRUE(apic.in_x2apic_mode()) << "INIT keeps the mode";
}

TEST_F(LocalApicTest, OnThePageInitAndSipiAreTakenWithTheirDestination) {
    hardware.page[xapic::command_high] = 0x0300'0000;
    apic.write_page(xapic::command_low, 0x4041);
    EXPECT_EQ(hardware.sent, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{3, 0x4041}}));
    apic.write_page(xapic::command_low, 0x4608);
    EXPECT_EQ(hardware.taken, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{3, 0x4608}}));
    EXPECT_FALSE(hardware.taken_by_x2apic);
    EXPECT_EQ(hardware.sent.size(), 1U);
}

}  // namespace
}  // namespace flatback::host::local_apic_test
