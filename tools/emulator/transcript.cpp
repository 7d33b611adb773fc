#include "tools/emulator/transcript.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace flatback::tools {
namespace {

constexpr std::string_view record_word = "FLATBACK ";
constexpr std::string_view mark_key = "l0.mark";
// Also where it is damaged: what comes after it is L1's.
constexpr std::string_view last_before_l1 = "FLATBACK value l0.l1_entry_tsc";

// Sorts one record into the lists of a transcript.
struct Sorter {
    std::vector<std::string>& stages;
    std::map<std::string, std::string>& values;
    std::map<std::string, std::string>& texts;
    std::vector<CheckRecord>& checks;
    std::vector<std::string>& errors;
    bool& ended;

    void operator()(const StageRecord& record) const { stages.push_back(record.name); }
    void operator()(const ValueRecord& record) const { values[record.key] = record.number; }
    void operator()(const TextRecord& record) const { texts[record.key] = record.text; }
    void operator()(const CheckRecord& record) const { checks.push_back(record); }
    void operator()(const ErrorRecord& record) const { errors.push_back(record.what); }
    void operator()(const EndRecord&) const { ended = true; }
    void operator()(const MalformedRecord& record) const {
        errors.push_back("not a record that can be understood: " + record.line);
    }
};

}  // namespace

void Transcript::append(std::string_view bytes) {
    text_ += bytes;
    pending_ += bytes;
    std::size_t start = 0;
    for (std::size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n', start)) {
        add_line(std::string_view{pending_}.substr(start, end - start));
        start = end + 1;
    }
    pending_.erase(0, start);
}

void Transcript::finish() {
    if (pending_.empty()) return;
    const std::string line = std::move(pending_);
    pending_.clear();
    add_line(line);
}

bool Transcript::reached(std::string_view stage) const {
    return std::ranges::find(stages_, stage) != stages_.end();
}

void Transcript::add_line(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    const auto unmarked = without_mark(line);
    const bool of_platform = unmarked || (speakers_.l0 && !l1_started_);
    const bool starts_l1 = of_platform && line.starts_with(last_before_l1);
    if (starts_l1 && ++levels_started_ == speakers_.levels) l1_started_ = true;
    if (unmarked) line = *unmarked;
    // What L0 says of L1's end is no line of L1's.
    if (!line.empty() && !unmarked) last_line_ = starts_l1 && l1_started_ ? std::string_view{} : line;
    const auto record =
        of_platform || speakers_.guest_records ? parse_serial_record(line) : std::optional<SerialRecord>{};
    if (record) add_record(*record, of_platform);
    if (listener_) listener_(line, record ? &*record : nullptr);
}

std::optional<std::string> Transcript::without_mark(std::string_view line) const {
    if (!line.starts_with(record_word)) return std::nullopt;
    const std::string_view rest = line.substr(record_word.size());
    const auto is_marked = [rest](std::string_view mark) {
        return !mark.empty() && rest.starts_with(mark) && rest.substr(mark.size()).starts_with(' ');
    };
    if (!is_marked(speakers_.mark) && std::ranges::none_of(l0_marks_, is_marked)) return std::nullopt;
    return fmt::format("{}{}", record_word, rest.substr(rest.find(' ') + 1));
}

void Transcript::add_record(const SerialRecord& record, bool of_platform) {
    const auto* const text = std::get_if<TextRecord>(&record);
    if (of_platform && text != nullptr && text->key == mark_key) {
        l0_marks_.push_back(text->text);
        return;
    }
    std::visit(Sorter{stages_, values_, texts_, checks_, errors_, ended_}, record);
    const auto* const error = std::get_if<ErrorRecord>(&record);
    if (of_platform && error != nullptr && !platform_error_) platform_error_ = error->what;
}

}  // namespace flatback::tools
