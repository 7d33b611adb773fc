// The lines that this guest reports on COM1: one record a line, each beginning with FLATBACK.
#pragma once

#include <cstdint>
#include <string_view>

namespace flatback::guests {

// Builds one line of text in a fixed buffer; what does not fit is cut.
class Line final {
public:
    Line& operator<<(std::string_view text);
    Line& operator<<(const char* text) { return *this << std::string_view{text}; }
    Line& operator<<(std::uint64_t number);
    Line& hexadecimal(std::uint64_t number);

    std::string_view text() const { return {text_, size_}; }

private:
    char text_[400];
    std::size_t size_ = 0;
};

void report_stage(std::string_view name);
void report_value(std::string_view key, std::uint64_t value);
void report_text(std::string_view key, std::string_view text);
void report_pass(std::string_view check);
void report_fail(std::string_view check, std::string_view why);
void report_error(std::string_view where, std::string_view what);

// Where several copies of this program write to the same serial line, one a processor: what each does before
// a line and behind it, and the number that its checks are told with, `cpuN.NAME`. The line is slow, so that
// a check that passes is only counted.
struct SharedOutput {
    void (*before_line)();
    void (*behind_line)();
    std::uint64_t processor;
};
void share_output(const SharedOutput& shared);
struct CheckCounts {
    std::uint64_t passed, failed;
};
CheckCounts checks_counted();
// One line for many checks that have passed.
void report_passed_part(std::string_view name);

// Stores the number of checks reported so far where who watches this guest's memory knows it by
// `flatback_checks_reported` (docs/watch.md): it is stored with each check's report, and here once more.
void show_checks_reported();

// Prints FLATBACK end.
void report_end();

// Asks the machine to power off, and stops.
[[noreturn]] void power_off();

}  // namespace flatback::guests
