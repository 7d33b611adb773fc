// Properties of programs and of the machine, over random programs with shrinking.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "machine/error.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/bytes.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "machine/program/text.hpp"

namespace flatback::machine::program_properties_test {
namespace {

/// So that random steps find something to act upon.
Program prologue() {
    Scenario scenario;
    for (const unsigned hierarchy : {0U, 1U, 2U}) {
        scenario.edit().map(hierarchy, 0x4000'0000, layout::data_page(0));
        scenario.map(hierarchy, 0x4000'1000, layout::data_page(1))
            .map(hierarchy, 0x4020'0000, layout::data_page(2));
    }
    for (const unsigned page : {0U, 1U, 2U, 3U}) {
        scenario.ept_map(0, layout::data_page(page), layout::data_page(page));
        scenario.ept_map(1, layout::data_page(page), layout::data_page(3 - page));
    }
    scenario.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
    return scenario.program();
}

Program with_prologue(const std::vector<std::uint8_t>& bytes) {
    Program program = prologue();
    const Program rest = program_from_bytes(bytes).value();
    program.steps.insert(program.steps.end(), rest.steps.begin(), rest.steps.end());
    return program;
}

Machine::Options bounded() {
    return {.memory = {.limit_bytes = 8 << 20}, .retentive = {.entry_limit = 4096}};
}

RC_GTEST_PROP(Programs, TextGivesTheSameProgramBack, (const std::vector<std::uint8_t>& bytes)) {
    const Program program = program_from_bytes(bytes).value();
    const auto again = read_program(write_program(program));
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == program);
}

RC_GTEST_PROP(Programs, AnyTextIsReadOrRefused, (const std::string& text)) {
    const auto program = read_program(text);
    if (!program) RC_ASSERT(program.error().describe("f").find('\n') == std::string::npos);
}

RC_GTEST_PROP(Programs, WhatHappensIsOneOfWhatIsPermitted, (const std::vector<std::uint8_t>& bytes)) {
    const Program program = with_prologue(bytes);
    for (const auto resolution : {RetentiveTlb::Resolution::memory, RetentiveTlb::Resolution::oldest}) {
        Machine::Options options = bounded();
        options.retentive.resolution = resolution;
        BareWorld world({.vcpus = 2, .machine = options});
        Runner runner(world, {.record_permitted = true});
        for (const Step& step : program.steps) {
            Observation seen;
            try {
                seen = runner.step(step);
            } catch (const LimitReached&) {
                break;
            }
            if (seen.permitted.empty() || seen.status == Observation::Status::idle) continue;
            const bool translated = std::ranges::any_of(
                seen.permitted, [](const PermittedOutcome& it) { return it.outcome.is_translated(); });
            const bool faults = std::ranges::any_of(
                seen.permitted, [](const PermittedOutcome& it) { return !it.outcome.is_translated(); });
            if (seen.status == Observation::Status::done) RC_ASSERT(translated);
            if (seen.status == Observation::Status::event && seen.event.vector == 14) RC_ASSERT(faults);
        }
    }
}

RC_GTEST_PROP(Machines, AreDeterministic, (const std::vector<std::uint8_t>& bytes)) {
    const Program program = with_prologue(bytes);
    std::array<std::vector<Observation>, 2> seen;
    for (auto& observations : seen) {
        BareWorld world({.vcpus = 2, .machine = bounded()});
        Runner runner(world);
        try {
            for (const Step& step : program.steps) observations.push_back(runner.step(step));
        } catch (const LimitReached&) {
        }
    }
    RC_ASSERT(seen[0].size() == seen[1].size());
    for (std::size_t index = 0; index < seen[0].size(); ++index) {
        RC_ASSERT(same_view(seen[0][index], seen[1][index]));
    }
}

/// Software that flushes everything before each access can have one outcome only.
RC_GTEST_PROP(Machines, AFlushOfEverythingLeavesOneOutcome, (const std::vector<std::uint8_t>& bytes)) {
    const Program program = with_prologue(bytes);
    BareWorld world({.vcpus = 2, .machine = bounded()});
    Runner runner(world, {.record_permitted = true});
    try {
        for (const Step& step : program.steps) {
            for (unsigned vm = 0; vm < program_vm_limit; ++vm) {
                for (unsigned cpu = 0; cpu < world.vcpu_count(vm); ++cpu) {
                    Tlb& tlb = *world.machine(vm).cpu(cpu).tlb;
                    tlb.invalidate(invalidation::invvpid_all_contexts());
                    tlb.invalidate(invalidation::everything_of_vpid(0));
                    tlb.invalidate(invalidation::invept_all_contexts());
                    RC_ASSERT(tlb.size() == 0U);
                }
            }
            RC_ASSERT(runner.step(step).permitted.size() <= 1U);
        }
    } catch (const LimitReached&) {
    }
}

}  // namespace
}  // namespace flatback::machine::program_properties_test
