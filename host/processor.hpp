// What L1's own exits need of the hypervisor beside its Port: of the processor's state, what no VMCS holds.
#pragma once

#include <concepts>
#include <cstdint>

#include "cpuid.hpp"

namespace flatback::host {

// All functions are called by the virtual CPU's own physical CPU, with interrupts disabled.
template <typename M>
concept Processor = requires(M& processor, std::uint32_t leaf, std::uint64_t value) {
    // The instruction, of the processor itself.
    { processor.cpuid(leaf, leaf) } -> std::same_as<CpuidRegisters>;
    // Leaves 4000_0000H to 4000_00FFH, which are the hypervisor's own.
    { processor.hypervisor_leaf(leaf, leaf) } -> std::same_as<CpuidRegisters>;
    // IA32_APIC_BASE.EN of L1's.
    { processor.apic_enabled() } -> std::same_as<bool>;
    // CR0.CD and CR0.NW, as the bits of CR0: VM entries and exits leave them alone (SDM 3C 27.3.2.1, 28.5.1).
    // A host that keeps the caches on for itself does nothing.
    {processor.set_cache_control(value)};
    // XCR0 of the processor, in which L1's is. False: it does not take the value.
    { processor.write_xcr0(value) } -> std::same_as<bool>;
    // WBINVD, in place of L1's INVD: what the host has in the caches is to reach memory too.
    {processor.write_back_caches()};
};

}  // namespace flatback::host
