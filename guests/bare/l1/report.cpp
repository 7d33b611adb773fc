#include "guests/bare/l1/report.hpp"

#include "guests/bare/l1/port.hpp"
#include "guests/bare/l1/report_listener.hpp"
#include "guests/bare/l1/serial.hpp"

extern "C" {
extern volatile std::uint64_t flatback_checks_reported;
constinit volatile std::uint64_t flatback_checks_reported = 0;
}

namespace flatback::guests {

constinit RecordListener record_listener = nullptr;

namespace {

constinit SharedOutput shared_output{};
constinit CheckCounts counts{};

void tell(RecordKind kind, std::string_view name, std::string_view text = {}, std::uint64_t number = 0) {
    if (record_listener != nullptr) record_listener(kind, name, text, number);
}

void print(const Line& line) {
    if (shared_output.before_line != nullptr) shared_output.before_line();
    for (const char character : line.text()) write_serial(character);
    write_serial('\n');
    if (shared_output.behind_line != nullptr) shared_output.behind_line();
}

Line& begin_check(Line& line, std::string_view name) {
    line << "FLATBACK check ";
    if (shared_output.before_line != nullptr) line << "cpu" << shared_output.processor << ".";
    return line << name;
}

}  // namespace

Line& Line::operator<<(std::string_view text) {
    for (const char character : text) {
        if (size_ < sizeof text_) text_[size_++] = character;
    }
    return *this;
}

Line& Line::operator<<(std::uint64_t number) {
    char digits[20];
    std::size_t first = sizeof digits;
    do {
        digits[--first] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return *this << std::string_view{digits + first, sizeof digits - first};
}

Line& Line::hexadecimal(std::uint64_t number) {
    char digits[16];
    std::size_t first = sizeof digits;
    do {
        digits[--first] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number != 0);
    return *this << "0x" << std::string_view{digits + first, sizeof digits - first};
}

void share_output(const SharedOutput& shared) {
    shared_output = shared;
}

void report_stage(std::string_view name) {
    Line line;
    print(line << "FLATBACK stage " << name);
    tell(RecordKind::stage, name);
}

void report_value(std::string_view key, std::uint64_t value) {
    Line line;
    print(line << "FLATBACK value " << key << " " << value);
    tell(RecordKind::value, key, {}, value);
}

void report_text(std::string_view key, std::string_view text) {
    Line line;
    print(line << "FLATBACK text " << key << " " << text);
    tell(RecordKind::text, key, text);
}

CheckCounts checks_counted() {
    return counts;
}

void report_passed_part(std::string_view name) {
    Line line;
    print(begin_check(line, name) << " pass");
}

void report_pass(std::string_view check) {
    ++counts.passed;
    if (shared_output.before_line == nullptr) report_passed_part(check);
    flatback_checks_reported = flatback_checks_reported + 1;
    tell(RecordKind::pass, check);
}

void report_fail(std::string_view check, std::string_view why) {
    ++counts.failed;
    Line line;
    print(begin_check(line, check) << " fail " << why);
    flatback_checks_reported = flatback_checks_reported + 1;
    tell(RecordKind::fail, check, why);
}

void report_error(std::string_view where, std::string_view what) {
    Line line;
    print(line << "FLATBACK error " << where << ": " << what);
    tell(RecordKind::error, where, what);
}

void show_checks_reported() {
    flatback_checks_reported = flatback_checks_reported;
}

void report_end() {
    Line line;
    print(line << "FLATBACK end");
    tell(RecordKind::end, {});
}

void power_off() {
    drain_serial();
    for (const char character : std::string_view{"Shutdown"}) {
        out_byte(0x8900, static_cast<std::uint8_t>(character));
    }
    for (;;) asm volatile("cli; hlt");
}

}  // namespace flatback::guests
