#include "guests/random/deviations.hpp"

#include <iterator>
#include <string_view>

#include "guests/bare/l1/report.hpp"

namespace flatback::guests {
namespace {

struct Known {
    std::string_view name;
    std::string_view section;
    std::string_view rule;  // in the SDM's words
    std::string_view emulator;
};

constexpr Known known[] = {
    {"resume-flag-of-fault", "SDM 3C 28.3.3",
     "RF: the value saved is that which would appear in the saved RFLAGS image had the event been delivered",
     "saves RF as it was before the fault"},
    {"resume-flag-cleared-early", "SDM 3B 18.3.1.1",
     "RF is cleared at the successful completion of the instruction behind it",
     "clears it before the fetch, so that an EPT violation of the fetch saves 0"},
    {"nmi-while-blocked", "SDM 3C 27.3.1.5",
     "bit 3 must be 0 if virtual NMIs is 1 and an NMI is to be injected", "enters"},
    {"virtual-nmi-blocking-left", "SDM 3C 27.7.1",
     "the interruptibility-state field determines whether virtual-NMI blocking is in effect",
     "keeps what an earlier guest had"},
    {"nmi-blocking-after-failure", "SDM 3C 27.8",
     "after a failure the state of blocking by NMI is what it was before VM entry",
     "keeps what the guest was to have"},
    {"single-step-while-blocking", "SDM 3C 27.3.1.5", "with STI or MOV SS blocking, BS must be as RFLAGS.TF",
     "does not look"},
    {"stack-privilege", "SDM 3C 27.3.1.2",
     "CS of type 9 or 11: the DPL must equal SS's; of type 13 or 15: it cannot be greater", "does not look"},
    {"code-selector-privilege", "SDM 3C 27.3.1.2",
     "nothing is asked of CS's RPL but by an SS without unrestricted guest",
     "refuses an RPL that is not CS's DPL"},
    {"long-mode-without-paging", "SDM 3C 27.3.1.1", "if the IA-32e mode guest control is 1, CR0.PG must be 1",
     "enters"},
    {"paging-turned-off", "SDM 3C 26.3",
     "without unrestricted guest a MOV to CR0 that clears PE or PG is #GP", "does it"},
    {"invalidation-reads-first", "SDM 3C 31.3", "INVEPT, INVVPID: a type that is not supported is VMfail",
     "reads the descriptor before, and may fault"},
    {"invalidation-type-of-32-bits", "SDM 3C 31.3",
     "INVEPT, INVVPID: in 64-bit mode the operand with the type has 64 bits", "without REX.W looks at 32"},
    {"null-stack-segment", "SDM 3C 27.3.1.2",
     "SS is checked unless it is unusable: base, type, DPL, P, limit and granularity",
     "checks nothing of a null SS beside 64-bit code"},
    {"error-code-without-protection", "SDM 3C 27.2.1.3",
     "an error code is delivered only where bit 0, CR0.PE, is set in the guest's CR0",
     "has the older text: wherever unrestricted guest is 0"},
    {"error-code-in-real-mode", "SDM 3C 28.2.2, 28.2.4",
     "bit 11 of interruption and IDT-vectoring information is always 0 in real-address mode",
     "sets it, which an L0 that raises a fault of L2's does not"},
};
static_assert(std::size(known) == deviations);

constinit std::uint64_t times[deviations]{};

}  // namespace

void set_aside(Deviation deviation) {
    ++times[static_cast<unsigned>(deviation)];
}

void report_deviations() {
    for (unsigned i = 0; i < deviations; ++i) {
        if (times[i] == 0) continue;
        Line key;
        key << "random.set_aside." << known[i].name;
        Line line;
        line << times[i] << " " << known[i].section << ": " << known[i].rule
             << "; the emulator: " << known[i].emulator;
        report_text(key.text(), line.text());
    }
}

}  // namespace flatback::guests
