#include "guests/bare/l1/check.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

std::string_view open_name;

}  // namespace

bool shows(const Deviation& deviation) {
    if (deviation.what.empty()) return false;
    return deviation.seen == Deviation::Seen::beneath ? beneath_is_bochs() : directly_on_bochs();
}

void report_deviation(std::string_view name, const Deviation& deviation) {
    Line line;
    report_text("bare_l1.known_deviation", (line << name << ": " << deviation.what).text());
    report_result(name, Verdict::platform_fault, {}, deviation.what);
}

Check::Check(std::string_view name) : name_{name} {
    open_name = name;
}

std::string_view Check::open() {
    return open_name;
}

void Check::forget_open() {
    open_name = {};
}

Check::~Check() {
    open_name = {};
    if (assertions_ == 0) {
        report_fail(name_, "asserted nothing");
        report_result(name_, Verdict::failed, "an assertion", "none");
    } else if (!failed_) {
        report_pass(name_);
        report_result(name_, Verdict::passed);
    } else if (shows(deviation_)) {
        report_deviation(name_, deviation_);
    } else {
        Line why;
        why << seen_.text() << ", expected " << expected_.text();
        report_fail(name_, why.text());
        report_result(name_, Verdict::failed, expected_.text(), seen_.text());
    }
}

bool Check::failed_first(bool condition) {
    ++assertions_;
    if (condition || failed_) return false;
    failed_ = true;
    return true;
}

Check& Check::outcome(std::string_view what, const Outcome& got, const Outcome& want) {
    if (failed_first(got == want)) {
        seen_ << what << ": " << got;
        expected_ << want;
    }
    return *this;
}

Check& Check::equal(std::string_view what, std::uint64_t got, std::uint64_t want) {
    if (failed_first(got == want)) {
        seen_ << what << ": ";
        seen_.hexadecimal(got);
        expected_.hexadecimal(want);
    }
    return *this;
}

Check& Check::holds(std::string_view what, bool condition) {
    if (failed_first(condition)) {
        seen_ << "not so";
        expected_ << what;
    }
    return *this;
}

bool Check::runs_to(L2& l2, std::uint32_t wanted) {
    Line why;
    const bool right = l2.run_to(wanted, why);
    if (failed_first(right)) {
        seen_ << why.text();
        expected_ << "exit reason " << std::uint64_t{wanted & 0xFFFF};
        if ((wanted & reason::entry_failure) != 0) expected_ << " (entry failure)";
    }
    return right;
}

bool Check::runs_past(L2& l2, std::uint32_t reason) {
    if (!runs_to(l2, reason)) return false;
    L2::skip_instruction();
    return true;
}

Check& Check::known(const Deviation& deviation) {
    deviation_ = deviation;
    return *this;
}

void report_not_offered(std::string_view name) {
    report_text("bare_l1.not_offered", name);
    report_result(name, Verdict::not_offered);
}

}  // namespace flatback::guests
