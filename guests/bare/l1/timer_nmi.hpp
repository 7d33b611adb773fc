// NMIs and interrupts at times to come: from the interval timer, through the I/O APIC.
#pragma once

#include <cstdint>

namespace flatback::guests::timer_nmi {

// One, in so many periods of the timer, of 838 ns, from its next one on.
void send_in(std::uint16_t periods);

// The same as an interrupt with this vector.
void send_interrupt_in(std::uint16_t periods, std::uint8_t vector);

// One NMI every so many periods.
void send_every(std::uint16_t periods);

// Nothing comes any more.
void stop();

}  // namespace flatback::guests::timer_nmi
