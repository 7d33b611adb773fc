// What the bare L1 found of a hypervisor's nested VMX: each result with the rule that it is about
// (guests/bare, the word `rules`), and what the operations cost there.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/transcript.hpp"

namespace flatback::tools {

enum class ConformanceOutcome : std::uint8_t {
    passed,
    failed,
    not_offered,     // the capability MSRs do not offer it
    platform_fault,  // the emulator beneath is known to do it otherwise
};
[[nodiscard]] std::string_view name(ConformanceOutcome outcome);

struct ConformanceResult {
    std::string name;
    ConformanceOutcome outcome = ConformanceOutcome::failed;
    std::string section;                 // "3C 29.4.3.1"; empty where the rule is not the SDM's
    std::optional<unsigned> ledger_row;  // of docs/ledger.md
    std::string rule;                    // in short
    std::string expected;                // empty where it passed
    std::string seen;
};

struct Conformance {
    std::string under;                       // flatback, kvm, direct
    std::string beneath;                     // what the guest saw there by CPUID
    std::vector<ConformanceResult> results;  // by section, as numbers, and name
    std::map<std::string, std::string> costs;
    std::string unit = "ticks";
    // What kept the run from its end; empty where nothing.
    std::string incomplete;

    [[nodiscard]] std::size_t count(ConformanceOutcome outcome) const;
};

// The result in a text record with the key `result.NAME`; nothing where it is none, or damaged.
[[nodiscard]] std::optional<ConformanceResult> conformance_result(std::string_view key,
                                                                  std::string_view text);

// A check that failed without a rule of its own (a part that was left) counts too.
[[nodiscard]] Conformance conformance_of(std::string_view under, const Transcript& transcript);

// "3C 9.1" comes before "3C 27.2".
[[nodiscard]] bool section_before(std::string_view left, std::string_view right);

}  // namespace flatback::tools
