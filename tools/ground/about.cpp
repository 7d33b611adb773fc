#include "tools/ground/about.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <ctime>
#include <span>

#include "formats/bytes.hpp"
#include "formats/linux_boot.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/json.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

// The one line that a program prints; null where it cannot.
Json line_of(std::vector<std::string> arguments) {
    constexpr std::chrono::seconds limit{20};
    CommandLine command;
    command.arguments = std::move(arguments);
    const auto finished = run_to_end(std::move(command), limit);
    if (!finished || finished->status != 0) return nullptr;
    const std::string line = finished->output.substr(0, finished->output.find('\n'));
    return line.empty() ? Json(nullptr) : Json(line);
}

Json kernel_version() {
    const auto file = read_file(cache_directory() / "kernel" / "vmlinuz");
    const std::string version = file ? bzimage_version(text_of(*file)) : std::string{};
    return version.empty() ? Json(nullptr) : Json(version);
}

Json about() {
    const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    return {{"flatback", FLATBACK_VERSION},
            {"commit", line_of({"git", "-C", source_directory().string(), "describe", "--always", "--dirty",
                                "--abbrev=12", "--exclude=*"})},
            {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
            {"emulator", line_of({"dpkg-query", "-W", "-f", "${Package} ${Version}", "bochs"})},
            {"kernel", kernel_version()}};
}

}  // namespace

std::string with_about(std::string_view json) {
    const std::size_t brace = json.find('{');
    if (brace == std::string_view::npos) return std::string{json};
    // In its place in the text: a trace is too long to be read again.
    const std::size_t next = json.find_first_not_of(" \n", brace + 1);
    const bool empty = next == std::string_view::npos || json[next] == '}';
    return fmt::format("{}\n  \"about\": {}{}{}", json.substr(0, brace + 1),
                       about().dump(-1, ' ', false, Json::error_handler_t::replace), empty ? "\n" : ",",
                       json.substr(brace + 1));
}

std::string bzimage_version(std::string_view file) {
    namespace linux_boot = formats::linux_boot;
    constexpr std::size_t longest = 256;
    const std::span bytes = std::as_bytes(std::span{file});
    const auto text_at = formats::read<std::uint16_t>(bytes, linux_boot::offset::release_text);
    if (!text_at || *text_at == 0 || !linux_boot::is_bzimage(bytes)) return {};
    const std::size_t at = linux_boot::release_text_base + *text_at;
    if (at >= file.size()) return {};
    const std::string_view text = file.substr(at, longest);
    return std::string{text.substr(0, text.find('\0'))};
}

}  // namespace flatback::tools
