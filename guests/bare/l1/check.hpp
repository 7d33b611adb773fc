// One check: a name in kebab-case, assertions, and one line of report at its end.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/bare/l1/l2.hpp"
#include "guests/bare/l1/outcome.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

// What the emulator Bochs is known to do instead of what the SDM says.
struct Deviation {
    enum class Seen : std::uint8_t {
        directly,  // only while this guest runs on Bochs itself: an L0 in between has to do it right
        beneath,   // also with an L0 in between, which leaves the decision to the processor
        panic,     // as directly, and Bochs calls it a panic: not to be tried there
    };
    std::string_view what = {};
    Seen seen = Seen::directly;
};

// True where the deviation shows in this run.
bool shows(const Deviation& deviation);

// Prints the deviation in place of the check's result.
void report_deviation(std::string_view name, const Deviation& deviation);

// Remembers the first assertion that failed. A check that asserted nothing has failed.
class Check final {
public:
    explicit Check(std::string_view name);
    ~Check();
    Check(const Check&) = delete;
    Check& operator=(const Check&) = delete;

    Check& outcome(std::string_view what, const Outcome& got, const Outcome& want);
    Check& equal(std::string_view what, std::uint64_t got, std::uint64_t want);
    Check& holds(std::string_view what, bool condition);

    // Enters L2 and expects this exit reason. False where it came otherwise.
    bool runs_to(L2& l2, std::uint32_t reason);

    // runs_to, then moves guest RIP past the instruction that exited.
    bool runs_past(L2& l2, std::uint32_t reason);

    // The check that is being made; empty where none is. A part that is left leaves its name here.
    static std::string_view open();
    static void forget_open();

    // Where the deviation shows, a failure is reported as that; anywhere else it stays a failure.
    Check& known(const Deviation& deviation);

private:
    // Counts an assertion; true where it is the first that failed, whose reason is then to be told.
    bool failed_first(bool condition);

    std::string_view name_;
    Deviation deviation_;
    // Of the first assertion that failed.
    Line seen_;
    Line expected_;
    unsigned assertions_ = 0;
    bool failed_ = false;
};

// Says that a check was not made because the processor does not offer what it is about.
void report_not_offered(std::string_view name);

}  // namespace flatback::guests
