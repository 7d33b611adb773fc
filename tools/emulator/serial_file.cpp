#include "tools/emulator/serial_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "tools/ground/printable.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds between{1};
constexpr std::size_t most_of_a_line = 60;

}  // namespace

SerialFile::SerialFile(const std::filesystem::path& path)
    : path_{path},
      file_{path, std::ios::binary},
      terminal_{::isatty(STDERR_FILENO) == 1},
      start_{std::chrono::steady_clock::now()},
      shown_{start_} {}

Result<SerialFile> SerialFile::create(const std::filesystem::path& path) {
    SerialFile file{path};
    if (!file.file_) return fail(ExitStatus::output_file, fmt::format("cannot write {}", path.string()));
    return file;
}

void SerialFile::append(std::string_view bytes) {
    file_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file_.flush();
    count_ += bytes.size();
}

void SerialFile::show_progress(const Transcript& transcript) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - shown_ < between) return;
    shown_ = now;
    // Cut before it is made printable: a character may become several, but none becomes half.
    const std::string_view line = std::string_view{transcript.last_line()}.substr(0, most_of_a_line);
    fmt::print(stderr, "\r{} s, {} bytes: {}\033[K",
               std::chrono::duration_cast<std::chrono::seconds>(now - start_).count(), count_,
               printable(line));
    std::fflush(stderr);
}

Result<> SerialFile::finish() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
    file_.close();
    if (!file_) return fail(ExitStatus::output_file, fmt::format("cannot write all of {}", path_.string()));
    return {};
}

}  // namespace flatback::tools
