// Writes to where a guest has no memory, by L1 or by an L2 (under EPT01 or an EPT02 of its own): they vanish.
//
// Such a hole is mapped read-only to a page of ones. A write exits; it is then let through, for one
// instruction (or one delivery of an event), to that page, which is filled with ones again. The processor
// stops behind it by TF, with all that could see TF kept off, and behind a delivery by the preemption timer;
// where it has no such timer, by the monitor trap flag. An exit for any other reason in between ends it as
// well: what was not done then comes again.
#pragma once

#include <cstdint>

#include "metal/boot/boot_result.hpp"

namespace flatback::nested {
enum class Entry : std::uint8_t;
}

namespace flatback::metal {

struct Cpu;
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

// On each processor, before L1 runs there.
void prepare_hole_writes(BootResult& boot);

// An EPT violation under EPT01 at this address, the guest's VMCS current. True: it was a write to a hole and
// goes through at the next entry, an interrupted delivery too once the caller asks for it again.
[[nodiscard]] bool let_hole_write_through(std::uint64_t guest_physical);
// The same for an L2 with an EPT of L1's, whose EPT02 now allows the write (Port::let_write_vanish).
void let_hole_write_through_ept02();

// The next entry is that of such an instruction: nothing else may be given to the guest at it.
[[nodiscard]] bool hole_write_is_under_way();

// That entry failed: the instruction comes again later.
void put_off_hole_write(Cpu& cpu);

}  // namespace flatback::metal
