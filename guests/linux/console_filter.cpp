#include "guests/linux/console_filter.hpp"

#include <x86intrin.h>

#include "guests/linux/record.hpp"

namespace flatback::guests {
namespace {

/// A guest may print for ever without a newline.
constexpr std::size_t longest_line = 4096;

}  // namespace

void ConsoleFilter::append(char next) {
    if (next == '\n' || line_.size() == longest_line) {
        pass_line();
    }
    if (next != '\n' && next != '\r') {
        line_.push_back(next);
    }
}

void ConsoleFilter::finish() {
    if (!line_.empty()) {
        pass_line();
    }
}

void ConsoleFilter::pass_line() {
    const std::uint64_t now = __rdtsc();
    print_line(line_);
    if (line_ == user_space_line_ && !user_space_reached_) {
        user_space_reached_ = true;
        if (!boot_key_.empty()) {
            print_value(boot_key_, now - start_);
        }
    }
    line_.clear();
}

}  // namespace flatback::guests
