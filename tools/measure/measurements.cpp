#include "tools/measure/measurements.hpp"

#include <fmt/format.h>

#include <charconv>
#include <sstream>

namespace flatback::tools {

std::optional<std::string> RunValues::number(std::string_view key) const {
    const auto found = values_.find(std::string{key});
    if (found == values_.end()) return std::nullopt;
    return found->second;
}

std::optional<double> RunValues::value(std::string_view key) const {
    const auto text = number(key);
    if (!text) return std::nullopt;
    double value = 0;
    std::from_chars(text->data(), text->data() + text->size(), value);
    return value;
}

std::optional<std::string> RunValues::text(std::string_view key) const {
    const auto found = texts_.find(std::string{key});
    if (found == texts_.end()) return std::nullopt;
    return found->second;
}

std::map<std::string, std::string> RunValues::texts_under(std::string_view prefix) const {
    std::map<std::string, std::string> found;
    for (const auto& [key, text] : texts_) {
        if (key.starts_with(prefix)) found.emplace(key.substr(prefix.size()), text);
    }
    return found;
}

const RunValues& Measurements::of_mode(std::string_view mode) const {
    static const RunValues none;
    const auto found = linux_by_mode.find(mode);
    return found == linux_by_mode.end() ? none : found->second;
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    std::istringstream stream{std::string{text}};
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

std::vector<std::string> missing_values(const Measurements& measurements) {
    std::vector<std::string> missing;
    for (const std::string_view mode : modes) {
        const RunValues& run = measurements.of_mode(mode);
        for (const std::string_view value : mode_values) {
            const std::string key = fmt::format("modes.{}.{}", mode, value);
            if (!run.number(key)) missing.push_back(key);
        }
        const std::string result = fmt::format("modes.{}.l2_result", mode);
        if (!run.text(result)) missing.push_back(result);
        if (!run.text("l1.cpu_flags")) missing.push_back(fmt::format("l1.cpu_flags ({})", mode));
        if (!run.text("l1.vmx_flags")) missing.push_back(fmt::format("l1.vmx_flags ({})", mode));
        if (run.texts_under("l1.kvm_intel.").empty())
            missing.push_back(fmt::format("l1.kvm_intel ({})", mode));
    }
    const auto check_bare = [&missing](const RunValues& run, std::string_view which) {
        const auto check = [&](std::string_view value) {
            const std::string key = fmt::format("bare_l1.{}", value);
            if (!run.number(key)) missing.push_back(fmt::format("{} ({})", key, which));
        };
        for (const std::string_view value : bare_values) check(value);
        for (const std::string_view value : bare_counts) check(value);
    };
    check_bare(measurements.bare, "shadow VMCS on");
    check_bare(measurements.bare_no_shadow, "shadow VMCS off");
    for (const std::string_view value : trace_values) {
        const std::string key = fmt::format("bare_l1.{}", value);
        if (!measurements.bare_trace.number(key)) missing.push_back(fmt::format("{} (trace on)", key));
    }
    return missing;
}

}  // namespace flatback::tools
