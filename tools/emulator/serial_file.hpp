// The serial output of a run in a file, byte by byte as the guest sends it, and a line that tells how far it
// is.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tools/emulator/transcript.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

class SerialFile final {
public:
    // Error: output_file.
    [[nodiscard]] static Result<SerialFile> create(const std::filesystem::path& path);

    // The bytes are in the file when this returns.
    void append(std::string_view bytes);

    // On standard error, where that is a terminal: about once a second, in one line that stays one.
    void show_progress(const Transcript& transcript);

    // Ends that line. Error: output_file, where not all of the bytes could be written.
    [[nodiscard]] Result<> finish();

private:
    explicit SerialFile(const std::filesystem::path& path);

    std::filesystem::path path_;
    std::ofstream file_;
    std::size_t count_ = 0;
    bool terminal_;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point shown_;
};

}  // namespace flatback::tools
