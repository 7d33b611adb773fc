// The state of one write that is let through to vanish (metal/l0/hole_writes.hpp).
#pragma once

#include <array>
#include <cstdint>

namespace flatback::nested {
enum class Entry : std::uint8_t;
}

namespace flatback::metal {

class Ept01;
struct ExitFrame;

// The one instruction of a processor's that is let through, with what is changed in its VMCS.
struct HoleWrite {
    enum class Stop : std::uint8_t { monitor_trap, single_step, preemption_timer };

    Ept01* ept01 = nullptr;
    bool has_preemption_timer = false;
    bool told = false;
    nested::Entry (*handler)(ExitFrame&) = nullptr;  // not null: under way
    bool armed = false;                              // its VMCS is changed
    bool through_ept01 = false;                      // what is open
    bool through_ept02 = false;
    Stop stop{};
    unsigned pages = 0;  // that it has met
    // Where the guest was when it was let go on: RIP and its registers, RSP among them.
    std::uint64_t rip = 0;
    std::array<std::uint64_t, 16> registers{};
    unsigned early_traps = 0;  // that came before the instruction was executed
    std::uint32_t pin = 0;
    std::uint32_t primary = 0;
    std::uint32_t exceptions = 0;
    std::uint32_t page_fault_mask = 0;
    std::uint32_t page_fault_match = 0;
    std::uint64_t flags = 0;   // RFLAGS.TF and IF
    std::uint64_t branch = 0;  // IA32_DEBUGCTL.BTF
    std::uint32_t blocking = 0;
    std::uint32_t timer = 0;
};

}  // namespace flatback::metal
