// What the tests of the ledger of known bugs share: virtual CPUs whose L2s run by vpid12.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test {

inline constexpr auto bad_operand = vm_fail(InstructionError::invalid_operand_to_invept_invvpid);
using Flushes = std::vector<Flush>;

// L1 with VMCS 0 current and launched once under a VPID, so that a further entry owes nothing of its own.
class LedgerCpu : public VirtualCpu {
public:
    LedgerCpu() : LedgerCpu(Options{}) {}
    explicit LedgerCpu(const Options& options) : VirtualCpu(options) {
        prepare_first_entry();
        prepare();
        forget_flushes();
    }
    // L2 runs under this vpid12 and comes back. Returns the tag.
    std::uint16_t run(std::uint16_t vpid12) {
        enter_with(vpid12);
        return come_back();
    }
    std::uint16_t run_without_vpid() {
        enter_without_vpid();
        return come_back();
    }
    std::uint16_t run_again() {
        enter();
        return come_back();
    }
    void enter_with(std::uint16_t vpid12) {
        if (!uses_vpid_) {
            use_vpid(vpid12);
        } else if (read(field::virtual_processor_identifier) != vpid12) {
            write(field::virtual_processor_identifier, vpid12);
        }
        uses_vpid_ = true;
        enter();
    }
    void enter_without_vpid() {
        lower(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vpid);
        uses_vpid_ = false;
        enter();
    }
    void enter() {
        const Outcome outcome = launched_ ? vmresume() : vmlaunch();
        EXPECT_EQ(outcome, l2_runs);
        launched_ = true;
    }
    void leave() {
        const Outcome outcome = l2_executes_cpuid();
        EXPECT_EQ(outcome, l1_sees(ExitReason::cpuid));
    }
    // A vpid12's second entry: with no flush, unless it has to be.
    Flushes flushes_of(auto&& action) {
        forget_flushes();
        action();
        return port.flushes;
    }
    Flushes invvpids_of(auto&& action) {
        forget_flushes();
        action();
        return invvpids();
    }
    // VMXOFF, VMXON and VMCS 0 made anew.
    void leave_and_enter_vmx_operation() {
        ASSERT_EQ(vmxoff(), vm_succeed);
        enter_vmx_operation();
        make_vmcs(0);
        launched_ = uses_vpid_ = false;
    }

private:
    std::uint16_t come_back() {
        const std::uint16_t tag = l2_tag();
        leave();
        return tag;
    }

    bool launched_ = false;
    bool uses_vpid_ = false;
};

}  // namespace flatback::nested_test
