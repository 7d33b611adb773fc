#include "tools/check/register_records.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::register_records_test {
namespace {

// Each of `lines` has the words at its place in `words`, and there is no other.
void expect_lines(const std::vector<std::string>& lines, const std::vector<std::string>& words) {
    ASSERT_EQ(lines.size(), words.size());
    for (std::size_t i = 0; i < lines.size(); ++i)
        EXPECT_NE(lines[i].find(words[i]), std::string::npos) << lines[i];
}

const RegisterRecords direct{{"cr0", "value=0x1 faults=0x2"}, {"cr0.values", "0x1:0x1 0x2:fault"}};

TEST(RegisterRecords, AreEqual) {
    const auto result = compare_registers(direct, direct, {});
    expect_lines(result.unexpected, {});
    expect_lines(result.deliberate, {});
}

TEST(RegisterRecords, DifferByPart) {
    const RegisterRecords other{{"cr0", "value=0x1 faults=0x3"}, {"cr0.values", "0x1:0x1 0x2:0x2"}};
    expect_lines(compare_registers(direct, other, {}).unexpected,
                 {"cr0 faults: 0x2 without L0, 0x3 on L0", "cr0.values all"});
    const auto listed =
        compare_registers(direct, other, {{"cr0", "faults", "so"}, {"cr0.*", "all", "or so"}});
    expect_lines(listed.unexpected, {});
    expect_lines(listed.deliberate, {": so", ": or so"});
}

TEST(RegisterRecords, WhatCannotBeReadHasNoValue) {
    const RegisterRecords other{{"cr0", "unreadable faults=0x2"}, {"cr0.values", "0x1:0x1 0x2:fault"}};
    expect_lines(compare_registers(direct, other, {}).unexpected, {"unreadable on L0"});
}

TEST(RegisterRecords, AnEntryThatDoesNotDifferIsWrong) {
    expect_lines(compare_registers(direct, direct, {{"cr0", "faults", "so"}}).unexpected,
                 {"does not differ"});
}

TEST(RegisterRecords, ARegisterOfOneRunOnlyIsWrong) {
    expect_lines(compare_registers(direct, {{"cr0", "value=0x1 faults=0x2"}}, {}).unexpected,
                 {"cr0.values: only without L0"});
}

}  // namespace
}  // namespace flatback::tools::register_records_test
