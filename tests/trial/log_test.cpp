// The page-modification log and TSC scaling under the engine (judge/ledger/log_cases.cpp), and in random
// programs of an L1 that keeps logs.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/ledger/log_program.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/runner.hpp"
#include "tests/trial/judged_cases.hpp"

namespace flatback::machine::log_test {
namespace {

TEST(Log, IsWhatABareProcessorWrites) {
    test::expect_as_on_a_bare_processor(log_cases(), 150U);
}

// Each under a plain host, one that scales L1's counter, and one that also saves and restores.
TEST(Log, OfRandomProgramsIsTheSameBareAndNested) {
    constexpr unsigned programs = 150;
    std::mt19937_64 random(20261201);
    std::vector<std::uint8_t> bytes(160);
    std::set<std::uint64_t> full;
    std::size_t noted = 0;
    for (unsigned number = 0; number < programs; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        const Program program = log_program::from_bytes(bytes);
        for (const unsigned kind : {0U, 1U, 2U}) {
            NestedWorld::Options options;
            if (kind != 0) options.random_host = number + 1;
            options.host_scales_tsc = kind == 1;
            options.saves_states = kind == 2;
            const auto difference = compare(program, options);
            ASSERT_FALSE(difference.has_value())
                << "program " << number << ", host " << kind << ": " << difference->text;
        }
        NestedWorld world({});
        Runner runner(world);
        for (const Step& step : program.steps) {
            const Observation seen = runner.step(step);
            if (seen.status == Observation::Status::exit && seen.exit.reason == 62) full.insert(number);
        }
        constexpr unsigned entries = 512;
        for (const unsigned log : {0U, 1U}) {
            for (unsigned entry = 0; entry < entries; ++entry)
                noted += world.read(0, log_program::log_page(log) + 8 * std::uint64_t{entry}) != 0 ? 1U : 0U;
        }
    }
    EXPECT_GE(full.size(), programs / 3);
    EXPECT_GE(noted, std::size_t{programs} * 4);
}

}  // namespace
}  // namespace flatback::machine::log_test
