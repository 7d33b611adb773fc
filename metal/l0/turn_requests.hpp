// What the parts of L0 ask of the turns that two VMs have (metal/l0/turns.cpp). For those that know no second
// VM: with vm2=on only.
#pragma once

#include <cstdint>

#include "nested/vcpu.hpp"

namespace flatback::metal {

struct ExitFrame;

// The second VM has written to its time-stamp counter.
void second_tsc_changed();
// It has come to its end; why: null where it has said so itself. The first VM goes on.
[[noreturn]] void end_second_vm(const char* why);
// The processor has refused what the second VM was to be entered with.
nested::Entry handle_second_vms_failed_entry(std::uint32_t error);

// OUT of the first VM's to one of the two ports that L0 keeps for its own sake. True: it was the end of that
// VM and is done.
[[nodiscard]] bool see_first_vms_output(std::uint16_t port, std::uint32_t value);

// An NMI waits for the first VM, and the second is about to be entered: the first one's frame, and how it is
// entered.
ExitFrame& first_vm_instead(nested::Entry& entry);

}  // namespace flatback::metal
