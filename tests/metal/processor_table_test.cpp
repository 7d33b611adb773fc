#include "metal/firmware/processor_table.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <span>
#include <vector>

#include "test_bytes.hpp"

namespace flatback::metal::processor_table_test {
namespace {

constexpr std::uint32_t rsdt_at = 0x1000;
constexpr std::uint32_t xsdt_at = 0x2000;
constexpr std::uint32_t madt_at = 0x3000;
constexpr std::uint32_t other_at = 0x4000;

std::uint8_t sum(Bytes bytes) {
    std::uint8_t total = 0;
    for (const std::byte byte : bytes)
        total = static_cast<std::uint8_t>(total + static_cast<std::uint8_t>(byte));
    return total;
}

// Physical memory with an RSDT, an XSDT and a MADT of three local APICs (0, 1, 2; the last one off but
// online-capable) and one local x2APIC (300).
class Tables {
public:
    Tables() : memory_(0x10000), rsdp_(36) {
        TestBytes madt(44);
        local_apic(madt, 0, 1);
        local_apic(madt, 1, 1);
        local_apic(madt, 2, 2);
        local_apic(madt, 3, 0);
        madt.append<std::uint8_t>(1);  // an I/O APIC: not ours
        madt.append<std::uint8_t>(12);
        for (int index = 0; index < 10; ++index) madt.append<std::uint8_t>(0xFF);
        madt.append<std::uint16_t>(0x1009);
        madt.append<std::uint16_t>(0);
        madt.append<std::uint32_t>(300);
        madt.append<std::uint32_t>(1);
        madt.append<std::uint32_t>(4);
        put_table(madt_at, "APIC", madt);
        put_table(other_at, "FACP", TestBytes(100));
        TestBytes rsdt(36);
        rsdt.append(other_at);
        rsdt.append(madt_at);
        put_table(rsdt_at, "RSDT", rsdt);
        TestBytes xsdt(36);
        xsdt.append(std::uint64_t{madt_at});
        put_table(xsdt_at, "XSDT", xsdt);
        for (std::size_t at = 0; at < 8; ++at) rsdp_.put(at, "RSD PTR "[at]);
        rsdp_.put<std::uint8_t>(15, 2);
        rsdp_.put(16, rsdt_at);
        rsdp_.put<std::uint64_t>(24, xsdt_at);
        rsdp_.put(8, static_cast<std::uint8_t>(0 - sum(rsdp_.view().first(20))));
    }

    auto keep_all(const std::vector<std::uint32_t>& apic_ids) {
        return keep_processors(memory_.data(), memory_.size(), rsdp_.view(), apic_ids);
    }
    auto keep(std::uint32_t apic_id) { return keep_all({apic_id}); }
    auto list(std::span<std::uint32_t> ids) {
        return list_processors(memory_.data(), memory_.size(), rsdp_.view(), ids);
    }
    [[nodiscard]] std::uint32_t flags(unsigned entry) const {
        return memory_.get<std::uint32_t>(entry < 4 ? madt_at + 44 + 8 * entry + 4
                                                    : madt_at + 44 + 32 + 12 + 8);
    }
    [[nodiscard]] std::uint8_t checksum() const {
        return sum(memory_.view().subspan(madt_at, memory_.get<std::uint32_t>(madt_at + 4)));
    }
    void put_table(std::uint32_t at, std::string_view signature, TestBytes table) {
        for (std::size_t index = 0; index < 4; ++index) table.put(index, signature[index]);
        table.put<std::uint32_t>(4, static_cast<std::uint32_t>(table.size()));
        table.put<std::uint8_t>(9, 0);
        table.put(9, static_cast<std::uint8_t>(0 - sum(table.view())));
        std::memcpy(memory_.data() + at, table.view().data(), table.size());
    }
    TestBytes& memory() { return memory_; }
    TestBytes& rsdp() { return rsdp_; }

private:
    static void local_apic(TestBytes& madt, std::uint8_t id, std::uint32_t flags) {
        madt.append<std::uint8_t>(0);
        madt.append<std::uint8_t>(8);
        madt.append(id);
        madt.append(id);
        madt.append(flags);
    }
    TestBytes memory_;
    TestBytes rsdp_;
};

TEST(ProcessorTable, OnlyTheBootProcessorStays) {
    Tables tables;
    const auto change = tables.keep(1);
    ASSERT_TRUE(change) << change.error().what;
    EXPECT_EQ(change->processors, 4u);
    EXPECT_EQ(change->disabled, 3u);
    EXPECT_EQ(tables.flags(0), 0u);
    EXPECT_EQ(tables.flags(1), 1u);
    EXPECT_EQ(tables.flags(2), 0u) << "online-capable goes as well";
    EXPECT_EQ(tables.flags(4), 0u) << "local x2APIC";
    EXPECT_EQ(tables.checksum(), 0);
}

TEST(ProcessorTable, SeveralStayAndTheOthersGo) {
    Tables tables;
    const auto change = tables.keep_all({0, 300});
    ASSERT_TRUE(change) << change.error().what;
    EXPECT_EQ(change->disabled, 2u);
    EXPECT_EQ(tables.flags(0), 1u);
    EXPECT_EQ(tables.flags(1), 0u);
    EXPECT_EQ(tables.flags(4), 1u);
    EXPECT_EQ(tables.checksum(), 0);
}

TEST(ProcessorTable, ListsEachEnabledProcessorOnceAsFarAsThereIsRoom) {
    Tables tables;
    std::array<std::uint32_t, 8> ids{};
    EXPECT_EQ(tables.list(ids).value(), 3u) << "0, 1 and 300, which the RSDT and the XSDT both lead to";
    EXPECT_EQ(ids[0], 0u);
    EXPECT_EQ(ids[1], 1u);
    EXPECT_EQ(ids[2], 300u);
    std::array<std::uint32_t, 2> few{};
    EXPECT_GE(tables.list(few).value(), 3u);
    EXPECT_EQ(few[1], 1u);
}

TEST(ProcessorTable, AnX2ApicIdKeepsItsEntry) {
    Tables tables;
    EXPECT_EQ(tables.keep(300)->disabled, 3u);
    EXPECT_EQ(tables.flags(4), 1u);
    EXPECT_EQ(tables.flags(0), 0u);
}

TEST(ProcessorTable, ATableOnlyTheXsdtKnowsIsFound) {
    Tables tables;
    tables.put_table(rsdt_at, "RSDT", TestBytes(36));
    EXPECT_EQ(tables.keep(0)->disabled, 3u);
    EXPECT_EQ(tables.checksum(), 0);
}

TEST(ProcessorTable, RevisionZeroHasNoXsdt) {
    Tables tables;
    tables.put_table(rsdt_at, "RSDT", TestBytes(36));
    tables.rsdp().put<std::uint8_t>(15, 0);
    tables.rsdp().put<std::uint8_t>(8, static_cast<std::uint8_t>(tables.rsdp().get<std::uint8_t>(8) + 2));
    EXPECT_EQ(tables.keep(0)->processors, 0u);
    EXPECT_EQ(tables.flags(1), 1u);
}

TEST(ProcessorTable, NoAcpiIsNoError) {
    const auto change = keep_processors(nullptr, 0, {}, std::array{0U});
    ASSERT_TRUE(change);
    EXPECT_EQ(change->processors, 0u);
}

TEST(ProcessorTable, CorruptTablesAreRefusedUnchanged) {
    Tables pointer;
    pointer.rsdp().put<std::uint8_t>(8, 0);
    EXPECT_EQ(pointer.keep(0).error().what, "ACPI's root pointer is corrupt");
    Tables far;
    far.rsdp().put<std::uint32_t>(16, 0xFFFFFFF0);
    far.rsdp().put<std::uint8_t>(8, 0);
    far.rsdp().put(8, static_cast<std::uint8_t>(0 - sum(far.rsdp().view().first(20))));
    EXPECT_EQ(far.keep(0).error().what, "ACPI's root table is corrupt, at");
    EXPECT_EQ(far.flags(1), 1u);
    Tables endless;
    TestBytes madt(44);
    madt.append<std::uint16_t>(0x0000);  // an entry of length 0
    endless.put_table(madt_at, "APIC", madt);
    EXPECT_EQ(endless.keep(0).error().what, "ACPI's table of processors is corrupt, at");
}

TEST(ProcessorTable, ATableWithAWrongChecksumIsLeftAlone) {
    Tables tables;
    tables.memory().put<std::uint8_t>(madt_at + 9, 0);
    EXPECT_EQ(tables.keep(0)->processors, 0u);
    EXPECT_EQ(tables.flags(1), 1u);
}

TEST(ProcessorTable, RandomDamageNeverReachesOutside) {
    std::mt19937 random{6};
    for (int round = 0; round < 3000; ++round) {
        Tables tables;
        const std::size_t size = tables.memory().get<std::uint32_t>(madt_at + 4);
        TestBytes madt(size);
        std::memcpy(madt.data(), tables.memory().data() + madt_at, size);
        for (auto flips = 1 + random() % 3; flips > 0; --flips) {
            madt.put(10 + random() % (size - 10), static_cast<std::uint8_t>(random()));
        }
        tables.put_table(madt_at, "APIC", madt);
        static_cast<void>(tables.keep(0));
        EXPECT_EQ(tables.checksum(), 0);
    }
}

}  // namespace
}  // namespace flatback::metal::processor_table_test
