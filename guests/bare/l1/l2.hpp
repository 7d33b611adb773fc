// One L2 virtual CPU: a VMCS of its own and its registers.
#pragma once

#include <cstdint>

#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/vmcs.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

namespace flatback::guests {

class L2 final {
public:
    // Clears a fresh VMCS, makes it current and fills it.
    explicit L2(const VmcsPlan& plan);

    // VMCLEAR: nothing of it is left in the processor when its pages are given back.
    ~L2();
    L2(const L2&) = delete;
    L2& operator=(const L2&) = delete;

    void make_current();

    // VMCLEAR: it is no longer current, and clear: what must be before VMXOFF.
    void clear();

    // Enters L2 and returns the exit reason (with its entry-failure flag). Where the entry did not happen at
    // all, returns no_exit and tells in `failure`.
    std::uint32_t run();
    static constexpr std::uint32_t no_exit = 0xFFFF;

    // Moves guest RIP past the instruction that exited.
    static void skip_instruction();

    // run, expecting one reason; says what came instead. For checks.
    bool run_to(std::uint32_t reason, Line& why);

    std::uint64_t vmcs_address() const { return vmcs_address_; }

    GuestRegisters registers{};
    Outcome failure{};

private:
    std::uint64_t vmcs_address_;
    bool launched_ = false;
};

}  // namespace flatback::guests
