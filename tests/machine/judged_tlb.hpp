#pragma once

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "machine/geometric/geometric_tlb.hpp"
#include "machine/retentive/retentive_tlb.hpp"

namespace flatback::machine::test {

/// Runs a geometric TLB and checks each outcome against what a retentive one permits.
class JudgedTlb final : public Tlb {
public:
    Outcome access(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                   Access access) override {
        const PermittedOutcomes permitted = judge_.permitted(memory, context, linear_address, access);
        const Outcome outcome = judged_.access(memory, context, linear_address, access);
        RC_ASSERT(std::ranges::any_of(permitted,
                                      [&](const PermittedOutcome& it) { return it.outcome == outcome; }));
        if (outcome.is_translated()) {
            // What only the judge would meet (a fault that the stale entry hides) is not to drop what the
            // judged keeps.
            if (permitted.front().outcome.is_translated())
                judge_.access(memory, context, linear_address, access);
        } else if (outcome.kind == Outcome::Kind::page_fault) {
            judge_.invalidate(invalidation::page_fault(context.vpid, context.pcid, linear_address));
        } else if (outcome.kind == Outcome::Kind::ept_violation) {
            judge_.invalidate(invalidation::ept_violation(context.ept.ep4ta(), outcome.physical, context.vpid,
                                                          context.pcid, linear_address));
        }
        return outcome;
    }
    void invalidate(const Invalidation& what) override {
        judge_.invalidate(what);
        judged_.invalidate(what);
    }
    void reset() override {
        judge_.reset();
        judged_.reset();
    }
    [[nodiscard]] std::size_t size() const override { return judged_.size(); }

private:
    RetentiveTlb judge_;
    GeometricTlb judged_{*find_geometry("skylake-x")};
};

}  // namespace flatback::machine::test
