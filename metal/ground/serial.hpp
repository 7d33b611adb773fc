// COM1, the only way L0 speaks: 115200 baud, 8 bits, no parity, one stop bit, no interrupts.
#pragma once

#include <string_view>

namespace flatback::metal::serial {

// Sets up the UART. L1 owns it afterwards too (it is passed through): L0 only ever appends characters.
void initialize();

// '\n' goes out as "\r\n". The wait for the transmitter is bounded: without a UART the text is lost, nothing
// hangs.
void write(std::string_view text);

// Waits, bounded, until the last character has left: before the machine is switched off, or L1 gets
// the UART.
void drain();

}  // namespace flatback::metal::serial
