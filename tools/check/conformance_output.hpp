// A conformance report as text, JSON and JUnit's XML.
#pragma once

#include <string>

#include "tools/check/conformance.hpp"

namespace flatback::tools {

// For a terminal: results by section, each failure with its rule, rows of the ledger, costs.
[[nodiscard]] std::string conformance_text(const Conformance& conformance);

// {"under", "beneath", "unit", "results": [{"name", "section", "ledger_row", "rule", "outcome", "expected",
// "seen"}], "costs", "incomplete"}; null where there is nothing to say.
[[nodiscard]] std::string conformance_json(const Conformance& conformance);

// One test suite a section; not offered and the emulator's own are skipped tests with a message.
[[nodiscard]] std::string conformance_junit(const Conformance& conformance);

}  // namespace flatback::tools
