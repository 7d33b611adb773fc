#include "tools/emulator/serial_record.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::serial_record_test {
namespace {

template <typename Record>
Record parsed(std::string_view line) {
    const auto record = parse_serial_record(line);
    if (!record || !std::holds_alternative<Record>(*record)) {
        ADD_FAILURE() << "of another kind: " << line;
        return {};
    }
    return std::get<Record>(*record);
}

TEST(SerialRecord, LinesThatAreNoRecordsGiveNothing) {
    for (const char* line :
         {"", "[L0] hello", "flatback end", " FLATBACK end", "FLATBACKend", "xFLATBACK end"}) {
        EXPECT_FALSE(parse_serial_record(line).has_value()) << line;
    }
}

TEST(SerialRecord, EachKindIsRead) {
    EXPECT_EQ(parsed<StageRecord>("FLATBACK stage l1-user").name, "l1-user");
    EXPECT_EQ(parsed<ValueRecord>("FLATBACK value bare_l1.l1_cpuid 965").key, "bare_l1.l1_cpuid");
    EXPECT_EQ(parsed<ValueRecord>("FLATBACK value bare_l1.l1_cpuid 965").number, "965");
    EXPECT_EQ(parsed<TextRecord>("FLATBACK text l1.cpu_flags vmx ept  vpid").text, "vmx ept  vpid");
    EXPECT_TRUE(parsed<CheckRecord>("FLATBACK check vmxon.in-vmx-root pass").passed);
    EXPECT_EQ(parsed<ErrorRecord>("FLATBACK error L0: EPT is missing").what, "L0: EPT is missing");
    parsed<EndRecord>("FLATBACK end");
}

TEST(SerialRecord, AFailedCheckSaysWhy) {
    const auto record = parsed<CheckRecord>("FLATBACK check invept.bad-type fail error 12, not 28");
    EXPECT_FALSE(record.passed);
    EXPECT_EQ(record.name, "invept.bad-type");
    EXPECT_EQ(record.why, "error 12, not 28");
}

TEST(SerialRecord, ACheckThatIsNeitherPassNorFailIsMalformed) {
    for (const char* line :
         {"FLATBACK check x", "FLATBACK check x passed", "FLATBACK check x pass it", "FLATBACK check"}) {
        parsed<MalformedRecord>(line);
    }
}

TEST(SerialRecord, CarriageReturnsAtTheEndAreNotPartOfIt) {
    EXPECT_EQ(parsed<StageRecord>("FLATBACK stage l2\r").name, "l2");
    parsed<EndRecord>("FLATBACK end\r\r");
}

TEST(SerialRecord, AValueMayHaveAFraction) {
    EXPECT_EQ(parsed<ValueRecord>("FLATBACK value modes.off.per_l2_entry.l0_exits 4.75").number, "4.75");
}

TEST(SerialRecord, AValueThatIsNoDecimalNumberIsMalformed) {
    for (const char* number : {"", "-1", "0x10", "1e3", "12 13", "12a", ".5", "5.", "1.2.3", "4294967296l"}) {
        parsed<MalformedRecord>("FLATBACK value key " + std::string{number});
    }
}

TEST(SerialRecord, UnknownOrIncompleteKindsAreMalformed) {
    for (const char* line : {"FLATBACK", "FLATBACK ", "FLATBACK stage", "FLATBACK stage a b",
                             "FLATBACK end now", "FLATBACK error", "FLATBACK valve key 1"}) {
        parsed<MalformedRecord>(line);
    }
}

}  // namespace
}  // namespace flatback::tools::serial_record_test
