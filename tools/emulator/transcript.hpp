// Everything that a run has printed on COM1 so far, as text and as records.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/serial_record.hpp"

namespace flatback::tools {

// Who prints on COM1 in a run, and whose lines are taken for records. What a line says never tells who
// printed it: a guest can print anything.
//
// L0 and the boot loader are known by the time: until L0's last record before L1 runs, `value
// l0.l1_entry_tsc`, nobody else prints. Later they are known by a mark, the second word of the record
// ("FLATBACK 5d1c… error L0: …"): L0 draws it, tells it in that first time as `text l0.mark`, and L1 cannot
// read it; a loader without L0 has it from the tools. Of several L0s, each L1 of the one beneath, each draws
// its own.
struct Speakers {
    bool l0 = false;            // L0 boots the guest
    unsigned levels = 1;        // so many L0s
    bool guest_records = true;  // the guest reports by records; otherwise all that it prints is text
    std::string mark;           // of the boot loader's records
};

class Transcript final {
public:
    // Called with each complete line as it comes, without a mark, and its record where it is one.
    using Listener = std::function<void(std::string_view line, const SerialRecord* record)>;

    explicit Transcript(Listener listener = {}, Speakers speakers = {})
        : listener_{std::move(listener)}, speakers_{std::move(speakers)} {}

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
    // Of these, what the boot loader or L0 reported first: "grub: …", "L0: …", or of L1 "L1: …".
    [[nodiscard]] const std::optional<std::string>& platform_error() const { return platform_error_; }
    [[nodiscard]] bool guest_reports() const { return speakers_.guest_records; }
    // Whether L1 has been entered, where L0 boots it.
    [[nodiscard]] bool l1_started() const { return l1_started_; }
    [[nodiscard]] bool ended() const { return ended_; }
    [[nodiscard]] bool reached(std::string_view stage) const;

    // The last line that holds anything and has no mark, for messages about a run that stopped; of L1's once
    // it has been entered.
    [[nodiscard]] const std::string& last_line() const { return last_line_; }

private:
    void add_line(std::string_view line);
    // The line without its mark, where it has one.
    [[nodiscard]] std::optional<std::string> without_mark(std::string_view line) const;
    void add_record(const SerialRecord& record, bool of_platform);

    Listener listener_;
    Speakers speakers_;
    std::vector<std::string> l0_marks_;
    unsigned levels_started_ = 0;
    bool l1_started_ = false;
    std::string text_;
    std::string pending_;  // the bytes after the last newline
    std::vector<std::string> stages_;
    std::map<std::string, std::string> values_;
    std::map<std::string, std::string> texts_;
    std::vector<CheckRecord> checks_;
    std::vector<std::string> errors_;
    std::optional<std::string> platform_error_;
    bool ended_ = false;
    std::string last_line_;
};

}  // namespace flatback::tools
