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
FLATBACK_DECLARE_PAYLOAD(vmcall);
FLATBACK_DECLARE_PAYLOAD(rdmsr);
FLATBACK_DECLARE_PAYLOAD(event);
FLATBACK_DECLARE_PAYLOAD(mmio);
}

namespace flatback::guests {

const std::array<Payload, 10>& all_payloads() {
    static const std::array<Payload, 10> payloads{{
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
        {PayloadId::vmcall, "l2_vmcall", {flatback_payload_vmcall, flatback_payload_vmcall_end}, 64, 16},
        {PayloadId::rdmsr, "l2_rdmsr", {flatback_payload_rdmsr, flatback_payload_rdmsr_end}, 64, 16},
        {PayloadId::event, "l2_ioeventfd", {flatback_payload_event, flatback_payload_event_end}, 64, 16},
        {PayloadId::mmio, "l2_mmio", {flatback_payload_mmio, flatback_payload_mmio_end}, 32, 8},
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
        case PayloadId::vmcall:
            return which.operations() * static_cast<std::uint64_t>(FLATBACK_VMCALL_RESULT);
        case PayloadId::rdmsr:
            return which.operations() * msr_value;
        case PayloadId::event:
            return which.operations();
        case PayloadId::mmio:
            return steps * device_value;
    }
    return 0;
}

std::uint64_t expected_touched(const Payload& which, std::uint64_t index) {
    return touch_pattern(index) + FLATBACK_TOUCH_ADDEND + which.batches;
}

}  // namespace flatback::guests
