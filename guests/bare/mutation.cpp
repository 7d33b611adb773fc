#include "guests/bare/mutation.hpp"

namespace flatback::guests {
namespace {

bool is_used(const Change& change) {
    return (change.clear | change.set) != 0;
}

}  // namespace

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

void make_clear() {
    std::uint64_t address = 0;
    vmptrst(address);
    vmclear(address);
    vmptrld(address);
}

}  // namespace flatback::guests
