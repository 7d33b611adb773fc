#include "machine/translation/outcome.hpp"

#include <cstdio>

namespace flatback::machine {

namespace {

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

std::string describe(const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::translated:
            return "host-physical " + hexadecimal(outcome.physical);
        case Outcome::Kind::page_fault:
            return "#PF error code " + hexadecimal(outcome.error_code);
        case Outcome::Kind::ept_violation:
            return "EPT violation at guest-physical " + hexadecimal(outcome.physical) + " qualification " +
                   hexadecimal(outcome.exit_qualification);
        case Outcome::Kind::ept_misconfiguration:
            return "EPT misconfiguration at guest-physical " + hexadecimal(outcome.physical);
    }
    return {};
}

}  // namespace flatback::machine
