#include "guests/bare/l1/rule.hpp"

#include "guests/bare/l1/report.hpp"

namespace flatback::guests {
namespace {

bool told = false;

Rule& current() {
    static Rule rule;
    return rule;
}

std::string_view word_for(Verdict verdict) {
    switch (verdict) {
        case Verdict::passed:
            return "passed";
        case Verdict::failed:
            return "failed";
        case Verdict::not_offered:
            return "not_offered";
        case Verdict::platform_fault:
            return "platform_fault";
    }
    return {};
}

// A key is one word.
Line key_for(std::string_view name) {
    Line key;
    key << "result.";
    for (const char character : name) key << std::string_view{character == ' ' ? "-" : &character, 1};
    return key;
}

// The bar ends a field.
void add_field(Line& line, std::string_view text) {
    line << "|";
    for (const char character : text) line << std::string_view{character == '|' ? "/" : &character, 1};
}

}  // namespace

RuleScope::RuleScope(const Rule& rule) : outer_{current()} {
    current() = rule;
}

RuleScope::~RuleScope() {
    current() = outer_;
}

const Rule& current_rule() {
    return current();
}

void forget_rules() {
    current() = {};
}

void tell_rules() {
    told = true;
}

void report_result(std::string_view name, Verdict verdict, std::string_view expected, std::string_view seen) {
    if (!told) return;
    const Rule& rule = current_rule();
    Line line;
    line << word_for(verdict);
    add_field(line, rule.section);
    line << "|" << std::uint64_t{rule.ledger_row};
    add_field(line, rule.words);
    add_field(line, expected);
    add_field(line, seen);
    report_text(key_for(name).text(), line.text());
}

}  // namespace flatback::guests
