// Posted interrupts (SDM 3C 30.6), which the engine processes at the external-interrupt exit of an L2:
// whether the processor has them or not, and also where each interrupt is the host's first.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/words.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

namespace detail {
// The posted-interrupt descriptor (SDM 3C table 30-1): 256 requests, and the notification's own bits.
inline constexpr std::size_t requests_words = 4;
inline constexpr std::uint64_t outstanding_notification = 1;  // of the word behind them

// Of the virtual-APIC page: VIRR, of 256 bits by 32 at every 16 bytes (SDM 3C 30.1.1).
inline constexpr std::size_t virtual_interrupt_requests = 0x200;
inline constexpr std::size_t distance_of_registers = 16;
}  // namespace detail

// L2, whose VMCS is current, has met an external interrupt that L1 asked to see. True: it was the
// notification; what is posted is L2's, and it is to be entered again. False: it is L1's exit.
//
// Descriptor and virtual-APIC page are L1's, whose other processors post at the same time: what is there is
// taken word by word, each in one piece, so that a request is in one of the two places, or on the way between
// them here.
template <Port P>
[[gnu::noinline]] bool NestedVcpu<P>::take_posted_interrupts(const Slot& slot,
                                                             vmx::InterruptionInformation interrupt) {
    namespace field = vmx::field;
    if constexpr (detail::EndsInterrupts<P>) {
        const Vmcs12& vmcs12 = slot.vmcs12;
        if ((vmcs12.get(field::pin_based_vm_execution_controls) & vmx::pin::process_posted_interrupts) == 0 ||
            !interrupt.is_valid() ||
            interrupt.vector() != vmcs12.get(field::posted_interrupt_notification_vector))
            return false;
        const x86::Gpa<x86::L1> descriptor{vmcs12.get(field::posted_interrupt_descriptor_address)};
        std::byte* const descriptor_page = port_.l1_page(descriptor);
        auto* const requests =
            descriptor_page == nullptr
                ? nullptr
                : reinterpret_cast<std::uint64_t*>(descriptor_page + descriptor.page_offset());
        if (requests != nullptr)
            x86::and_word(requests + detail::requests_words, ~detail::outstanding_notification);
        port_.end_interrupt(interrupt.vector());
        if (requests == nullptr) return true;
        unsigned highest = 0;
        for (unsigned word = 0; word < detail::requests_words; ++word) {
            if (x86::read_word(requests + word) == 0) continue;
            const std::uint64_t posted = x86::exchange_word(requests + word, std::uint64_t{0});
            if (posted == 0) continue;
            highest = 64 * word + static_cast<unsigned>(std::bit_width(posted)) - 1;
            // Asked for anew: where there is no memory, the page that stands for it is one for all.
            std::byte* const apic = port_.l1_page(x86::Gpa<x86::L1>{vmcs12.get(field::virtual_apic_address)});
            if (apic == nullptr) continue;
            auto* const registers = reinterpret_cast<std::uint32_t*>(
                apic + detail::virtual_interrupt_requests + 2 * word * detail::distance_of_registers);
            const auto low = static_cast<std::uint32_t>(posted);
            const auto high = static_cast<std::uint32_t>(posted >> 32);
            if (low != 0) x86::or_word(registers, low);
            if (high != 0) x86::or_word(registers + detail::distance_of_registers / sizeof *registers, high);
            msr_bitmaps_.note_written(apic);
        }
        msr_bitmaps_.note_written(descriptor_page);
        const unsigned status = get(field::guest_interrupt_status);
        constexpr unsigned requesting = 0xff;  // RVI; above it SVI
        if (highest > (status & requesting)) {
            put(field::guest_interrupt_status, static_cast<std::uint16_t>((status & ~requesting) | highest));
        }
        return true;
    }
    return false;
}

// told: the IDT-vectoring information, which is valid, of an EPT violation of L2's, whose VMCS is current, on
// a processor that misreports virtual interrupts; the event that was being delivered.
//
// The processor has the interrupt in service by then, and L2 has done nothing for it: L2 still takes
// interrupts. So it is too in a handler that lets interrupts in before it ends its own, where an exception
// is then taken for the interrupt: guests end it before.
template <Port P>
[[gnu::noinline, gnu::cold]] vmx::InterruptionInformation NestedVcpu<P>::virtual_interrupt_instead(
    const Slot& slot, vmx::InterruptionInformation told) {
    namespace field = vmx::field;
    if ((slot.vmcs02.secondary & vmx::secondary::virtual_interrupt_delivery) == 0 ||
        (get(field::guest_rflags) & x86::rflags::interrupt_enable) == 0)
        return told;
    const auto in_service = static_cast<std::uint8_t>(get(field::guest_interrupt_status) >> 8);
    return in_service != 0 ? vmx::InterruptionInformation::external(in_service) : told;
}

}  // namespace flatback::nested
