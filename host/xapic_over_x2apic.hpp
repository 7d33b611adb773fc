// The registers of xAPIC mode's page over a real APIC in x2APIC mode: for an L1 that has been in x2APIC mode
// and is in xAPIC mode again (host/local_apic.hpp). Identifier, logical destination and its format, and the
// interrupt command are words here; every other register is the real one.
//
// The real APIC knows nothing of this logical destination: a command with one is the host's to send, by
// identifiers. So are those of other processors, and what devices send by a logical destination goes by the
// one that the real APIC has.
#pragma once

#include <cstdint>

#include "../x86/local_apic.hpp"

namespace flatback::host {

class XapicOverX2Apic final {
public:
    // H: as ApicHardware's MSRs and identifier. By the offset in the page; where there is no register 0 is
    // read, and what is written is lost.
    template <typename H>
    [[nodiscard]] std::uint32_t read(const H& hardware, std::uint32_t offset) const {
        namespace xapic = x86::xapic;
        switch (offset) {
            case xapic::identification:
                return hardware.x2apic_id() << 24;
            case xapic::logical_destination:
                return logical_destination_;
            case xapic::destination_format:
                return destination_format_;
            case xapic::command_low:
                return command_low_;
            case xapic::command_high:
                return command_high_;
            default: {
                const std::uint32_t msr = x86::x2apic::msr_at(offset);
                if (!x86::x2apic::register_at(msr).readable) return 0;
                return static_cast<std::uint32_t>(hardware.read_msr(msr).value_or(0));
            }
        }
    }

    // What is reserved there is ignored here (SDM 3A 11.12.1.3).
    template <typename H>
    void write(H& hardware, std::uint32_t offset, std::uint32_t value) {
        namespace xapic = x86::xapic;
        switch (offset) {
            case xapic::identification:
            case x86::x2apic::self_interrupt_offset:
                return;
            case xapic::logical_destination:
                logical_destination_ = value & upper_byte;
                return;
            case xapic::destination_format:
                destination_format_ = value | ~upper_bits;
                return;
            case xapic::command_low:
                command_low_ = value & static_cast<std::uint32_t>(x86::x2apic::command_bits);
                return send(hardware);
            case xapic::command_high:
                command_high_ = value & upper_byte;
                return;
            default: {
                const std::uint32_t msr = x86::x2apic::msr_at(offset);
                const auto what = x86::x2apic::register_at(msr);
                if (!what.writable) return;
                std::uint64_t bits = what.writable_bits;
                if (offset == xapic::spurious_vector &&
                    (read(hardware, xapic::version) & xapic::version_suppresses_eoi) != 0) {
                    bits |= xapic::suppress_eoi_broadcast;
                }
                static_cast<void>(hardware.write_msr(msr, value & bits));
            }
        }
    }

private:
    static constexpr std::uint32_t upper_byte = 0xff00'0000;
    static constexpr std::uint32_t upper_bits = 0xf000'0000;  // of the format, whose others are ones

    template <typename H>
    void send(H& hardware) const {
        namespace xapic = x86::xapic;
        std::uint64_t destination = command_high_ >> 24;
        if (destination == xapic::everybody) destination = x86::x2apic::everybody;
        const bool named = (command_low_ & xapic::shorthand_mask) == 0;
        if (named && (command_low_ & xapic::logical_destination_mode) != 0) return;  // the host's
        static_cast<void>(hardware.write_msr(x86::x2apic::msr_at(xapic::command_low),
                                             (named ? destination << 32 : 0) | command_low_));
    }

    std::uint32_t logical_destination_ = 0;
    std::uint32_t destination_format_ = ~std::uint32_t{0};
    std::uint32_t command_low_ = 0;
    std::uint32_t command_high_ = 0;
};

}  // namespace flatback::host
