#include "metal/firmware/sleep_requests.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "metal/firmware/acpi_tables.hpp"
#include "test_bytes.hpp"

namespace flatback::metal::sleep_requests_test {
namespace {

using namespace std::string_view_literals;

constexpr std::uint32_t rsdt_at = 0x1000;
constexpr std::uint32_t fadt_at = 0x2000;
constexpr std::uint32_t dsdt_at = 0x3000;
constexpr std::uint32_t mcfg_at = 0x4000;

// Memory with an RSDT, this FADT and a DSDT of this body.
SleepControl found(TestBytes fadt, std::string_view dsdt, const TestBytes& mcfg = {}) {
    TestBytes memory(0x10000);
    TestBytes rsdp(36);
    const auto put_table = [&](std::uint32_t at, std::string_view signature, TestBytes table) {
        for (std::size_t index = 0; index < 4; ++index) table.put(index, signature[index]);
        table.put<std::uint32_t>(4, static_cast<std::uint32_t>(table.size()));
        table.put(9, static_cast<std::uint8_t>(0 - acpi_sum(table.view())));
        std::memcpy(memory.data() + at, table.view().data(), table.size());
    };
    TestBytes rsdt(36);
    rsdt.append(fadt_at);
    if (!mcfg.view().empty()) {
        rsdt.append(mcfg_at);
        put_table(mcfg_at, "MCFG", mcfg);
    }
    put_table(rsdt_at, "RSDT", rsdt);
    fadt.put(40, dsdt_at);
    put_table(fadt_at, "FACP", fadt);
    TestBytes body(36);
    for (const char letter : dsdt) body.append(letter);
    put_table(dsdt_at, "DSDT", body);
    for (std::size_t at = 0; at < 8; ++at) rsdp.put(at, "RSD PTR "[at]);
    rsdp.put(16, rsdt_at);
    rsdp.put(8, static_cast<std::uint8_t>(0 - acpi_sum(rsdp.view().first(20))));
    return find_sleep_control(memory.data(), memory.size(), rsdp.view());
}

std::vector<std::uint16_t> ports(const SleepControl& control) {
    return {control.requests().begin(), control.requests().end()};
}

// S3 is type 5, S4 type 6, S5 type 7 for PM1a and 4 for PM1b.
constexpr std::string_view tables =
    "\x08_S3_\x12\x06\x04\x0A\x05\x0A\x05\x00\x00"
    "\x08_S4_\x12\x06\x02\x0A\x06\x0A\x06"
    "\x08_S5_\x12\x47\x00\x04\x0B\x07\x00\x0A\x04\x00\x00"sv;

TestBytes pc_fadt() {
    TestBytes fadt(268);
    fadt.put<std::uint32_t>(64, 0xB004);
    return fadt;
}

TEST(SleepRequests, ComeBySecondByteOfEachPm1ControlRegister) {
    TestBytes fadt = pc_fadt();
    fadt.put<std::uint32_t>(68, 0x1804);
    fadt.put<std::uint8_t>(172, 1);
    fadt.put<std::uint64_t>(176, 0xB004);  // the first once more
    fadt.put<std::uint8_t>(184, 1);
    fadt.put<std::uint64_t>(188, 0x404);
    const SleepControl control = found(fadt, tables);
    EXPECT_EQ(ports(control), (std::vector<std::uint16_t>{0xB005, 0x1805, 0x405}));
    EXPECT_EQ(control.request_bytes_used, 0U);
}

TEST(SleepRequests, ComeByTheSleepControlRegisterItself) {
    TestBytes fadt(268);
    fadt.put<std::uint8_t>(244, 1);
    fadt.put<std::uint64_t>(248, 0x604);
    EXPECT_EQ(ports(found(fadt, tables)), (std::vector<std::uint16_t>{0x604}));
}

TEST(SleepRequests, ComeBySecondByteOfEachPm1ControlRegisterInMemory) {
    TestBytes fadt(268);
    fadt.put<std::uint64_t>(176, 0xFED8'0804);  // PM1a; address space 0 is memory
    fadt.put<std::uint64_t>(188, 0xFED8'0804);  // PM1b, the same
    fadt.put<std::uint64_t>(248, 0xFED9'0010);  // the sleep control register
    const SleepControl control = found(fadt, tables);
    EXPECT_TRUE(ports(control).empty());
    ASSERT_EQ(control.request_bytes_used, 2U);
    EXPECT_EQ(control.request_bytes[0], 0xFED8'0805U);
    EXPECT_EQ(control.request_bytes[1], 0xFED9'0010U);
}

// An entry: base, segment, first and last bus.
void add_entry(TestBytes& mcfg, std::uint64_t base, std::uint16_t segment, std::uint8_t first_bus) {
    mcfg.append(base);
    mcfg.append(segment);
    mcfg.append(first_bus);
    mcfg.append<std::uint8_t>(0xFF);
    mcfg.append<std::uint32_t>(0);
}

TEST(SleepRequests, ConfigurationSpaceInMemoryIsThatOfBus0) {
    TestBytes mcfg(44);
    add_entry(mcfg, 0xC000'0000, 1, 0);
    add_entry(mcfg, 0xD000'0000, 0, 0x40);
    EXPECT_FALSE(found(pc_fadt(), tables, mcfg).memory_configuration);
    add_entry(mcfg, 0xB000'0000, 0, 0);
    EXPECT_EQ(found(pc_fadt(), tables, mcfg).memory_configuration, 0xB000'0000U);
    EXPECT_FALSE(found(pc_fadt(), tables).memory_configuration);
    EXPECT_FALSE(found(pc_fadt(), tables, TestBytes(50)).memory_configuration) << "short";
}

TEST(SleepRequests, TablesThatAreShortOrCorruptHaveNone) {
    EXPECT_TRUE(ports(found(TestBytes(60), tables)).empty());
    std::byte nothing{};
    EXPECT_TRUE(ports(find_sleep_control(&nothing, 1, {})).empty());
    for (const std::string_view dsdt :
         {"\x08_S5_"sv, "\x08_S5_\x12"sv, "\x08_S5_\x12\xC6"sv, "_S5_\x0A\x07"sv,
          "\x08_S5_\x12\x06\x04\x0A"sv, "\x08_S5_\x12\x06\x04\x70"sv}) {
        EXPECT_EQ(found(pc_fadt(), dsdt).allowed_types, 0);
    }
}

TEST(SleepRequests, OnlyTypesOfStatesThatBeginAnewAreLetThrough) {
    const SleepControl control = found(pc_fadt(), tables);
    EXPECT_EQ(control.allowed_types, 1U << 4 | 1U << 6 | 1U << 7);
    for (std::uint32_t type = 0; type < 8; ++type) {
        const std::uint32_t value = type << 10 | 1U << 13 | 1;
        const auto want = type == 4 || type >= 6 ? IoAnswer::let_through : IoAnswer::refused;
        EXPECT_EQ(answer_io(control, {.size = 2, .port = 0xB004}, value), want) << type;
        EXPECT_EQ(answer_io(control, {.size = 1, .port = 0xB005}, value >> 8), want) << type;
        EXPECT_EQ(answer_io(control, {.size = 4, .port = 0xB002}, value << 16), want) << type;
        EXPECT_EQ(answer_io(control, {.size = 2, .port = 0xB004}, value & ~(1U << 13)), IoAnswer::let_through)
            << "without SLP_EN";
    }
    EXPECT_EQ(without_request(control, {.size = 2, .port = 0xB004}, 0x3401), 0x1401U);
    EXPECT_EQ(without_request(control, {.size = 1, .port = 0xB005}, 0x34), 0x14U);
    EXPECT_EQ(without_request(control, {.size = 4, .port = 0xB002}, 0x3401'0000), 0x1401'0000U);
    EXPECT_EQ(answer_io(control, {.size = 2, .is_in = true, .port = 0xB004}, 0x3401), IoAnswer::let_through);
    EXPECT_EQ(answer_io(control, {.size = 2, .is_string = true, .port = 0xB004}, 0x3401), IoAnswer::refused);
    EXPECT_EQ(without_request(control, {.size = 2, .is_string = true, .port = 0xB004}, 0x3401), 0x1401U);
}

TEST(SleepRequests, AFixedRegisterIsReachedByEachWriteToItsDoubleWord) {
    SleepControl control;
    control.fix(0x8000'0060);
    control.fix(0x8000'0B40);
    const auto reaches = [&](std::uint16_t port, std::uint8_t size, std::uint32_t address) {
        return reaches_fixed(control, {.size = size, .port = port}, address);
    };
    EXPECT_TRUE(reaches(0xCFC, 4, 0x8000'0B40));
    EXPECT_TRUE(reaches(0xCFC, 4, 0x8000'0060));
    EXPECT_TRUE(reaches(0xCFD, 1, 0x8000'0B40));
    EXPECT_TRUE(reaches(0xCFB, 2, 0x8000'0B40)) << "from below";
    EXPECT_TRUE(reaches(0xCFC, 1, 0xFF00'0B43)) << "bits that select nothing";
    EXPECT_FALSE(reaches(0xCFC, 4, 0x8000'0B44));
    EXPECT_FALSE(reaches(0xCFC, 4, 0x0000'0B40)) << "not enabled";
    EXPECT_FALSE(reaches(0xCF8, 4, 0x8000'0B40));
    EXPECT_FALSE(reaches_fixed(control, {.size = 4, .is_in = true, .port = 0xCFC}, 0x8000'0B40));
    EXPECT_FALSE(reaches_fixed({}, {.size = 4, .port = 0xCFC}, 0));
}

}  // namespace
}  // namespace flatback::metal::sleep_requests_test
