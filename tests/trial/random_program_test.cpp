// Random programs, nested against bare; one that differs is shortened.
#include "machine/trial/random_program.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <vector>

#include "machine/trial/trial.hpp"

namespace flatback::machine {
namespace {

void expect_same(const NestedWorld::Options& options) {
    const auto length = *rc::gen::noShrink(rc::gen::inRange<std::size_t>(4, 400));
    // The account shortens by whole steps, which is better than what shrinking bytes could do.
    const auto bytes = *rc::gen::noShrink(
        rc::gen::container<std::vector<std::uint8_t>>(length, rc::gen::arbitrary<std::uint8_t>()));
    const Program program = random_program(bytes);
    if (compare(program, options)) RC_FAIL(account(program, options));
}

RC_GTEST_PROP(RandomPrograms, AreTheSameBareAndNested, ()) {
    expect_same({.vcpus = 2});
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWithFewerTagsThanVpid12, ()) {
    const auto vpids = static_cast<std::uint16_t>(*rc::gen::inRange(0, 5));
    expect_same({.vcpus = 2, .vpids = vpids});
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWithOneTagForAllVpid12, ()) {
    expect_same({.vcpus = 2, .tags = tag::Policy::single, .shadow_vmcs = false});
}

}  // namespace
}  // namespace flatback::machine
