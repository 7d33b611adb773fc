// An event of L0's trace, as it lies in the ring, goes out by CPUID and stands in a kept file.
#pragma once

#include <cstdint>

#include "../tag/flush_cause.hpp"
#include "../vmx/exit_reason.hpp"
#include "../vmx/invalidation.hpp"

namespace flatback::trace {

// All numbers here are an interface (docs/trace.md): a change of meaning is a new format_version.
inline constexpr std::uint32_t format_version = 1;
inline constexpr unsigned words_per_event = 4;

enum class Level : std::uint8_t { l0 = 0, l1 = 1, l2 = 2 };

enum class Kind : std::uint8_t {
    exit = 1,           // a guest left, to L0. code: basic exit reason. operand: guest RIP
    entry = 2,          // L0 enters a guest. operand: the VM-entry interruption information
    flush_tag = 3,      // INVVPID. code: type | cause << 8. operand: the linear address of type 0
    flush_ept = 4,      // INVEPT. code: type | cause << 8. operand: EPTP
    refused_entry = 5,  // the processor refused the entry before (VMfail). code: VM-instruction error
};

// Plain words, so that recording is a few stores and every reader sees the same bytes.
struct Event {
    std::uint64_t tsc = 0;
    // kind | cpu << 8 | from << 16 | to << 24 | code << 32 | hardware VPID << 48
    std::uint64_t what = 0;
    // vpid12 | page number of L1's VMCS << 16; 0 where L2 is not concerned
    std::uint64_t nested = 0;
    std::uint64_t operand = 0;

    [[nodiscard]] constexpr Kind kind() const { return static_cast<Kind>(what & 0xff); }
    [[nodiscard]] constexpr std::uint8_t cpu() const { return static_cast<std::uint8_t>(what >> 8); }
    [[nodiscard]] constexpr Level from() const { return static_cast<Level>(what >> 16 & 0xff); }
    [[nodiscard]] constexpr Level to() const { return static_cast<Level>(what >> 24 & 0xff); }
    [[nodiscard]] constexpr std::uint16_t code() const { return static_cast<std::uint16_t>(what >> 32); }
    [[nodiscard]] constexpr std::uint16_t vpid() const { return static_cast<std::uint16_t>(what >> 48); }
    [[nodiscard]] constexpr std::uint16_t vpid12() const { return static_cast<std::uint16_t>(nested); }
    [[nodiscard]] constexpr std::uint64_t vmcs12() const { return nested >> 16 << 12; }

    // Of the kinds whose code says so.
    [[nodiscard]] constexpr vmx::ExitReason reason() const { return static_cast<vmx::ExitReason>(code()); }
    [[nodiscard]] constexpr std::uint8_t flush_type() const { return static_cast<std::uint8_t>(code()); }
    [[nodiscard]] constexpr tag::FlushCause cause() const {
        return static_cast<tag::FlushCause>(code() >> 8);
    }

    friend constexpr bool operator==(const Event&, const Event&) = default;
};
static_assert(sizeof(Event) == words_per_event * sizeof(std::uint64_t));

[[nodiscard]] constexpr std::uint64_t make_what(Kind kind, unsigned cpu, Level from, Level to,
                                                std::uint16_t code, std::uint16_t vpid) {
    return static_cast<std::uint64_t>(kind) | std::uint64_t{cpu & 0xff} << 8 |
           static_cast<std::uint64_t>(from) << 16 | static_cast<std::uint64_t>(to) << 24 |
           std::uint64_t{code} << 32 | std::uint64_t{vpid} << 48;
}
// vmcs12: the page-aligned address of L1's VMCS.
[[nodiscard]] constexpr std::uint64_t make_nested(std::uint16_t vpid12, std::uint64_t vmcs12) {
    return vpid12 | vmcs12 << 4;
}
[[nodiscard]] constexpr std::uint16_t flush_code(std::uint8_t type, tag::FlushCause cause) {
    return static_cast<std::uint16_t>(type | static_cast<unsigned>(cause) << 8);
}

// The check of a kept trace, over its words in their order: a lost or changed line shows.
inline constexpr std::uint64_t check_start = 0xcbf2'9ce4'8422'2325;
[[nodiscard]] constexpr std::uint64_t check_step(std::uint64_t check, std::uint64_t word) {
    constexpr std::uint64_t prime = 0x100'0000'01b3;
    return (check ^ word) * prime;
}

// --- CPUID leaf 4000_0005H (docs/counters.md) ---

inline constexpr std::uint32_t leaf = 0x4000'0005;

// Its sub-indices, in ECX.
namespace subleaf {
inline constexpr std::uint32_t format = 0;   // EAX version, EBX bytes an event, ECX capacity, EDX state
inline constexpr std::uint32_t written = 1;  // EDX:EAX events since the last start
inline constexpr std::uint32_t stop = 2;
inline constexpr std::uint32_t start = 3;  // forgets what was recorded
// Words 0 and 1 (half 0) or 2 and 3 (half 1) of the event in a place of the ring, as EAX, EBX, ECX, EDX; only
// while recording is stopped.
inline constexpr std::uint32_t event = 0x8000'0000;
[[nodiscard]] constexpr std::uint32_t event_half(std::uint64_t place, unsigned half) {
    return event | static_cast<std::uint32_t>(place << 1) | half;
}
}  // namespace subleaf

// The bits of EDX of subleaf::format.
namespace state {
inline constexpr std::uint32_t available = 1;  // L0 has a ring: trace=on
inline constexpr std::uint32_t recording = 2;
}  // namespace state

}  // namespace flatback::trace
