#include "tools/ground/about.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

using Json = nlohmann::ordered_json;

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

// Linux boot protocol (Documentation/arch/x86/boot.rst): kernel_version, 20EH, points to it from 200H on.
std::string bzimage_version(std::string_view file) {
    constexpr std::size_t pointer_at = 0x20E;
    constexpr std::size_t base = 0x200;
    constexpr std::size_t longest = 256;
    if (file.size() < pointer_at + 2 || file.substr(base + 2, 4) != "HdrS") return {};
    const std::size_t at = base + static_cast<unsigned char>(file[pointer_at]) +
                           (std::size_t{static_cast<unsigned char>(file[pointer_at + 1])} << 8U);
    if (at == base || at >= file.size()) return {};
    const std::string_view text = file.substr(at, longest);
    return std::string{text.substr(0, text.find('\0'))};
}

}  // namespace flatback::tools
