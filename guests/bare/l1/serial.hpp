// Where this guest writes its text: COM1, for output only, or the debug port that hypervisors and emulators
// have at E9H.
#pragma once

namespace flatback::guests {

// Sets COM1 to 115200 baud, eight bits, FIFO on, no interrupts.
void start_serial();

// All that is written goes to port E9H from now on, where there is no COM1.
void use_debug_port();

// Writes one character. Waits only when the FIFO of 16 is full.
void write_serial(char character);

// What another copy of this program has written may still be in the FIFO.
void forget_fifo_room();

// Returns when the last character has left.
void drain_serial();

}  // namespace flatback::guests
