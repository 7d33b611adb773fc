#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "machine/geometric/geometric_tlb.hpp"
#include "machine/retentive/retentive_tlb.hpp"

namespace flatback::machine {

/// A geometric TLB, each outcome of which a retentive one must permit.
class JudgedTlb final : public Tlb {
public:
    /// Called where one does not; it does not return.
    using Refused = void (*)();

    JudgedTlb(const TlbGeometry& geometry, Refused refused, const RetentiveTlb::Options& judge = {})
        : judge_(judge), judged_(geometry), refused_(refused) {}

    Outcome access(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                   Access access) override {
        const PermittedOutcomes permitted = judge_.permitted(memory, context, linear_address, access);
        const Outcome outcome = judged_.access(memory, context, linear_address, access);
        const auto is_it = [&](const PermittedOutcome& it) { return it.outcome == outcome; };
        if (std::ranges::none_of(permitted, is_it)) refused_();
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
    GeometricTlb judged_;
    Refused refused_;
};

}  // namespace flatback::machine
