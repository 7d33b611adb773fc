#include "guests/linux/kvm_counters.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace flatback::guests::kvm_counters_test {
namespace {

TEST(DebugfsNumber, IsDigitsAndANewline) {
    EXPECT_EQ(parse_debugfs_number("0\n"), 0U);
    EXPECT_EQ(parse_debugfs_number("12345\n"), 12345U);
    EXPECT_EQ(parse_debugfs_number("7"), 7U);
    EXPECT_EQ(parse_debugfs_number("18446744073709551615\n"), 18446744073709551615ULL);
}

TEST(DebugfsNumber, AnythingElseIsNone) {
    for (const char* text : {"", "\n", "-1\n", "+1\n", " 1\n", "1 \n", "1\n\n", "1\n2\n", "0x10\n", "1.5\n",
                             "one\n", "18446744073709551616\n"}) {
        EXPECT_EQ(parse_debugfs_number(text), std::nullopt) << text;
    }
}

/// A folder that looks like KVM's.
class KvmCounters : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "kvm-counters-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory_ = name;
        put("exits", "300\n");
        put("nested_run", "40\n");
        put("tlb_flush", "5\n");
        put("halt_exits", "99\n");
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    void put(const std::string& name, const std::string& text) const {
        std::ofstream(directory_ / name) << text;
    }
    [[nodiscard]] Expected<std::unique_ptr<CounterSource>> open() const {
        return open_counter_source("kvm:" + directory_.string());
    }

    std::filesystem::path directory_;
};

TEST_F(KvmCounters, AreReadAnewEachTime) {
    const auto source = open();
    ASSERT_TRUE(source.has_value()) << source.error();
    EXPECT_EQ((*source)->read(), (CounterTotals{40, 300, 5, 0}));
    put("exits", "301\n");
    EXPECT_EQ((*source)->read(), (CounterTotals{40, 301, 5, 0}));
}

TEST_F(KvmCounters, AMissingFileIsNamed) {
    std::filesystem::remove(directory_ / "nested_run");
    const auto source = open();
    ASSERT_FALSE(source.has_value());
    EXPECT_NE(source.error().find("nested_run"), std::string::npos) << source.error();
}

TEST_F(KvmCounters, AFileThatHoldsNoNumberIsNamed) {
    const auto source = open();
    ASSERT_TRUE(source.has_value());
    for (const char* text : {"", "many\n", "123456789012345678901234567890123456789\n"}) {
        put("tlb_flush", text);
        const auto totals = (*source)->read();
        ASSERT_FALSE(totals.has_value()) << text;
        EXPECT_NE(totals.error().find("tlb_flush"), std::string::npos) << totals.error();
    }
}

}  // namespace
}  // namespace flatback::guests::kvm_counters_test
