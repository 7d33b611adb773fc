// This processor's local APIC, as far as L0 needs it for itself: in xAPIC or x2APIC mode, as the firmware
// left it.
#pragma once

#include <cstdint>

namespace flatback::metal {

class BootApic final {
public:
    BootApic();  // reads IA32_APIC_BASE
    [[nodiscard]] bool is_enabled() const { return enabled_; }
    // Interrupt command (SDM 3A 11.6.1), bits 31:0, without a destination; returns when it was sent.
    void send_to_all_others(std::uint32_t command) const;
    void send_to(std::uint32_t apic_id, std::uint32_t command) const;

private:
    void send(std::uint32_t destination, std::uint32_t command) const;
    void wait_until_sent() const;

    bool enabled_;
    bool x2apic_;
    volatile std::uint32_t* page_ = nullptr;
};

// This processor's identifier, whatever the mode of its APIC.
[[nodiscard]] std::uint32_t own_apic_id();

// The delay that INIT and SIPI want, by the timer of every PC; where it does not count, about so long by the
// time that reads of a port take.
void wait_microseconds(unsigned microseconds);  // at most 50,000

}  // namespace flatback::metal
