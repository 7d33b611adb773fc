#include "formats/linux_boot.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flatback::formats::linux_boot_test {
namespace {

std::vector<std::byte> bzimage(std::uint8_t sectors) {
    std::vector<std::byte> file(0x400);
    file[0x1F1] = std::byte{sectors};
    EXPECT_TRUE(write(file, 0x1FE, std::uint16_t{0xAA55}));
    std::memcpy(&file[0x202], "HdrS", 4);
    return file;
}

TEST(LinuxBoot, ABzImageIsKnownByItsTwoMarks) {
    auto file = bzimage(4);
    EXPECT_TRUE(linux_boot::is_bzimage(file));
    file[0x1FE] = std::byte{0};
    EXPECT_FALSE(linux_boot::is_bzimage(file));
    EXPECT_FALSE(linux_boot::is_bzimage(Bytes{bzimage(4)}.first(0x205)));
    EXPECT_FALSE(linux_boot::is_bzimage({}));
}

TEST(LinuxBoot, TheKernelBeginsBehindItsSetupSectors) {
    EXPECT_EQ(linux_boot::kernel_offset(bzimage(27)), 28U * 512);
    EXPECT_EQ(linux_boot::kernel_offset(bzimage(255)), 256U * 512);
    EXPECT_EQ(linux_boot::kernel_offset(bzimage(0)), 5U * 512);  // 0 means 4
}

}  // namespace
}  // namespace flatback::formats::linux_boot_test
