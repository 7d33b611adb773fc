#include "fuzz/judged_program.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "fuzz/prologue.hpp"
#include "machine/error.hpp"
#include "machine/geometric/geometric_tlb.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/bytes.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/text.hpp"

namespace flatback::fuzz {

using namespace machine;

namespace {

[[noreturn]] void broken(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

/// A geometric TLB, each outcome of which a retentive one must permit.
class JudgedTlb final : public Tlb {
public:
    Outcome access(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                   Access access) override {
        const PermittedOutcomes permitted = judge_.permitted(memory, context, linear_address, access);
        const Outcome outcome = judged_.access(memory, context, linear_address, access);
        const bool found =
            std::ranges::any_of(permitted, [&](const PermittedOutcome& it) { return it.outcome == outcome; });
        if (!found) broken("an outcome that is not permitted");
        if (outcome.is_translated()) {
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
    RetentiveTlb judge_{{.entry_limit = 1 << 14}};
    GeometricTlb judged_{*find_geometry("haswell")};
};

}  // namespace

void run_judged_program(std::span<const std::uint8_t> bytes) {
    const auto program = program_from_bytes(bytes, 1024);
    if (!program) return;
    BareWorld world({.vcpus = 2, .machine = {.memory = {.limit_bytes = 4 << 20}, .make_tlb = [] {
                                                 return std::make_unique<JudgedTlb>();
                                             }}});
    Runner runner(world);
    try {
        for (const Step& step : prologue().steps) runner.step(step);
        for (const Step& step : program->steps) runner.step(step);
    } catch (const LimitReached&) {
        // A bound of ours, or a thing that is said not to be modelled.
    }
}

void read_and_write_program(std::span<const std::uint8_t> bytes) {
    const auto program =
        read_program(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    if (!program) {
        if (program.error().describe("program").find('\n') != std::string::npos)
            broken("an error of two lines");
        return;
    }
    const auto again = read_program(write_program(*program));
    if (!again || !(*again == *program)) broken("what was written is not what was read");
}

}  // namespace flatback::fuzz
