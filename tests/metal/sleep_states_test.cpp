#include "metal/firmware/sleep_states.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>

#include "metal/firmware/acpi_tables.hpp"
#include "test_bytes.hpp"

namespace flatback::metal::sleep_states_test {
namespace {

constexpr std::uint32_t rsdt_at = 0x1000;
constexpr std::uint32_t fadt_at = 0x2000;
constexpr std::uint32_t dsdt_at = 0x3000;
constexpr std::uint32_t ssdt_at = 0x4000;

// Memory with an RSDT, a FADT, a DSDT of this body, and an SSDT of that.
class Tables {
public:
    Tables(std::string_view dsdt, std::string_view ssdt) : memory_(0x10000), rsdp_(36) {
        TestBytes rsdt(36);
        rsdt.append(fadt_at);
        rsdt.append(ssdt_at);
        put_table(rsdt_at, "RSDT", rsdt);
        TestBytes fadt(148);
        fadt.put(40, dsdt_at);
        fadt.put<std::uint8_t>(54, 0xF2);
        fadt.put<std::uint64_t>(140, dsdt_at);
        put_table(fadt_at, "FACP", fadt);
        put_table(dsdt_at, "DSDT", with_body(dsdt));
        put_table(ssdt_at, "SSDT", with_body(ssdt));
        for (std::size_t at = 0; at < 8; ++at) rsdp_.put(at, "RSD PTR "[at]);
        rsdp_.put(16, rsdt_at);
        rsdp_.put(8, static_cast<std::uint8_t>(0 - acpi_sum(rsdp_.view().first(20))));
    }
    auto hide() { return hide_sleep_states(memory_.data(), memory_.size(), rsdp_.view()); }
    [[nodiscard]] std::string_view body(std::uint32_t at) const {
        return {reinterpret_cast<const char*>(memory_.view().data()) + at + 36,
                memory_.get<std::uint32_t>(at + 4) - 36};
    }
    [[nodiscard]] std::uint8_t checksum(std::uint32_t at) const {
        return acpi_sum(memory_.view().subspan(at, memory_.get<std::uint32_t>(at + 4)));
    }
    TestBytes& memory() { return memory_; }
    TestBytes& rsdp() { return rsdp_; }

private:
    static TestBytes with_body(std::string_view body) {
        TestBytes table(36);
        for (const char letter : body) table.append(letter);
        return table;
    }
    void put_table(std::uint32_t at, std::string_view signature, TestBytes table) {
        for (std::size_t index = 0; index < 4; ++index) table.put(index, signature[index]);
        table.put<std::uint32_t>(4, static_cast<std::uint32_t>(table.size()));
        table.put(9, static_cast<std::uint8_t>(0 - acpi_sum(table.view())));
        std::memcpy(memory_.data() + at, table.view().data(), table.size());
    }
    TestBytes memory_;
    TestBytes rsdp_;
};

TEST(SleepStates, WhatLosesTheProcessorGetsAnotherNameAndTheRestStays) {
    Tables tables("..\x08_S1_..\x08_S2_..\x08_S3_..\x08_S4_..\x08_S5_..", "\\_S3__S3D_S3");
    const auto changed = tables.hide();
    ASSERT_TRUE(changed);
    EXPECT_EQ(*changed, 3u);
    EXPECT_EQ(tables.body(dsdt_at), "..\x08_S1_..\x08XS2_..\x08XS3_..\x08_S4_..\x08_S5_..");
    EXPECT_EQ(tables.body(ssdt_at), "\\XS3__S3D_S3") << "and what only begins so stays";
    EXPECT_EQ(tables.memory().get<std::uint8_t>(fadt_at + 54), 0) << "S4BIOS_REQ";
    for (const std::uint32_t table : {fadt_at, dsdt_at, ssdt_at}) EXPECT_EQ(tables.checksum(table), 0);
}

TEST(SleepStates, ASecondTimeThereIsNothingToHide) {
    Tables tables("_S3_", "_S5_");
    ASSERT_TRUE(tables.hide());
    EXPECT_EQ(tables.hide(), 0u);
}

TEST(SleepStates, ACorruptTableIsLeftAlone) {
    Tables tables("_S3_", "_S3_");
    tables.memory().put<std::uint8_t>(dsdt_at + 9, 1 + tables.memory().get<std::uint8_t>(dsdt_at + 9));
    ASSERT_TRUE(tables.hide());
    EXPECT_EQ(tables.body(dsdt_at), "_S3_");
    EXPECT_EQ(tables.body(ssdt_at), "XS3_");
    tables.rsdp().put<std::uint8_t>(0, 0);
    EXPECT_FALSE(tables.hide());
}

TEST(SleepStates, WithoutAcpiThereIsNothingToHide) {
    std::byte nothing{};
    EXPECT_EQ(hide_sleep_states(&nothing, 1, {}), 0u);
}

}  // namespace
}  // namespace flatback::metal::sleep_states_test
