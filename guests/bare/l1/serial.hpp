// COM1, for output only.
#pragma once

namespace flatback::guests {

// Sets COM1 to 115200 baud, eight bits, FIFO on, no interrupts.
void start_serial();

// Writes one character. Waits only when the FIFO of 16 is full.
void write_serial(char character);

// Returns when the last character has left.
void drain_serial();

}  // namespace flatback::guests
