#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "machine/program/bare_world.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/exit_reason.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine::test {

inline constexpr std::uint64_t page_a = 0x4000'0000;  // linear addresses that programs use
inline constexpr std::uint64_t page_b = 0x4000'1000;
inline constexpr std::uint64_t page_c = 0x4020'0000;

/// A bare world and a runner that makes steps as they are told.
struct BareScenario : testing::Test {
    BareWorld world{{.vcpus = 2, .machine = {}}};
    Runner runner{world, {.record_permitted = true}};
    std::size_t told = 0;
    Scenario say;
    std::vector<Observation> seen;

    /// Makes the steps told since the last call; the observation of the last one.
    const Observation& now() {
        const std::vector<Step>& steps = say.program().steps;
        for (; told < steps.size(); ++told) seen.push_back(runner.step(steps[told]));
        return seen.back();
    }

    /// VMXON, and one L2 on VMCS 0 with the pages mapped, ready to be launched.
    void one_guest(const Guest& guest = {.vpid = 1, .ept = {}, .tables = 1}) {
        say.edit().map(1, page_a, layout::data_page(0)).map(1, page_b, layout::data_page(1));
        if (guest.ept) {
            say.ept_map(*guest.ept, layout::data_page(0), layout::data_page(0));
            say.ept_map(*guest.ept, layout::data_page(1), layout::data_page(1));
        }
        say.poke(layout::data_page(0), 0xA0)
            .poke(layout::data_page(1), 0xA1)
            .poke(layout::data_page(2), 0xA2);
        say.l1().vmxon().prepare(layout::vmcs_region(0), guest);
        EXPECT_EQ(now().status, Observation::Status::done);
        EXPECT_EQ(now().flags, 0U);
    }
    void launch() {
        say.l1().vmlaunch();
        EXPECT_EQ(now().status, Observation::Status::entry) << describe(now());
    }

    static bool succeeded(const Observation& it) {
        return it.status == Observation::Status::done && it.flags == 0;
    }
    static bool failed_invalid(const Observation& it) { return it.flags == x86::rflags::carry; }
    static bool failed_with(const Observation& it, unsigned error) {
        return it.flags == x86::rflags::zero && it.instruction_error == error;
    }
    static bool faulted(const Observation& it, unsigned vector, std::uint32_t error_code = 0) {
        return it.status == Observation::Status::event && it.event.vector == vector &&
               it.event.error_code == error_code;
    }
    static bool exited(const Observation& it, vmx::ExitReason reason) {
        return it.status == Observation::Status::exit && it.exit.reason == static_cast<std::uint64_t>(reason);
    }
    std::vector<std::uint64_t> permitted_addresses(const Observation& it) {
        std::vector<std::uint64_t> all;
        for (const PermittedOutcome& permitted : it.permitted) {
            all.push_back(permitted.outcome.is_translated() ? permitted.outcome.physical : ~std::uint64_t{0});
        }
        return all;
    }
};

}  // namespace flatback::machine::test
