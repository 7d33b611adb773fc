// Every register that an L0 may emulate for this guest, bit by bit: what is read, what a write of each single
// bit does. Not a check by itself: the same records of two runs, with an L0 beneath and without, are compared
// (tools/check/register_records.hpp).
#pragma once

namespace flatback::guests {

// One record a register, `FLATBACK text registers.NAME ...`:
//   value=V    as it was read, or "unreadable"
//   faults=M   the bits (of those tried) whose change was #GP(0)
//   kept=M     the bits whose change was read back
//   odd=M      the bits whose change was read back as neither the old value nor the new one
//   stuck=M    the bits after which the old value could not be written again
// and `FLATBACK text registers.NAME.values ...` for whole values: each with what was read back, or "fault".
// Leaves VMX operation for good, and the local APIC in x2APIC mode.
void record_registers();

// `FLATBACK text registers.cpuid-LEAF eax=V ebx=V ecx=V edx=V`, and -SUBLEAF where that one is another. The
// part of record_registers that only reads.
void record_cpuid();

}  // namespace flatback::guests
