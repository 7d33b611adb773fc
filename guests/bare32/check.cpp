#include "guests/bare32/check.hpp"

#include "guests/bare/l1/port.hpp"
#include "guests/bare32/cpu.hpp"

namespace flatback::guests::bare32 {
namespace {

std::string_view mode_;

}  // namespace

void set_mode(std::string_view mode) {
    mode_ = mode;
}

bool directly_on_bochs() {
    constexpr std::uint16_t debug_port = 0xE9;
    return (cpuid(1).ecx >> 31 & 1) == 0 && in_byte(debug_port) == 0xE9;
}

Check::~Check() {
    Line name;
    name << mode_ << "-" << name_;
    if (assertions_ == 0) {
        report_fail(name.text(), "asserted nothing");
    } else if (!failed_) {
        report_pass(name.text());
    } else if (!deviation_.empty() && directly_on_bochs()) {
        Line line;
        report_text("bare32_l1.known_deviation", (line << name.text() << ": " << deviation_).text());
    } else {
        report_fail(name.text(), why_.text());
    }
}

bool Check::failed_first(bool condition) {
    ++assertions_;
    if (condition || failed_) return false;
    failed_ = true;
    return true;
}

Check& Check::outcome(std::string_view what, const Outcome& got, const Outcome& want) {
    if (failed_first(got == want)) why_ << what << ": " << got << ", expected " << want;
    return *this;
}

Check& Check::equal(std::string_view what, std::uint64_t got, std::uint64_t want) {
    if (failed_first(got == want)) {
        why_ << what << ": ";
        why_.hexadecimal(got) << ", expected ";
        why_.hexadecimal(want);
    }
    return *this;
}

Check& Check::holds(std::string_view what, bool condition) {
    if (failed_first(condition)) why_ << "not so: " << what;
    return *this;
}

Check& Check::known(std::string_view deviation) {
    deviation_ = deviation;
    return *this;
}

}  // namespace flatback::guests::bare32
