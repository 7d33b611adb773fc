#include "guests/bare/checks/mutation.hpp"

#include "guests/bare/l1/capabilities.hpp"

namespace flatback::guests {
namespace {

bool is_used(const Change& change) {
    return (change.clear | change.set) != 0;
}

}  // namespace

bool is_offered(const Mutation& mutation) {
    bool offered = mutation.secondary == 0 || capabilities.secondary.may_set(mutation.secondary);
    for (const Change& change : mutation.changes) {
        std::uint64_t value = 0;
        if (is_used(change) && try_vmread(change.encoding, value) != vm_succeed) offered = false;
    }
    if (!offered) report_not_offered(mutation.name);
    return offered;
}

Mutated::Mutated(const Mutation& mutation) : mutation_{mutation} {
    for (unsigned i = 0; i < 4; ++i) {
        const Change& change = mutation.changes[i];
        if (!is_used(change)) continue;
        before_[i] = read_raw(change.encoding);
        write_raw(change.encoding, (before_[i] & ~change.clear) | change.set);
    }
}

Mutated::~Mutated() {
    // Backwards: a field that was changed twice gets its first value back.
    for (unsigned i = 4; i-- > 0;) {
        if (is_used(mutation_.changes[i])) write_raw(mutation_.changes[i].encoding, before_[i]);
    }
}

bool Mutated::is_kept() const {
    bool kept = true;
    for (const Change& change : mutation_.changes)
        if (is_used(change)) kept = kept && (read_raw(change.encoding) & change.set) == change.set;
    if (!kept) report_not_offered(mutation_.name);
    return kept;
}

void check_refused(const Rule& about, std::span<const Mutation> mutations, std::uint32_t error) {
    for (const Mutation& mutation : mutations) {
        const RuleScope rule{{about.section, about.words, mutation.ledger_row}};
        if (mutation.deviation.seen == Deviation::Seen::panic && shows(mutation.deviation)) {
            report_deviation(mutation.name, mutation.deviation);
            continue;
        }
        if (!is_offered(mutation)) continue;
        const Mutated mutated{mutation};
        const Outcome got = try_enter(true);
        Check check{mutation.name};
        check.outcome("VMLAUNCH", got, vm_fail_valid(error)).known(mutation.deviation);
        if (got == vm_exit) make_clear();
    }
}

void make_clear() {
    std::uint64_t address = 0;
    vmptrst(address);
    vmclear(address);
    vmptrld(address);
}

}  // namespace flatback::guests
