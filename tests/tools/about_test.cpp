#include "tools/ground/about.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace flatback::tools::about_test {
namespace {

TEST(About, EveryJsonSaysWithWhatItWasMeasured) {
    for (const char* const text : {"{\n  \"values\": {\"a\": 1}\n}\n", "{}\n", "{\"events\":[]}"}) {
        const auto json = nlohmann::ordered_json::parse(with_about(text), nullptr, false);
        ASSERT_TRUE(json.is_object()) << with_about(text);
        const auto& about = json.front();
        EXPECT_EQ(json.begin().key(), "about");
        for (const char* const name : {"flatback", "commit", "date", "emulator", "kernel"})
            EXPECT_TRUE(about.contains(name)) << name;
        EXPECT_TRUE(about.at("flatback").is_string());
        const auto date = about.at("date").get<std::string>();
        ASSERT_EQ(date.size(), 20U) << date;
        EXPECT_EQ(date[10], 'T');
        EXPECT_EQ(date[19], 'Z');
        auto rest = json;
        rest.erase("about");
        EXPECT_EQ(rest, nlohmann::ordered_json::parse(text));
    }
}

TEST(About, AKernelsVersionIsReadFromItsHeader) {
    std::string image(0x400, '\0');
    image.replace(0x202, 4, "HdrS");
    image.replace(0x1FE, 2, "\x55\xAA");
    image[0x20F] = 0x01;  // 100H from 200H on
    image.replace(0x300, 11, "6.1.0-flat ");
    EXPECT_EQ(bzimage_version(image), "6.1.0-flat ");
    image[0x20F] = 0x7F;
    EXPECT_EQ(bzimage_version(image), "");
    EXPECT_EQ(bzimage_version(image.substr(0, 0x208)), "");
    EXPECT_EQ(bzimage_version(""), "");
}

}  // namespace
}  // namespace flatback::tools::about_test
