// A file that another program appends to.
#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace flatback::tools {

// Gives `sink` what a growing file has more than at the last call.
template <typename Sink>
void read_more(std::ifstream& stream, const std::filesystem::path& path, const Sink& sink) {
    if (!stream.is_open()) stream.open(path, std::ios::binary);
    if (!stream.is_open()) return;
    stream.clear();
    std::array<char, 64 * 1024> buffer;
    for (;;) {
        stream.read(buffer.data(), buffer.size());
        const auto count = static_cast<std::size_t>(stream.gcount());
        if (count == 0) return;
        sink(std::string_view{buffer.data(), count});
    }
}

}  // namespace flatback::tools
