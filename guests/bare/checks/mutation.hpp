// A VMCS with something wrong in it, and what the processor says to that.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {

// One field's change: bits cleared, then bits set.
struct Change {
    std::uint64_t encoding;
    std::uint64_t clear;
    std::uint64_t set;
};

constexpr std::uint64_t all_bits = ~std::uint64_t{0};

// Up to four changes to a VMCS that is good without them. An unused change has nothing to clear or set.
struct Mutation {
    std::string_view name;  // of the check
    Change changes[4];
    Deviation deviation = {};
    // The secondary control that the rule is about, where a processor need not have it.
    std::uint32_t secondary = 0;
    unsigned ledger_row = 0;
};

// True where the processor has every field that is changed, and the control. Says so where it has not.
bool is_offered(const Mutation& mutation);

// Makes the current VMCS clear again, after an entry that should have failed and did not.
void make_clear();

// Applies the changes to the current VMCS for the life of this object.
class Mutated final {
public:
    explicit Mutated(const Mutation& mutation);
    ~Mutated();
    Mutated(const Mutated&) = delete;
    Mutated& operator=(const Mutated&) = delete;

    // False where the processor has not kept what was written: reserved bits of access rights, for one. Says
    // so then.
    [[nodiscard]] bool is_kept() const;

private:
    const Mutation& mutation_;
    std::uint64_t before_[4];
};

// One check a mutation of the current VMCS, which is not launched: its VMLAUNCH is VMfail with this error.
void check_refused(const Rule& about, std::span<const Mutation> mutations, std::uint32_t error);

}  // namespace flatback::guests
