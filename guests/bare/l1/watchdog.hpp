// The real-time clock's alarm as a watchdog. It arrives as an NMI, by the I/O APIC: neither a cleared IF nor
// the controls of a VMCS keep one out for good. In L1 it is an interrupt, and an L2 that does not expect it
// exits in one way or another. In a machine without that clock no alarm ever comes.
#pragma once

namespace flatback::guests::watchdog {

// Sets the alarm; it comes `seconds` later (1 to 50), or up to one second sooner.
void start(unsigned seconds);

// No alarm comes any more.
void stop();

// True once the alarm has come, until the next start.
bool expired();

}  // namespace flatback::guests::watchdog
