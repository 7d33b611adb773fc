// The local APIC: enough to send this CPU interrupts and NMIs. In the mode in which it is found, but for what
// use_x2apic() says.
#pragma once

#include <cstdint>

namespace flatback::guests {

// Masks both PICs and enables the local APIC with every local vector masked.
void start_local_apic();
// The local APIC alone, on another processor.
void start_own_local_apic();

// Whether this processor's is, by IA32_APIC_BASE.
bool is_in_x2apic_mode();

// Whether the APIC is in x2APIC mode, where interrupts are acknowledged otherwise.
void use_x2apic(bool used);

void end_of_interrupt();

// Sends a fixed interrupt to this CPU.
void send_self_interrupt(std::uint8_t vector);

// Sends an interrupt command (SDM 3A 11.6.1) to the processor with this identifier.
void send_command(std::uint32_t apic_id, std::uint32_t command);

// Sends an NMI to this CPU.
void send_self_nmi();

// True while `vector` is requested and not yet accepted.
bool interrupt_requested(std::uint8_t vector);

// True from acceptance to end_of_interrupt.
bool interrupt_in_service(std::uint8_t vector);

}  // namespace flatback::guests
