#include "tools/transcript.hpp"

#include <algorithm>

namespace flatback::tools {
namespace {

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
    if (!line.empty()) last_line_ = line;
    const auto record = parse_serial_record(line);
    if (record) std::visit(Sorter{stages_, values_, texts_, checks_, errors_, ended_}, *record);
    if (listener_) listener_(line, record ? &*record : nullptr);
}

}  // namespace flatback::tools
