#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace flatback::guests {

enum class PayloadId { cpuid, port_io, halt, touch, mov_cr3, turns, vmcall, rdmsr, event, mmio };

/// One L2 program: its code, and how much of it one run does.
struct Payload {
    PayloadId id;
    /// As in `check NAME` and `--payload NAME`.
    std::string_view name;
    std::span<const std::byte> code;
    /// Batches are the unit of timing: the figure printed is the median over batches.
    std::uint64_t batches;
    std::uint64_t operations_per_batch;

    [[nodiscard]] constexpr std::uint64_t operations() const { return batches * operations_per_batch; }
};

[[nodiscard]] const std::array<Payload, 10>& all_payloads();
[[nodiscard]] const Payload& payload(PayloadId id);

/// The registers that the VMM gives L2 for FLATBACK_CPUID_LEAF. No carry between the 32-bit halves is
/// lost in the payload's sum, which is 64 bits wide.
struct CpuidResult {
    std::uint32_t eax, ebx, ecx, edx;
};
inline constexpr CpuidResult cpuid_leaf_value{0x0001'0203, 0x1011'1213, 0x2021'2223, 0x8081'8283};

/// What L2 reads from FLATBACK_RDMSR_NUMBER: bits that KVM lets a VMM set.
inline constexpr std::uint64_t msr_value = 0x1801;

/// The quadword at the start of page `index` of the touch region before the payload runs.
[[nodiscard]] constexpr std::uint64_t touch_pattern(std::uint64_t index) {
    return (index + 1) * 0x9E37'79B9'7F4A'7C15;
}

/// The mailbox's value after a run of a payload that ends by itself, or after `steps` operations of one that
/// does not (port_io, halt: a counter; turns: under the first root; mmio: the sum of what was read).
[[nodiscard]] std::uint64_t expected_result(const Payload& which, std::uint64_t steps);

/// The quadword of touched page `index` after a whole run.
[[nodiscard]] std::uint64_t expected_touched(const Payload& which, std::uint64_t index);

}  // namespace flatback::guests
