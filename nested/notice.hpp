// What the engine noticed and its host may want to log.
#pragma once

#include <cstdint>

#include "../tag/flush_cause.hpp"
#include "../tag/numbers.hpp"
#include "../vmx/ept.hpp"
#include "../vmx/invalidation.hpp"
#include "../x86/address.hpp"

namespace flatback::nested {

enum class Notice : std::uint8_t {
    entry_check_failed,       // of L1's VM entry; the detail is an EntryCheck (nested/entry/checks_table.hpp)
    hardware_refused_vmcs02,  // VMfail; the detail is the VM-instruction error
    guest_state_refused,      // by the processor; the detail is the exit reason
    entry_msr_refused,        // of L1's list for VM entries; the detail is the number of its entry, from 1
    exit_msr_refused,         // of one for VM exits, which is a VMX abort; the detail is the same
};

// Under what a guest runs: the tag, and for an L2 the VPID that L1 gave it and its VMCS.
struct Running {
    tag::TagNumber tag = tag::TagNumber::none;
    tag::Vpid12 vpid12 = tag::Vpid12::none;
    x86::Gpa<x86::L1> vmcs12{};
};

// A hardware INVVPID or INVEPT, and to a port that wants to know, why it comes. vpid12: whose translations
// go; none where they are not those of one VPID of L1's.
template <typename P>
[[gnu::always_inline]] inline void invvpid_because(P& port, vmx::InvvpidType type, tag::TagNumber tag,
                                                   x86::LinearAddress linear_address, tag::FlushCause cause,
                                                   tag::Vpid12 vpid12) {
    if constexpr (requires { port.invvpid(type, tag, linear_address, cause, vpid12); }) {
        port.invvpid(type, tag, linear_address, cause, vpid12);
    } else {
        port.invvpid(type, tag, linear_address);
    }
}
template <typename P>
[[gnu::always_inline]] inline void invept_because(P& port, vmx::InveptType type, vmx::Eptp eptp,
                                                  tag::FlushCause cause) {
    if constexpr (requires { port.invept(type, eptp, cause); }) {
        port.invept(type, eptp, cause);
    } else {
        port.invept(type, eptp);
    }
}

}  // namespace flatback::nested
