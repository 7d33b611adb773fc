#include "guests/linux/payload.hpp"

#include "guests/linux/guest_layout.hpp"
#include "guests/linux/payload_abi.h"

#define FLATBACK_DECLARE_PAYLOAD(name)                \
    extern const std::byte flatback_payload_##name[]; \
    extern const std::byte flatback_payload_##name##_end[]

extern "C" {
FLATBACK_DECLARE_PAYLOAD(cpuid);
FLATBACK_DECLARE_PAYLOAD(port_io);
FLATBACK_DECLARE_PAYLOAD(halt);
FLATBACK_DECLARE_PAYLOAD(touch);
FLATBACK_DECLARE_PAYLOAD(mov_cr3);
FLATBACK_DECLARE_PAYLOAD(turns);
}

namespace flatback::guests {

const std::array<Payload, 6>& all_payloads() {
    static const std::array<Payload, 6> payloads{{
        {PayloadId::cpuid, "l2_cpuid", {flatback_payload_cpuid, flatback_payload_cpuid_end}, 64, 16},
        {PayloadId::port_io, "l2_io", {flatback_payload_port_io, flatback_payload_port_io_end}, 32, 8},
        {PayloadId::halt, "l2_hlt", {flatback_payload_halt, flatback_payload_halt_end}, 32, 8},
        {PayloadId::touch, "l2_touch", {flatback_payload_touch, flatback_payload_touch_end}, 64, touch_pages},
        {PayloadId::mov_cr3, "l2_mov_cr3", {flatback_payload_mov_cr3, flatback_payload_mov_cr3_end}, 64, 16},
        {PayloadId::turns,
         "l2_alternating_vpid12",
         {flatback_payload_turns, flatback_payload_turns_end},
         32,
         8},
    }};
    return payloads;
}

const Payload& payload(PayloadId id) {
    return all_payloads()[static_cast<std::size_t>(id)];
}

std::uint64_t expected_result(const Payload& which, std::uint64_t steps) {
    switch (which.id) {
        case PayloadId::cpuid: {
            const auto& leaf = cpuid_leaf_value;
            return which.operations() * (std::uint64_t{leaf.eax} + leaf.ebx + leaf.ecx + leaf.edx);
        }
        case PayloadId::port_io:
        case PayloadId::halt:
            return steps;
        case PayloadId::touch: {
            // Each page is read once on its first touch and once a pass: the reads see the pattern,
            // then the pattern plus the addend plus the number of passes before.
            std::uint64_t sum = 0;
            for (std::uint64_t page = 0; page < which.operations_per_batch; ++page) {
                sum += touch_pattern(page);
                for (std::uint64_t pass = 0; pass < which.batches; ++pass) {
                    sum += touch_pattern(page) + FLATBACK_TOUCH_ADDEND + pass;
                }
            }
            return sum;
        }
        case PayloadId::mov_cr3:
            return which.operations() * (first_value + second_value);
        case PayloadId::turns:
            return steps * first_value;
    }
    return 0;
}

std::uint64_t expected_touched(const Payload& which, std::uint64_t index) {
    return touch_pattern(index) + FLATBACK_TOUCH_ADDEND + which.batches;
}

}  // namespace flatback::guests
