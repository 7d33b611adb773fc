// Everything that a run has printed on COM1 so far, as text and as records.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serial_record.hpp"

namespace flatback::tools {

class Transcript final {
public:
    // Called with each complete line as it comes, and its record where it is one.
    using Listener = std::function<void(std::string_view line, const SerialRecord* record)>;

    explicit Transcript(Listener listener = {}) : listener_{std::move(listener)} {}

    // Adds bytes as they arrive; they need not end at the end of a line.
    void append(std::string_view bytes);

    // The run is over: a last line without a newline counts too. (The UART drops what it has not sent when
    // the machine stops.)
    void finish();

    [[nodiscard]] const std::string& text() const { return text_; }
    [[nodiscard]] const std::vector<std::string>& stages() const { return stages_; }
    [[nodiscard]] const std::map<std::string, std::string>& values() const { return values_; }
    [[nodiscard]] const std::map<std::string, std::string>& texts() const { return texts_; }
    [[nodiscard]] const std::vector<CheckRecord>& checks() const { return checks_; }
    [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }
    [[nodiscard]] bool ended() const { return ended_; }
    [[nodiscard]] bool reached(std::string_view stage) const;

    // The last line that holds anything, for messages about a run that stopped.
    [[nodiscard]] const std::string& last_line() const { return last_line_; }

private:
    void add_line(std::string_view line);

    Listener listener_;
    std::string text_;
    std::string pending_;  // the bytes after the last newline
    std::vector<std::string> stages_;
    std::map<std::string, std::string> values_;
    std::map<std::string, std::string> texts_;
    std::vector<CheckRecord> checks_;
    std::vector<std::string> errors_;
    bool ended_ = false;
    std::string last_line_;
};

}  // namespace flatback::tools
