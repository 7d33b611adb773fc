// Every short sequence of steps, and many long ones, against the judge in model.hpp.
#include "tests/tag/model.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace rc {

template <>
struct Arbitrary<flatback::tag_test::Step> {
    static Gen<flatback::tag_test::Step> arbitrary() {
        using flatback::tag_test::Step;
        using Kind = Step::Kind;
        // Guests mostly run; the rest comes between.
        const auto kind = gen::oneOf(
            gen::element(Kind::run_l2, Kind::run_l2, Kind::reenter_l2, Kind::run_l2_without_vpid,
                         Kind::run_l1),
            gen::element(Kind::invvpid_address, Kind::invvpid_single, Kind::invvpid_all,
                         Kind::invvpid_retaining_globals),
            gen::element(Kind::run_l2, Kind::reenter_l2, Kind::move, Kind::vmxoff, Kind::other_vm,
                         Kind::page_taken, Kind::invept, Kind::flush_by_l1, Kind::flush_address_by_l1));
        return gen::build<Step>(
            gen::set(&Step::kind, kind), gen::set(&Step::vcpu, gen::element<std::uint8_t>(0, 0, 0, 1)),
            // 65 has the hint of 1.
            gen::set(&Step::vpid12, gen::element<std::uint16_t>(1, 1, 2, 3, 65)),
            gen::set(&Step::cpu, gen::inRange<std::uint8_t>(0, flatback::tag_test::model_cpus)),
            gen::set(&Step::address, gen::inRange<std::uint8_t>(0, flatback::tag_test::model_addresses)),
            gen::set(&Step::keep, gen::element(false, false, false, true)),
            gen::set(&Step::fail, gen::element(false, false, false, true)));
    }
};

}  // namespace rc

namespace flatback::tag_test {

void showValue(const Step& step, std::ostream& out) {
    out << describe(step);
}

namespace {

using Kind = Step::Kind;

std::string take_all(std::uint16_t tags, tag::Policy policy, const std::vector<Step>& steps) {
    Model model{tags, policy};
    for (const Step& step : steps) {
        if (const std::optional<std::string> complaint = model.take(step)) {
            std::string text = *complaint + ", at the last of:";
            for (const Step& taken : steps) {
                text += "\n  " + describe(taken);
                if (&taken == &step) break;
            }
            return text;
        }
    }
    return {};
}

// Two virtual CPUs with a tag each; 8: enough for all. 5: they take slots from each other. 3: one slot to
// fight for. 2: none, every L2 shares. 1: one of them has no tag at all. 0: nobody has.
constexpr std::array<std::uint16_t, 6> tag_counts{8, 5, 3, 2, 1, 0};

// RapidCheck reads it before its first property. What the environment says goes first, to reproduce a
// failure.
const bool more_cases = setenv("RC_PARAMS", "max_success=2000", 0) == 0;

RC_GTEST_PROP(Model, NobodyEverSeesAStaleTranslationAndAHitNeverFlushes, ()) {
    const auto tags = *rc::gen::elementOf(tag_counts);
    const auto policy =
        *rc::gen::element(tag::Policy::mapped, tag::Policy::mapped, tag::Policy::single, tag::Policy::off);
    const auto steps = *rc::gen::arbitrary<std::vector<Step>>();
    const std::string complaint = take_all(tags, policy, steps);
    if (!complaint.empty()) RC_FAIL(complaint);
}

// Long runs find what needs many steps; they do not shrink, so the property above comes first.
TEST(Model, HoldsOverLongRuns) {
    std::uint32_t random = 2026;
    const auto below = [&](std::uint32_t bound) {
        random = random * 1664525 + 1013904223;
        return (random >> 16) % bound;
    };
    for (unsigned run = 0; run < 300; ++run) {
        std::vector<Step> steps;
        steps.reserve(400);
        for (unsigned i = 0; i < 400; ++i) {
            Step step;
            step.kind = below(2) == 0 ? Kind::run_l2
                                      : static_cast<Kind>(below(static_cast<std::uint32_t>(Kind::count)));
            step.vcpu = static_cast<std::uint8_t>(below(model_vcpus));
            step.vpid12 = static_cast<std::uint16_t>(1 + below(3));
            step.cpu = static_cast<std::uint8_t>(below(model_cpus));
            step.address = static_cast<std::uint8_t>(below(model_addresses));
            step.keep = below(5) == 0;
            step.fail = below(5) == 0;
            steps.push_back(step);
        }
        const tag::Policy policy = run % 5 == 4 ? tag::Policy::single : tag::Policy::mapped;
        const std::string complaint = take_all(tag_counts[run % tag_counts.size()], policy, steps);
        ASSERT_TRUE(complaint.empty()) << complaint;
    }
}

TEST(Model, HoldsForEverySequenceOfFiveSteps) {
    const std::array<Step, 10> alphabet{{
        {.kind = Kind::run_l2, .vpid12 = 1},
        {.kind = Kind::run_l2, .vpid12 = 2},
        {.kind = Kind::run_l2, .vpid12 = 3, .keep = true},
        {.kind = Kind::run_l2_without_vpid},
        {.kind = Kind::reenter_l2},
        {.kind = Kind::invvpid_single, .vpid12 = 1},
        {.kind = Kind::invvpid_address, .vpid12 = 1, .address = 1},
        {.kind = Kind::move, .cpu = 1},
        {.kind = Kind::move, .cpu = 0},
        {.kind = Kind::vmxoff},
    }};
    constexpr std::size_t length = 5;
    std::array<std::size_t, length> at{};
    for (bool more = true; more;) {
        std::vector<Step> steps;
        steps.reserve(length);
        for (const std::size_t i : at) steps.push_back(alphabet[i]);
        const std::string complaint = take_all(3, tag::Policy::mapped, steps);
        ASSERT_TRUE(complaint.empty()) << complaint;
        more = false;
        for (std::size_t& digit : at) {
            if (++digit < alphabet.size()) {
                more = true;
                break;
            }
            digit = 0;
        }
    }
}

}  // namespace
}  // namespace flatback::tag_test
