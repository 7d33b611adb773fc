#include "tools/emulator/screen_frames.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <vector>

#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view converter = "convert";
constexpr std::chrono::seconds convert_limit{60};

// Of Bochs' window, in pixels: the bar with its buttons, and the one with its lights.
constexpr unsigned header_bar = 32;
constexpr unsigned status_bar = 18;

// SDL_window1-00000042.bmp: by name they are in the order of time.
std::vector<std::filesystem::path> frames_in(const std::filesystem::path& directory) {
    std::vector<std::filesystem::path> frames;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{directory, ignored}) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("SDL_window") && name.ends_with(".bmp")) frames.push_back(entry.path());
    }
    std::ranges::sort(frames);
    return frames;
}

}  // namespace

void ScreenFrames::forget_older() {
    constexpr std::size_t kept = 2;
    const auto frames = frames_in(directory_);
    std::error_code ignored;
    for (std::size_t index = 0; index + kept < frames.size(); ++index)
        std::filesystem::remove(frames[index], ignored);
}

Result<> ScreenFrames::write_png(const std::filesystem::path& to) const {
    TRY(check_screen_writer());
    auto frames = frames_in(directory_);
    std::string said = "nothing was shown";
    // Bochs may have been ended while it wrote the last one.
    for (; !frames.empty(); frames.pop_back()) {
        CommandLine command;
        command.arguments = {std::string{converter},
                             "bmp:" + frames.back().string(),
                             "-gravity",
                             "north",
                             "-chop",
                             fmt::format("0x{}", header_bar),
                             "-gravity",
                             "south",
                             "-chop",
                             fmt::format("0x{}", status_bar),
                             "-strip",
                             "png:" + std::filesystem::absolute(to).string()};
        const Finished finished = TRY(run_to_end(std::move(command), convert_limit));
        if (finished.status == 0) return {};
        said = last_lines(finished.output);
    }
    return fail(ExitStatus::incomplete, fmt::format("no screen for {}: {}", to.string(), said));
}

Result<> check_screen_writer() {
    if (program_exists(std::string{converter})) return {};
    return fail(ExitStatus::missing_program, fmt::format("{} is not there: install imagemagick", converter));
}

}  // namespace flatback::tools
