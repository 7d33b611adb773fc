// What a case is made of. Each step draws from a sequence of its own, does something, and says on the log
// what came of it; it looks at the processor, never at what an earlier step meant to do, so any step can be
// left out.
#pragma once

#include <string_view>

#include "guests/random/random.hpp"

namespace flatback::guests {

// Names every field and register that a step shows a checksum of otherwise.
extern bool log_everything;
// The name of a kind of steps that do nothing: to look past a fault that is known.
extern std::string_view step_left_out;

// The first step of each case: two VMCSs are filled, with an L2 in each.
void prepare_guests(Random& random);

// What an earlier case's guest left in the emulator (Deviation::virtual_nmi_blocking_left) ends. The world is
// to be made anew then.
void end_virtual_nmi_blocking();

// One step, of a kind that is drawn.
void run_step(Random& random);

// The kinds.
void step_entry(Random& random);             // L2 runs, or fails to
void step_vmx_instruction(Random& random);   // a VMX instruction with a good or bad operand
void step_control_register(Random& random);  // L1's own registers
void step_msr(Random& random);
void step_user_port(Random& random);  // a port in user mode, after LTR
void step_event(Random& random);      // an NMI or interrupt to itself
void step_storm(Random& random);      // NMIs at any tick
void step_ticks(Random& random);      // one NMI or interrupt at any tick, for L2
void step_memory(Random& random);     // EPT12, L2's and L1's paging, bitmaps, lists
void step_fields(Random& random);     // VMWRITE and VMREAD of a legal kind
void step_narrow(Random& random);     // VMX instructions in 32-bit code

// Makes one of the filled VMCSs current, in VMX operation; what was undone to get there is not logged.
void make_a_guest_current();

// Fills the current VMCS anew, controls, host and guest, with an L2 in a mode that is drawn.
void refill_current_guest(Random& random);

}  // namespace flatback::guests
