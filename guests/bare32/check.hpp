// One check: a name in kebab-case behind the mode in which it is made, assertions, one line of report at its
// end.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/bare/l1/outcome.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests::bare32 {

// What precedes the names of the checks that follow: the mode that this guest is in.
void set_mode(std::string_view mode);

// True where no hypervisor is told by CPUID and Bochs' debug port answers: then its own deviations are
// Bochs'.
bool directly_on_bochs();

class Check final {
public:
    explicit Check(std::string_view name) : name_{name} {}
    ~Check();
    Check(const Check&) = delete;
    Check& operator=(const Check&) = delete;

    Check& outcome(std::string_view what, const Outcome& got, const Outcome& want);
    Check& equal(std::string_view what, std::uint64_t got, std::uint64_t want);
    Check& holds(std::string_view what, bool condition);

    // What Bochs is known to do instead; a failure directly on it is reported as that.
    Check& known(std::string_view deviation);

private:
    bool failed_first(bool condition);

    std::string_view name_;
    std::string_view deviation_;
    Line why_;
    unsigned assertions_ = 0;
    bool failed_ = false;
};

}  // namespace flatback::guests::bare32
