#include "tools/emulator/marked_trace.hpp"

#include <fmt/format.h>

#include <utility>

namespace flatback::tools {

Result<MarkedTrace> MarkedTrace::create(const std::filesystem::path& path) {
    std::ofstream file{path, std::ios::binary | std::ios::trunc};
    if (!file) return fail(ExitStatus::output_file, fmt::format("cannot write {}", path.string()));
    return MarkedTrace{path, std::move(file)};
}

std::string MarkedTrace::hear(std::string_view bytes) {
    // No line of the emulator's comes near this.
    constexpr std::size_t longest_line = 4096;
    std::string answer;
    while (!bytes.empty()) {
        const std::size_t end = bytes.find('\n');
        const std::string_view part = bytes.substr(0, end);
        if (begun_.size() + part.size() <= longest_line) begun_ += part;
        if (end == std::string_view::npos) break;
        take_line(begun_, answer);
        begun_.clear();
        bytes.remove_prefix(end + 1);
    }
    return answer;
}

// The debugger says why it has stopped, and then at which tick.
void MarkedTrace::take_line(std::string_view line, std::string& answer) {
    if (line.starts_with("(0) Magic breakpoint")) {
        at_mark_ = true;
        return;
    }
    if (line.starts_with("Next at t=")) {
        if (!std::exchange(at_mark_, false)) return;
        tracing_ = !tracing_;
        if (!symbols_.empty()) answer += fmt::format("ldsym global \"{}\"\n", std::exchange(symbols_, {}));
        answer += tracing_ ? "trace on\ntrace-mem on\nc\n" : "trace off\ntrace-mem off\nc\n";
        return;
    }
    if (!tracing_ || !(line.starts_with('(') || line.starts_with('['))) return;
    if (bytes_ + line.size() + 1 > most_bytes) {
        cut_ = true;
        return;
    }
    file_ << line << '\n';
    bytes_ += line.size() + 1;
    ++lines_;
}

Result<> MarkedTrace::finish() {
    file_.close();
    if (!file_) return fail(ExitStatus::output_file, fmt::format("cannot write all of {}", path_.string()));
    return {};
}

}  // namespace flatback::tools
