#pragma once

#include <string_view>
#include <vector>

namespace flatback::machine {

/// What a row of the ledger is about: the page's chapters, in this order.
enum class LedgerTheme : unsigned char { operands, promise, owners, target, time, reach, cost };

/// A way in which nested VPID is known to have gone wrong: one line of the table from which docs/ledger.md is
/// made. Its tests are found by their names (LedgerRowNN.*, Ledger*.RowNN_*), its mutants by their row
/// (judge/mutants/mutant_table.cpp).
struct LedgerRow {
    unsigned row;
    LedgerTheme theme;
    std::string_view year;
    std::string_view where;  // the hypervisor, and the commit or CVE where there is one
    std::string_view title;
    std::string_view what_went_wrong;
    std::string_view rule;
};

[[nodiscard]] const std::vector<LedgerRow>& ledger_rows();

[[nodiscard]] std::string_view name_of(LedgerTheme theme);

}  // namespace flatback::machine
