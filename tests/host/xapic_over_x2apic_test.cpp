// xAPIC mode's page over a real APIC in x2APIC mode.
#include "host/xapic_over_x2apic.hpp"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace flatback::host::xapic_over_x2apic_test {
namespace {

namespace xapic = x86::xapic;

// A processor in x2APIC mode, which faults at what it has not and at reserved bits (SDM 3A table 11-6).
struct Processor {
    [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t msr) const {
        EXPECT_TRUE(x86::x2apic::register_at(msr).readable) << std::hex << msr;
        const auto found = msrs.find(msr);
        return found == msrs.end() ? 0 : found->second;
    }
    bool write_msr(std::uint32_t msr, std::uint64_t value) {
        const auto what = x86::x2apic::register_at(msr);
        const std::uint64_t more = msr == 0x80f && suppresses_eoi ? 0x1000 : 0;
        EXPECT_TRUE(what.writable) << std::hex << msr;
        EXPECT_EQ(value & ~(what.writable_bits | more), 0U) << std::hex << msr << " := " << value;
        writes.emplace_back(msr, value);
        return true;
    }
    [[nodiscard]] std::uint32_t x2apic_id() const { return 5; }

    std::map<std::uint32_t, std::uint64_t> msrs;
    std::vector<std::pair<std::uint32_t, std::uint64_t>> writes;
    bool suppresses_eoi = false;
};
using Writes = std::vector<std::pair<std::uint32_t, std::uint64_t>>;

class XapicOverX2ApicTest : public testing::Test {
protected:
    Processor processor;
    XapicOverX2Apic page;

    Writes written(std::uint32_t offset, std::uint32_t value) {
        processor.writes.clear();
        page.write(processor, offset, value);
        return processor.writes;
    }
    Writes sent(std::uint32_t high, std::uint32_t low) {
        page.write(processor, xapic::command_high, high);
        return written(xapic::command_low, low);
    }
};

TEST_F(XapicOverX2ApicTest, NothingThatIsWrittenOrReadFaults) {
    for (std::uint32_t offset = 0; offset < 0x1000; offset += 16) {
        for (const std::uint32_t value : {0U, 0xffff'ffffU, 0x5555'5555U})
            page.write(processor, offset, value);
        static_cast<void>(page.read(processor, offset));
    }
}

TEST_F(XapicOverX2ApicTest, ARegisterThatBothModesHaveIsTheRealOne) {
    EXPECT_EQ(written(xapic::task_priority, 0x30), (Writes{{0x808, 0x30}}));
    EXPECT_EQ(written(xapic::end_of_interrupt, 0x1234), (Writes{{0x80b, 0}}));
    EXPECT_EQ(written(xapic::error_status, 1), (Writes{{0x828, 0}}));
    EXPECT_EQ(written(xapic::initial_count, 0xffff'ffff), (Writes{{0x838, 0xffff'ffff}}));
    EXPECT_EQ(written(xapic::spurious_vector, 0x3ff), (Writes{{0x80f, 0x1ff}})) << "no focus checking";
    processor.msrs[0x803] = xapic::version_suppresses_eoi;
    processor.suppresses_eoi = true;
    EXPECT_EQ(written(xapic::spurious_vector, 0x13ff), (Writes{{0x80f, 0x11ff}}));
    processor.msrs[0x839] = 77;
    EXPECT_EQ(page.read(processor, xapic::current_count), 77U);
    EXPECT_EQ(written(xapic::version, 1), Writes{}) << "read-only";
    EXPECT_EQ(written(x86::x2apic::self_interrupt_offset, 0x41), Writes{}) << "not of this mode";
}

TEST_F(XapicOverX2ApicTest, IdentifierDestinationAndFormatAreOfXApicMode) {
    EXPECT_EQ(page.read(processor, xapic::identification), 5U << 24);
    EXPECT_EQ(page.read(processor, xapic::logical_destination), 0U);
    EXPECT_EQ(page.read(processor, xapic::destination_format), 0xffff'ffffU);
    EXPECT_EQ(written(xapic::logical_destination, 0x0212'3456), Writes{});
    EXPECT_EQ(page.read(processor, xapic::logical_destination), 0x0200'0000U);
    EXPECT_EQ(written(xapic::destination_format, 0), Writes{});
    EXPECT_EQ(page.read(processor, xapic::destination_format), 0x0fff'ffffU);
    EXPECT_EQ(written(xapic::identification, 0x0700'0000), Writes{});
    EXPECT_EQ(page.read(processor, xapic::identification), 5U << 24);
}

TEST_F(XapicOverX2ApicTest, ACommandGoesToAnIdentifierOrByAShorthand) {
    EXPECT_EQ(sent(0x0300'0000, 0x4041), (Writes{{0x830, 0x3'0000'4041}}));
    EXPECT_EQ(page.read(processor, xapic::command_low), 0x4041U);
    EXPECT_EQ(page.read(processor, xapic::command_high), 0x0300'0000U);
    EXPECT_EQ(sent(0xff00'0000, 0x4041), (Writes{{0x830, 0xffff'ffff'0000'4041}})) << "everybody";
    EXPECT_EQ(sent(0x0300'0000, 0xc'4041), (Writes{{0x830, 0xc'4041}})) << "all others";
    EXPECT_EQ(sent(0x0300'0000, 0x5041), (Writes{{0x830, 0x3'0000'4041}})) << "delivery status is read-only";
    EXPECT_EQ(page.read(processor, xapic::command_low), 0x4041U);
}

TEST_F(XapicOverX2ApicTest, ALogicalDestinationIsNotTheRealOnes) {
    EXPECT_EQ(sent(0x0300'0000, 0x4841), Writes{});
    EXPECT_EQ(sent(0x0300'0000, 0x4'4841), (Writes{{0x830, 0x4'4841}})) << "to itself, whatever is named";
}

}  // namespace
}  // namespace flatback::host::xapic_over_x2apic_test
