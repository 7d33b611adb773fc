#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <sstream>

#include "tools/image/linux_guest.hpp"

namespace flatback::tools {
namespace {

std::optional<unsigned> number(const std::string& text, int base) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

Result<std::string> substitute(std::string text,
                               const std::map<std::string, std::filesystem::path>& variables) {
    for (std::size_t start = text.find("${"); start != std::string::npos; start = text.find("${", start)) {
        const std::size_t end = text.find('}', start);
        const std::string name = text.substr(start + 2, end - start - 2);
        const auto variable = variables.find(name);
        if (end == std::string::npos || variable == variables.end()) {
            return fail(ExitStatus::input_file, fmt::format("unknown variable {}", name));
        }
        text.replace(start, end - start + 1, variable->second.string());
        start += variable->second.string().size();
    }
    return text;
}

Result<InitramfsEntry> entry_from(const std::vector<std::string>& words,
                                  const std::map<std::string, std::filesystem::path>& variables) {
    using Kind = InitramfsEntry::Kind;
    constexpr unsigned link_mode = 0777;
    InitramfsEntry entry;
    entry.path = words.size() > 1 ? words[1] : "";
    const std::string& kind = words[0];
    const auto mode = words.size() > 2 ? number(words[2], 8) : std::nullopt;
    if (kind == "slink" && words.size() == 3) {
        entry.kind = Kind::symbolic_link;
        entry.mode = link_mode;
        entry.target = words[2];
        return entry;
    }
    if (!mode) return fail(ExitStatus::input_file, "no octal mode");
    entry.mode = *mode;
    if (kind == "dir" && words.size() == 3) {
        entry.kind = Kind::directory;
        return entry;
    }
    if (kind == "file" && words.size() == 4) {
        const std::string source = TRY(substitute(words[3], variables));
        entry.contents = TRY(read_file(source));
        return entry;
    }
    if (kind == "nod" && words.size() == 6 && words[3] == "c") {
        const auto major = number(words[4], 10);
        const auto minor = number(words[5], 10);
        if (!major || !minor) return fail(ExitStatus::input_file, "a device's numbers are not decimal");
        entry.kind = Kind::character_device;
        entry.major = *major;
        entry.minor = *minor;
        return entry;
    }
    return fail(ExitStatus::input_file, "not a dir, file, slink or nod line");
}

}  // namespace

Result<std::vector<InitramfsEntry>> read_initramfs_list(
    std::string_view list, const std::map<std::string, std::filesystem::path>& variables) {
    std::vector<InitramfsEntry> entries;
    std::istringstream lines{std::string{list}};
    std::string line;
    for (unsigned number_of_line = 1; std::getline(lines, line); ++number_of_line) {
        std::vector<std::string> words;
        std::istringstream stream{line};
        for (std::string word; stream >> word;) words.push_back(word);
        if (words.empty() || words[0].starts_with('#')) continue;
        auto entry = entry_from(words, variables);
        if (!entry) {
            return fail(entry.error().status,
                        fmt::format("initramfs list, line {}: {}", number_of_line, entry.error().message));
        }
        entries.push_back(std::move(*entry));
    }
    return entries;
}

}  // namespace flatback::tools
