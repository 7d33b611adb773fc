#include "tools/ground/excerpt.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace flatback::tools {
namespace {

constexpr std::size_t most_lines = 80;

// Without the escape sequences of colours (ESC [ … m).
std::string plain(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t escape = std::min(text.find("\x1b["), text.size());
        result += text.substr(0, escape);
        text.remove_prefix(escape);
        if (!text.empty()) text.remove_prefix(std::min(text.find('m'), text.size() - 1) + 1);
    }
    return result;
}

}  // namespace

std::string last_lines(std::string_view text, std::size_t most) {
    std::size_t start = text.size();
    for (std::size_t lines = 0; lines <= most && start != std::string_view::npos && start > 0; ++lines) {
        start = text.rfind('\n', start - 1);
    }
    return std::string{start == std::string_view::npos ? text : text.substr(start)};
}

std::string findings(std::string_view output) {
    const std::string without_colours = plain(output);
    std::string_view text = without_colours;
    std::string found;
    std::size_t count = 0;
    while (!text.empty() && count < most_lines) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        if (line.find(": error:") != std::string_view::npos ||
            line.find(": warning:") != std::string_view::npos) {
            found += fmt::format("\n{}", line);
            ++count;
        }
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return found;
}

}  // namespace flatback::tools
