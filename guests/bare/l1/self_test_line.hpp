// What this guest found, as one line of text with a checksum (interface/self_test_line.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "guests/bare/l1/report_listener.hpp"
#include "interface/self_test_line.hpp"

namespace flatback::guests {

// Kept until the end: a value for each name, and how many checks passed.
class SelfTestResults final {
public:
    void keep_value(std::string_view name, std::uint64_t number);
    void keep_check(bool passed) { ++(passed ? passed_ : failed_); }
    [[nodiscard]] std::uint64_t passed() const { return passed_; }
    [[nodiscard]] std::uint64_t failed() const { return failed_; }
    // Empty where nothing was measured. The text lives as long as this.
    [[nodiscard]] std::string_view make_line();

private:
    void add(char character);
    void add(std::string_view text);
    void add_number(std::uint64_t number);
    void add_name_of_processor();

    struct Value {
        std::uint64_t number = 0;
        bool measured = false;
    };
    std::array<Value, interface::self_test_values.size()> values_{};
    std::uint64_t passed_ = 0;
    std::uint64_t failed_ = 0;
    bool measured_ = false;
    std::array<char, interface::self_test_most_line> text_{};
    std::size_t size_ = 0;
};

extern SelfTestResults self_test_results;

// Hears of each record (l1/report_listener.hpp).
void keep_for_self_test(RecordKind kind, std::string_view name, std::string_view text, std::uint64_t number);
// Prints the line on COM1 as a record, where anything was measured.
void report_self_test();

}  // namespace flatback::guests
