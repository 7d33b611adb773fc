#include <gtest/gtest.h>

#include <algorithm>

#include "tools/ground/temporary_directory.hpp"
#include "tools/image/linux_guest.hpp"

namespace flatback::tools::initramfs_test {
namespace {

TEST(InitramfsList, EachKindOfLineBecomesAnEntry) {
    const auto directory = TemporaryDirectory::create();
    ASSERT_TRUE(directory.has_value());
    ASSERT_TRUE(write_file(directory->path() / "program", "contents").has_value());
    const auto entries = read_initramfs_list(
        "# a comment\n\ndir /bin 755\nfile /bin/p 750 ${FOLDER}/program\nslink /bin/sh p\nnod /dev/console "
        "600 c 5 1\n",
        {{"FOLDER", directory->path()}});
    ASSERT_TRUE(entries.has_value()) << entries.error().message;
    ASSERT_EQ(entries->size(), 4U);
    EXPECT_EQ((*entries)[0].mode, 0755U);
    EXPECT_EQ(text_of((*entries)[1].contents), "contents");
    EXPECT_EQ((*entries)[2].target, "p");
    EXPECT_EQ((*entries)[3].major, 5U);

    const auto image = make_initramfs(*entries);
    ASSERT_TRUE(image.has_value());
    const std::string_view text = text_of(*image);
    EXPECT_TRUE(text.starts_with("070701"));  // newc, the only form that Linux unpacks
    for (const char* part : {"bin/p", "contents", "dev/console", "TRAILER!!!"}) {
        EXPECT_NE(text.find(part), std::string::npos) << part;
    }
}

TEST(InitramfsList, ABadLineIsNamedByItsNumber) {
    for (const char* line :
         {"dir /bin", "dir /bin 9", "file /x 644", "file /x 644 /nowhere/at/all", "nod /x 600 b 1 2",
          "nod /x 600 c one 2", "file /x 644 ${UNKNOWN}", "file /x 644 ${UNENDED", "pipe /x 600"}) {
        const auto entries = read_initramfs_list(std::string{"dir / 755\n"} + line + "\n", {});
        ASSERT_FALSE(entries.has_value()) << line;
        EXPECT_NE(entries.error().message.find("line 2"), std::string::npos) << entries.error().message;
    }
}

TEST(LinuxCommandLine, IsTheListsWordsWithTheRateOfTheEmulatedClock) {
    const auto command_line =
        linux_command_line("# reason\n\nquiet\ntsc_early_khz=${IPS_KHZ}\n", "flatback.ept=0");
    ASSERT_TRUE(command_line.has_value());
    EXPECT_EQ(*command_line, "panic=-1 quiet tsc_early_khz=1000000 flatback.ept=0");
    EXPECT_FALSE(linux_command_line("a=${OTHER}\n").has_value());
}

}  // namespace
}  // namespace flatback::tools::initramfs_test
