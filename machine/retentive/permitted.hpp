#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../translation/outcome.hpp"

namespace flatback::machine {

/// Where an outcome that the architecture permits would come from.
struct Provenance {
    enum class Source : std::uint8_t {
        memory,          // a walk of the structures as they are now
        page,            // a linear or combined mapping
        structure,       // a paging-structure-cache entry, then a walk
        guest_physical,  // a guest-physical mapping used on the way
        ept_structure,   // an EPT paging-structure-cache entry, then a walk
    };

    Source source = Source::memory;
    /// The tag of the cached entry. `pcid` is 1000H for a global translation.
    std::uint16_t vpid = 0;
    std::uint16_t pcid = 0;
    std::uint64_t ep4ta = 0;
    /// The step at which the entry was made.
    std::uint64_t made_at = 0;
};

struct PermittedOutcome {
    Outcome outcome{};
    Provenance provenance{};
};

/// Every outcome that one access may have now, each once; the first is that of the structures in memory.
using PermittedOutcomes = std::vector<PermittedOutcome>;

/// "host-physical 0x5000, from a combined mapping of VPID 1, PCID 0x2, EP4TA 0x8, made at step 12".
[[nodiscard]] std::string describe(const PermittedOutcome& permitted);

}  // namespace flatback::machine
