// What a check holds the processor to, for who reads the results without this source: where the SDM says it,
// in short, and where a hypervisor is known to have broken it.
#pragma once

#include <string_view>

namespace flatback::guests {

struct Rule {
    std::string_view section;  // "3C 29.4.3.1"; empty where the rule is not the SDM's
    std::string_view words;    // the rule in short
    unsigned ledger_row = 0;   // of docs/ledger.md; 0: none
};

// The rule of the checks that are made during this object's life; of two, the one that was made last.
class RuleScope final {
public:
    explicit RuleScope(const Rule& rule);
    ~RuleScope();
    RuleScope(const RuleScope&) = delete;
    RuleScope& operator=(const RuleScope&) = delete;

private:
    Rule outer_;
};

const Rule& current_rule();

// A part that was left has left its scopes behind.
void forget_rules();

// What came of one check, or of what could not be checked.
enum class Verdict : unsigned char { passed, failed, not_offered, platform_fault };

// From here on each result is also told with its rule (the word `rules`), as
//   FLATBACK text result.NAME VERDICT|SECTION|LEDGER ROW|WORDS|EXPECTED|SEEN
void tell_rules();

// One such line, where they are told. `expected` and `seen`: empty where it passed.
void report_result(std::string_view name, Verdict verdict, std::string_view expected = {},
                   std::string_view seen = {});

}  // namespace flatback::guests
