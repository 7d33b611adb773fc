#include "tools/check/tidy_plan.hpp"

#include <algorithm>
#include <optional>
#include <ranges>
#include <utility>

namespace flatback::tools {
namespace {

constexpr std::string_view directive = "#include \"";

std::optional<std::string> find(const std::string& from, const std::string& name,
                                const std::map<std::string, std::string>& texts) {
    const std::string beside = (std::filesystem::path{from}.parent_path() / name).lexically_normal().string();
    for (const std::string& path : {beside, name}) {
        if (texts.contains(path)) return path;
    }
    return std::nullopt;
}

}  // namespace

std::vector<std::string> quoted_includes(std::string_view text) {
    std::vector<std::string> names;
    for (const auto part : text | std::views::split('\n')) {
        const std::string_view line{part.begin(), part.end()};
        if (!line.starts_with(directive)) continue;
        const std::string_view rest = line.substr(directive.size());
        const std::size_t end = rest.find('"');
        if (end != std::string_view::npos) names.emplace_back(rest.substr(0, end));
    }
    return names;
}

Includes::Includes(const std::map<std::string, std::string>& texts) {
    for (const auto& [file, text] : texts) {
        std::vector<std::string>& direct = direct_[file];
        for (const std::string& name : quoted_includes(text)) {
            if (auto path = find(file, name, texts)) direct.push_back(std::move(*path));
        }
    }
}

std::set<std::string> Includes::brought_in(const std::string& source) const {
    std::set<std::string> found;
    std::vector<std::string> open{source};
    while (!open.empty()) {
        const std::string file = std::move(open.back());
        open.pop_back();
        const auto direct = direct_.find(file);
        if (direct == direct_.end() || !found.insert(file).second) continue;
        open.insert(open.end(), direct->second.begin(), direct->second.end());
    }
    return found;
}

std::vector<std::string> sources_that_show(const std::set<std::string>& changed,
                                           const std::map<std::string, std::set<std::string>>& sources,
                                           std::size_t most) {
    std::vector<std::string> chosen;
    std::set<std::string> left = changed;
    const auto choose = [&](const std::string& source, const std::set<std::string>& brings) {
        chosen.push_back(source);
        for (const std::string& file : brings) left.erase(file);
    };
    for (const auto& [source, brings] : sources) {
        if (chosen.size() < most && changed.contains(source)) choose(source, brings);
    }
    const auto shows = [&left](const std::set<std::string>& brings) {
        return std::ranges::count_if(brings,
                                     [&left](const std::string& file) { return left.contains(file); });
    };
    while (chosen.size() < most) {
        const auto best = std::ranges::max_element(
            sources, {}, [&shows](const auto& source) { return shows(source.second); });
        if (best == sources.end() || shows(best->second) == 0) break;
        choose(best->first, best->second);
    }
    return chosen;
}

CleanFiles CleanFiles::parse(std::string_view text, std::string_view rules_digest) {
    CleanFiles clean{rules_digest};
    bool is_first = true;
    for (const auto part : text | std::views::split('\n')) {
        const std::string_view line{part.begin(), part.end()};
        if (std::exchange(is_first, false)) {
            if (line != rules_digest) break;
            continue;
        }
        const std::size_t space = line.find(' ');
        if (space != 0 && space != std::string_view::npos && space + 1 < line.size())
            clean.digests_[std::string{line.substr(space + 1)}] = line.substr(0, space);
    }
    return clean;
}

std::string CleanFiles::text() const {
    std::string text = rules_digest_ + "\n";
    for (const auto& [path, digest] : digests_) text += digest + " " + path + "\n";
    return text;
}

bool CleanFiles::contains(const std::string& path, std::string_view digest) const {
    const auto found = digests_.find(path);
    return found != digests_.end() && found->second == digest;
}

}  // namespace flatback::tools
