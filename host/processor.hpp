// What L1's own exits need of the hypervisor beside its Port: of the processor's state, what no VMCS holds.
#pragma once

#include <concepts>
#include <cstdint>

namespace flatback::host {

// All functions are called by the virtual CPU's own physical CPU, with interrupts disabled.
template <typename M>
concept Processor = requires(M& processor, std::uint64_t value) {
    // CR0.CD and CR0.NW, as the bits of CR0: VM entries and exits leave them alone (SDM 3C 27.3.2.1, 28.5.1).
    // A host that keeps the caches on for itself does nothing.
    {processor.set_cache_control(value)};
};

}  // namespace flatback::host
