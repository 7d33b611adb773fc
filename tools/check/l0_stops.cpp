#include "tools/check/l0_stops.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "tools/ground/hexadecimal.hpp"

namespace flatback::tools {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (std::size_t end = text.find(separator); end != std::string_view::npos; end = text.find(separator)) {
        parts.push_back(text.substr(0, end));
        text.remove_prefix(end + 1);
    }
    parts.push_back(text);
    return parts;
}

struct Expected {
    std::string processor;
    std::string place;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

// "L1 0x1000 0x1008", under the key "l0_stops.2".
std::optional<Expected> expected_of(std::string_view key, std::string_view text) {
    constexpr std::string_view prefix = "l0_stops.";
    if (!key.starts_with(prefix)) return std::nullopt;
    const std::vector<std::string_view> words = split(text, ' ');
    if (words.size() != 3) return std::nullopt;
    return Expected{.processor = std::string{key.substr(prefix.size())},
                    .place = std::string{words[0]},
                    .begin = hexadecimal_number(words[1]).value_or(0),
                    .end = hexadecimal_number(words[2]).value_or(0)};
}

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines = split(text, '\n');
    for (std::string_view& line : lines) {
        while (line.ends_with('\r')) line.remove_suffix(1);
    }
    return lines;
}

// `said`: the line of L0's behind "[L0] processor N ".
bool is_said(const Expected& expected, std::string_view said) {
    if (expected.place == "waits") return said == "waited for L1 to start it";
    if (expected.place == "ends") return said.starts_with("was in L0, at 0x");
    const std::string beginning =
        fmt::format("was in {}, at 0x", expected.place == "L2" ? "a guest of L1's" : expected.place);
    if (!said.starts_with(beginning)) return false;
    const std::string_view digits = said.substr(beginning.size());
    const auto at = hexadecimal_number(digits);
    return at && fmt::format("{:x}", *at) == digits && *at >= expected.begin && *at < expected.end;
}

// "[L0]   tsc 123 processor 1 L2 exits: ...", where L0 has recorded any: what is wrong with them.
std::string what_events_lack(const std::vector<std::string_view>& lines) {
    constexpr std::string_view heading = "[L0] the last events, newest last:";
    auto line = std::ranges::find(lines, heading);
    if (line == lines.end()) return {};
    std::uint64_t last = 0;
    std::set<std::string_view> processors;
    for (++line; line != lines.end(); ++line) {
        const std::vector<std::string_view> words = split(*line, ' ');
        constexpr std::size_t tick = 4;
        constexpr std::size_t processor = 6;
        if (words.size() <= processor || words[tick - 1] != "tsc") break;
        if (words[processor - 1] != "processor") return fmt::format("no processor in \"{}\"", *line);
        std::uint64_t at = 0;
        std::from_chars(words[tick].data(), words[tick].data() + words[tick].size(), at);
        if (at < last) return fmt::format("\"{}\" is older than the event before", *line);
        last = at;
        processors.insert(words[processor]);
    }
    if (processors.size() < 2) return fmt::format("events of {} processors", processors.size());
    return {};
}

}  // namespace

std::string what_ended_l0_lacks(const Transcript& transcript) {
    const auto lines = lines_of(transcript.text());
    const auto errors = std::ranges::count_if(lines, [](std::string_view line) {
        return line.starts_with("FLATBACK ") && line.find(" error L0: ") != std::string_view::npos;
    });
    if (errors != 1) return fmt::format("L0 says {} times why it ended", errors);
    std::string lacks;
    unsigned told = 0;
    unsigned silent = 0;  // of those that ended L0: the one that says so is not among the others
    for (const auto& [key, text] : transcript.texts()) {
        const auto expected = expected_of(key, text);
        if (!expected) continue;
        ++told;
        const std::string beginning = fmt::format("[L0] processor {} ", expected->processor);
        std::vector<std::string_view> said;
        for (const std::string_view line : lines) {
            if (line.starts_with(beginning)) said.push_back(line.substr(beginning.size()));
        }
        const bool may_be_silent = expected->place.starts_with("ends");
        if (may_be_silent && said.empty()) {
            ++silent;
        } else if (expected->place == "ends-alone" || said.size() != 1 || !is_said(*expected, said.front())) {
            lacks += fmt::format("{}of processor {} ({}) L0 says \"{}\"", lacks.empty() ? "" : "; ",
                                 expected->processor, text, said.empty() ? "" : said.front());
        }
    }
    if (told == 0) return "no processor told where it would be";
    if (lacks.empty() && silent != 1) return fmt::format("{} processors ended L0 without a word", silent);
    return lacks.empty() ? what_events_lack(lines) : lacks;
}

}  // namespace flatback::tools
