#include "tools/check/host_tests.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tools/check/tidy.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/debian_package.hpp"

namespace flatback::tools::host_tests_test {
namespace {

TEST(Junit, OnlyATestThatRanAndPassedCountsAsPassed) {
    const auto results = parse_junit(
        "<testsuite tests=\"4\">\n"
        "<testcase name=\"a.B.C\" classname=\"a\" time=\"1\" status=\"run\">\n<system-out/></testcase>\n"
        "<testcase name=\"a.B.D\" classname=\"a\" time=\"1\" status=\"fail\"><failure message=\"\"/>"
        "<system-out>[ RUN ]\n/r/t.cpp:7: Failure\nValue of: x\n  Actual: 1 &lt; "
        "2\n</system-out></testcase>\n"
        "<testcase name=\"a.B.E\" classname=\"a\" time=\"1\" status=\"notrun\"></testcase>\n"
        "<testcase name=\"a.B.F\" classname=\"a\" time=\"1\" status=\"disabled\"></testcase></testsuite>\n");
    ASSERT_EQ(results.size(), 4U);
    EXPECT_EQ(results[0].name, "a.B.C");
    EXPECT_TRUE(results[0].passed);
    EXPECT_EQ(results[1].why, "/r/t.cpp:7: Failure Value of: x");
    for (std::size_t index = 1; index < results.size(); ++index) EXPECT_FALSE(results[index].passed) << index;
}

TEST(TestReport, CountsAndCloses) {
    TestReport report{"boot"};
    EXPECT_TRUE(report.selects("boot.bare"));
    EXPECT_FALSE(report.selects("tidy"));
    testing::internal::CaptureStdout();
    report.pass("a");
    report.pass("b");
    report.fail("c", "why\nand how");
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "ok      a\nok      b\nFAILED  c: why\nand how\n");
    EXPECT_EQ(report.closing(), "\nwhat failed, once more:\nFAILED  c: why\n2 passed, 1 failed");
    EXPECT_EQ(TestReport{""}.closing(), "0 passed, 0 failed");
}

TEST(Tidy, TheDatabaseKeepsEachSourceOnceAndNoTests) {
    const auto reduced = reduced_database(
        R"([{"file": "/r/tag/a.cpp", "command": "g++ -O2 -mgeneral-regs-only -Wuseless-cast -c a"}, {"file": "/r/tag/a.cpp", "command": "second"},
            {"file": "/r/tests/tag/t.cpp"}, {"file": "/r/metal/boot.S"}, {"file": "/r/build/x.cpp"},
            {"file": "/r/guests/n.cpp", "command": "g++ -m32 -c n"}, {"file": "/elsewhere/b.cpp"}, {"file": "/r/fuzz/f.cpp"}, {"file": "/r/vmx/c.cpp"}])",
        "/r");
    ASSERT_TRUE(reduced.has_value());
    EXPECT_EQ(*reduced, R"([{"command":"g++ -O2 -c a","file":"/r/tag/a.cpp"},{"file":"/r/vmx/c.cpp"}])");
    EXPECT_FALSE(reduced_database("{", "/r").has_value());
    EXPECT_FALSE(reduced_database("[{}]", "/r").has_value());
}

TEST(Tidy, ASourceThatIsCompiledWithOthersIsLookedAtAlone) {
    const auto directory = TemporaryDirectory::create();
    ASSERT_TRUE(directory.has_value());
    const std::filesystem::path unity = directory->path() / "Unity";
    ASSERT_TRUE(make_directory(unity).has_value());
    const std::string together = (unity / "unity_0_cxx.cxx").string();
    const std::string database =
        R"([{"command": "g++ -O1 -o x.o -c )" + together + R"(", "file": ")" + together + R"("}])";
    EXPECT_FALSE(reduced_database(database, "/r").has_value());  // it is to say what it includes
    ASSERT_TRUE(write_file(together,
                           "/* */\n\n#include \"/r/tag/a.cpp\"\n\n#include \"/r/tests/t.cpp\"\n\n"
                           "#include \"/r/tag/b.cpp\"\n")
                    .has_value());
    const auto reduced = reduced_database(database, "/r");
    ASSERT_TRUE(reduced.has_value());
    EXPECT_EQ(*reduced, R"([{"command":"g++ -O1 -o x.o -c /r/tag/a.cpp","file":"/r/tag/a.cpp"},)"
                        R"({"command":"g++ -O1 -o x.o -c /r/tag/b.cpp","file":"/r/tag/b.cpp"}])");
}

TEST(DebianPackage, TheKernelIsWhatTheMetapackageDependsOn) {
    EXPECT_EQ(kernel_dependency(
                  "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\nSize: 1\n"),
              "linux-image-6.1.0-56-amd64");
    EXPECT_EQ(kernel_dependency("Depends: other, linux-image-6.12.1-amd64\n"), "linux-image-6.12.1-amd64");
    EXPECT_EQ(kernel_dependency("Package: linux-image-amd64\nSuggests: linux-image-x\n"), "");
    EXPECT_EQ(kernel_dependency(""), "");
}

TEST(Excerpt, FindingsAreTheLinesOfErrorsAndWarnings) {
    EXPECT_EQ(findings("a.cpp:1:2: warning: x\n   code\nb.cpp:3:4: error: y\nnote"),
              "\na.cpp:1:2: warning: x\nb.cpp:3:4: error: y");
}

TEST(Excerpt, ColoursDoNotHideAFinding) {
    EXPECT_EQ(findings("\x1b[1ma.cpp:1:2: \x1b[0m\x1b[0;1;31merror: \x1b[0mx\x1b["), "\na.cpp:1:2: error: x");
}

TEST(Excerpt, LastLinesAreTheEnd) {
    std::string text;
    for (int line = 0; line < 1000; ++line) text += std::to_string(line) + "\n";
    const std::string end = last_lines(text);
    EXPECT_TRUE(end.ends_with("998\n999\n"));
    EXPECT_EQ(end.find("500"), std::string::npos);
    EXPECT_EQ(last_lines("short"), "short");
}

}  // namespace
}  // namespace flatback::tools::host_tests_test
