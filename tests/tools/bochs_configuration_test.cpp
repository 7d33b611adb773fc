#include "tools/emulator/bochs_configuration.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace flatback::tools::bochs_configuration_test {
namespace {

TEST(CmosImage, TellsTheFirmwareTheMemory) {
    const auto word = [](const std::array<std::uint8_t, 128>& cmos, std::size_t index) {
        return cmos[index] | cmos[index + 1] << 8;
    };
    for (const unsigned memory : {least_memory, 256U, 1024U, most_memory}) {
        const auto cmos = cmos_image(memory);
        EXPECT_EQ(word(cmos, 0x15), 640);
        EXPECT_EQ(word(cmos, 0x30), 0xFC00);
        // 16 MB and what is above, in units of 64 KB, is all of it.
        EXPECT_EQ(static_cast<unsigned>(word(cmos, 0x34)) / 16 + 16, memory);
        EXPECT_EQ(cmos[0x2E] << 8 | cmos[0x2F], std::accumulate(cmos.begin() + 0x10, cmos.begin() + 0x2E, 0));
    }
}

TEST(BochsConfiguration, NeverListensAndNeverAsks) {
    EmulatedPc pc;
    pc.memory = 3000;
    pc.processors = 4;
    pc.image = "/d/boot.iso";
    const std::string text = bochs_configuration(pc);
    EXPECT_EQ(text.find("rfb"), std::string::npos);
    EXPECT_EQ(text.find("action=ask"), std::string::npos);
    EXPECT_NE(text.find("cpu: model=corei7_skylake_x, count=1:4:1, mwait_is_nop=1, "), std::string::npos);
    EXPECT_NE(text.find("memory: guest=3000, host=2048\n"), std::string::npos);
    EXPECT_NE(text.find("path=/d/boot.iso, "), std::string::npos);
}

TEST(BochsConfiguration, BootsFromADiskAndByUefi) {
    EmulatedPc pc;
    pc.image = "boot.iso";
    EXPECT_NE(bochs_configuration(pc).find("\nboot: cdrom\nata0: enabled=1\nata0-master: type=cdrom, "),
              std::string::npos);
    EXPECT_EQ(bochs_configuration(pc).find("OVMF"), std::string::npos);
    pc.medium = Medium::disk;
    pc.firmware = Firmware::uefi;
    const std::string text = bochs_configuration(pc);
    EXPECT_NE(text.find("\nboot: disk\nata0: enabled=1\nata0-master: type=disk, mode=flat, path=boot.iso\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("romimage: file=/usr/share/ovmf/OVMF.fd\n"), std::string::npos);
    EXPECT_EQ(text.find("cdrom"), std::string::npos);
    EXPECT_EQ(cmos_image(least_memory, Medium::disk)[0x3D], 2);
    EXPECT_EQ(cmos_image(least_memory, Medium::cd)[0x3D], 3);
}

TEST(BochsConfiguration, HasADiskWhereOneIsGiven) {
    EmulatedPc pc;
    EXPECT_EQ(bochs_configuration(pc).find("type=disk"), std::string::npos);
    pc.disk = "disk.img";
    EXPECT_NE(bochs_configuration(pc).find("\nata0-slave: type=disk, mode=flat, path=disk.img\n"),
              std::string::npos);
}

}  // namespace
}  // namespace flatback::tools::bochs_configuration_test
