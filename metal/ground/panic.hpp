// The end of L0: one line that says what failed, then everything known, then the machine stops.
#pragma once

#include <string_view>

#include "metal/ground/log.hpp"

namespace flatback::metal {

struct InterruptFrame;

// Called by panic, after the registers, to print what the hypervisor knows (the last VM exits). At most one.
void set_panic_report(void (*report)());

// Called by panic before it prints: the other processors stop. At most one.
void set_panic_stop(void (*stop)());

// Draws the mark of L0's records and tells it, `FLATBACK text l0.mark MARK`: once, before L1 runs. From then
// on whatever L0 reports is `FLATBACK MARK error …`, so that nothing that L1 prints can be taken for it.
void announce_mark();

// panic_begin prints "FLATBACK error L0: " with the mark, on a line and a serial port of its own making,
// whatever L1 has left of them; panic_finish prints registers, CRs, the report and the current VMCS, writes
// "Shutdown" to port 0x8900 and halts. A panic inside a panic stops at once.
void panic_begin(std::string_view whose = "L0");
[[noreturn]] void panic_finish(const InterruptFrame* frame = nullptr);

// panic("what failed, where, what to do", value, log::hex(value)...)
template <typename... Values>
[[noreturn]] void panic(const Values&... values) {
    panic_begin();
    log::line(values...);
    panic_finish();
}

// As panic, for a state of the machine or an input that is not L0's fault: the one line, no registers.
[[noreturn]] void refuse_finish();
template <typename... Values>
[[noreturn]] void refuse(const Values&... values) {
    panic_begin();
    log::line(values...);
    refuse_finish();
}

// As refuse, where L1's processor shuts down, as it would without L0: "error L1: WHERE OR WHY".
template <typename... Values>
[[noreturn]] void l1_ended(const Values&... values) {
    panic_begin("L1");
    log::line(values...);
    refuse_finish();
}

}  // namespace flatback::metal
