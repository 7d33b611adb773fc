#include "machine/retentive/permitted.hpp"

#include <cstdio>

#include "machine/translation/context.hpp"

namespace flatback::machine {

std::string describe(const PermittedOutcome& permitted) {
    const Provenance& from = permitted.provenance;
    std::string text = describe(permitted.outcome);
    const bool combined = from.ep4ta != no_ep4ta;
    char tag[96];
    std::snprintf(tag, sizeof tag, "VPID %u, %s 0x%x", from.vpid, from.pcid > 0xFFF ? "global" : "PCID",
                  from.pcid & 0xFFFU);
    char ep4ta[48];
    std::snprintf(ep4ta, sizeof ep4ta, "EP4TA 0x%llx", static_cast<unsigned long long>(from.ep4ta));
    switch (from.source) {
        case Provenance::Source::memory:
            return text + ", from the structures in memory";
        case Provenance::Source::page:
            text += combined ? ", from a combined mapping of " : ", from a linear mapping of ";
            text += tag;
            if (combined) text += std::string(", ") + ep4ta;
            break;
        case Provenance::Source::structure:
            text += ", from a paging-structure-cache entry of ";
            text += tag;
            if (combined) text += std::string(", ") + ep4ta;
            break;
        case Provenance::Source::guest_physical:
            text += ", from a guest-physical mapping of ";
            text += ep4ta;
            break;
        case Provenance::Source::ept_structure:
            text += ", from an EPT paging-structure-cache entry of ";
            text += ep4ta;
            break;
    }
    return text + ", made at step " + std::to_string(from.made_at);
}

}  // namespace flatback::machine
