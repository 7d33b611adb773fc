#include "tools/emulator/screen_frames.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tools/ground/child_process.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::screen_frames_test {
namespace {

// A window of the emulator's: its bars red, what the guest shows blue.
void write_frame(const std::filesystem::path& directory, unsigned number) {
    const auto made =
        run_to_end({{"convert", "-size", "64x100", "xc:red", "-fill", "blue", "-draw", "rectangle 0,32 63,81",
                     "bmp:" + (directory / fmt::format("SDL_window1-{:08}.bmp", number)).string()},
                    {},
                    {},
                    {},
                    {}},
                   std::chrono::seconds{60});
    ASSERT_TRUE(made.has_value());
    ASSERT_EQ(made->status, 0) << made->output;
}

TEST(ScreenFrames, TheNewestOneWithoutTheEmulatorsBars) {
    const auto directory = TemporaryDirectory::create();
    ASSERT_TRUE(directory);
    ScreenFrames frames{directory->path()};
    const auto png = directory->path() / "screen.png";
    EXPECT_EQ(frames.write_png(png).error().status, ExitStatus::incomplete);
    for (const unsigned number : {1U, 2U, 3U}) write_frame(directory->path(), number);
    // Bochs was ended while it wrote the last one.
    std::ofstream(directory->path() / "SDL_window1-00000004.bmp") << "BM";
    frames.forget_older();
    EXPECT_FALSE(std::filesystem::exists(directory->path() / "SDL_window1-00000002.bmp"));
    EXPECT_TRUE(std::filesystem::exists(directory->path() / "SDL_window1-00000003.bmp"));
    ASSERT_TRUE(frames.write_png(png));
    const auto looked_at =
        run_to_end({{"identify", "-format", "%m %wx%h %k %[pixel:p{0,0}]", png.string()}, {}, {}, {}, {}},
                   std::chrono::seconds{60});
    ASSERT_TRUE(looked_at.has_value());
    EXPECT_EQ(looked_at->output.substr(0, 11), "PNG 64x50 1");
    EXPECT_NE(looked_at->output.find("0,0,255"), std::string::npos) << looked_at->output;
}

}  // namespace
}  // namespace flatback::tools::screen_frames_test
