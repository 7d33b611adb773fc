// What the emulated machine's screen shows. Bochs' display is SDL's dummy driver, which writes each frame
// that it is given as a file where Bochs runs.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "tools/ground/error.hpp"

namespace flatback::tools {

class ScreenFrames final {
public:
    // What makes the driver write them: NAME=VALUE for Bochs' environment.
    static constexpr std::string_view environment = "SDL_VIDEO_DUMMY_SAVE_FRAMES=1";

    explicit ScreenFrames(std::filesystem::path directory) : directory_{std::move(directory)} {}

    // Removes all but the two newest, of which the last may not be whole yet.
    void forget_older();

    // Writes the newest that is whole as a PNG file, without the emulator's own bars above and below, once
    // Bochs has ended. Error: incomplete where nothing was shown, missing_program, output_file.
    [[nodiscard]] Result<> write_png(const std::filesystem::path& to) const;

private:
    std::filesystem::path directory_;
};

// Error: missing_program where ImageMagick's convert, which writes the PNG file, is not there.
[[nodiscard]] Result<> check_screen_writer();

}  // namespace flatback::tools
