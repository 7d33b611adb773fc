// The registers of the local APIC: of its page in xAPIC mode (SDM 3A table 11-1), and as MSRs in x2APIC mode
// (table 11-6).
#pragma once

#include <cstdint>

#include "msr.hpp"

namespace flatback::x86 {

// clang-format off
namespace xapic {
// Offsets in the page.
inline constexpr std::uint32_t identification            = 0x020;
inline constexpr std::uint32_t version                   = 0x030;
inline constexpr std::uint32_t task_priority             = 0x080;
inline constexpr std::uint32_t processor_priority        = 0x0a0;
inline constexpr std::uint32_t end_of_interrupt          = 0x0b0;
inline constexpr std::uint32_t logical_destination       = 0x0d0;
inline constexpr std::uint32_t destination_format        = 0x0e0;
inline constexpr std::uint32_t spurious_vector           = 0x0f0;
inline constexpr std::uint32_t in_service                = 0x100;  // eight words, 16 bytes apart
inline constexpr std::uint32_t interrupt_request         = 0x200;  // likewise
inline constexpr std::uint32_t interrupt_request_end     = 0x280;
inline constexpr std::uint32_t error_status              = 0x280;
inline constexpr std::uint32_t local_vector_cmci         = 0x2f0;
inline constexpr std::uint32_t command_low               = 0x300;
inline constexpr std::uint32_t command_high              = 0x310;
inline constexpr std::uint32_t local_vector_timer        = 0x320;
inline constexpr std::uint32_t local_vector_thermal      = 0x330;
inline constexpr std::uint32_t local_vector_performance  = 0x340;
inline constexpr std::uint32_t local_vector_lint0        = 0x350;
inline constexpr std::uint32_t local_vector_lint1        = 0x360;
inline constexpr std::uint32_t local_vector_error        = 0x370;
inline constexpr std::uint32_t initial_count             = 0x380;
inline constexpr std::uint32_t current_count             = 0x390;
inline constexpr std::uint32_t divide_configuration      = 0x3e0;
// Version.
inline constexpr std::uint32_t version_suppresses_eoi    = 1u << 24;
// Spurious-interrupt vector.
inline constexpr std::uint32_t suppress_eoi_broadcast    = 1u << 12;
// Interrupt command and local vector table.
inline constexpr std::uint32_t delivery_mode_mask        = 7u << 8;
inline constexpr std::uint32_t deliver_lowest_priority   = 1u << 8;
inline constexpr std::uint32_t deliver_nmi               = 4u << 8;
inline constexpr std::uint32_t deliver_init              = 5u << 8;
inline constexpr std::uint32_t deliver_start             = 6u << 8;
inline constexpr std::uint32_t deliver_external          = 7u << 8;
inline constexpr std::uint32_t logical_destination_mode  = 1u << 11;
inline constexpr std::uint32_t delivery_pending          = 1u << 12;
inline constexpr std::uint32_t level_assert              = 1u << 14;
inline constexpr std::uint32_t level_triggered           = 1u << 15;
inline constexpr std::uint32_t masked                    = 1u << 16;
inline constexpr std::uint32_t shorthand_mask            = 3u << 18;
inline constexpr std::uint32_t to_self                   = 1u << 18;
inline constexpr std::uint32_t to_all_others             = 3u << 18;
inline constexpr std::uint32_t everybody                 = 0xff;
}  // namespace xapic
// clang-format on

namespace x2apic {

inline constexpr std::uint32_t everybody = 0xffff'ffff;
inline constexpr std::uint32_t self_interrupt_offset = 0x3f0;
// The interrupt command but for its destination: vector, delivery and destination mode, level, trigger,
// shorthand (SDM 3A figure 11-28).
inline constexpr std::uint64_t command_bits = 0x000c'cfff;

[[nodiscard]] constexpr std::uint32_t page_offset(std::uint32_t msr) {
    return (msr - msr::x2apic_first) << 4;
}
[[nodiscard]] constexpr std::uint32_t msr_at(std::uint32_t offset) {
    return msr::x2apic_first + (offset >> 4);
}
// SDM 3A 11.12.10.2: the cluster in bits 31:16, the place in it as a bit.
[[nodiscard]] constexpr std::uint32_t logical_id(std::uint32_t x2apic_id) {
    return (x2apic_id & 0xffff0) << 12 | 1u << (x2apic_id & 0xf);
}

struct Register {
    bool readable = false;
    bool writable = false;
    std::uint64_t writable_bits = 0;  // every other one is reserved: #GP (SDM 3A 11.12.1.3)
};

// Of MSRs 800H to 8FFH; what is no register is neither readable nor writable.
[[nodiscard]] constexpr Register register_at(std::uint32_t msr) {
    constexpr auto read_only = Register{.readable = true};
    const auto both = [](std::uint64_t bits) {
        return Register{.readable = true, .writable = true, .writable_bits = bits};
    };
    const auto write_only = [](std::uint64_t bits) {
        return Register{.writable = true, .writable_bits = bits};
    };
    const std::uint32_t offset = page_offset(msr);
    if (offset >= xapic::in_service && offset < xapic::interrupt_request_end) return read_only;
    switch (offset) {
        case xapic::identification:
        case xapic::version:
        case xapic::processor_priority:
        case xapic::logical_destination:
        case xapic::current_count:
            return read_only;
        case xapic::task_priority:
            return both(0xff);
        case xapic::end_of_interrupt:
            return write_only(0);
        case xapic::spurious_vector:
            return both(0x1ff);
        case xapic::error_status:
            return both(0);
        case xapic::command_low:
            return both(command_bits | 0xffff'ffff'0000'0000);
        case xapic::local_vector_timer:
            return both(0x7'10ff);
        case xapic::local_vector_cmci:
        case xapic::local_vector_thermal:
        case xapic::local_vector_performance:
            return both(0x1'17ff);
        case xapic::local_vector_lint0:
        case xapic::local_vector_lint1:
            return both(0x1'f7ff);
        case xapic::local_vector_error:
            return both(0x1'10ff);
        case xapic::initial_count:
            return both(0xffff'ffff);
        case xapic::divide_configuration:
            return both(0xb);
        case self_interrupt_offset:
            return write_only(0xff);
        default:
            return {};
    }
}

}  // namespace x2apic

}  // namespace flatback::x86
