// Interrupt commands of L1's that no processor may get: INIT would end L0 on it, and SIPI has an effect on
// none that is in VMX operation. And those to logical destinations that the real APICs do not know.
#include "metal/l0/port.hpp"
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/given_processors.hpp"
#include "x86/local_apic.hpp"

namespace flatback::metal {
namespace {

namespace xapic = x86::xapic;

// SDM 3A 11.6.2.2. A cluster is a group of processors by the upper four bits.
bool has_logical_destination(const ProcessorLocal& processor, std::uint32_t destination, bool x2apic) {
    if (x2apic) {
        const std::uint32_t own = x86::x2apic::logical_id(processor.apic_id);
        constexpr std::uint32_t members = 0xffff;
        return (own & ~members) == (destination & ~members) && (own & destination & members) != 0;
    }
    const std::uint32_t own = processor.logical_destination.load() >> 24;
    const bool flat = processor.destination_format.load() >> 28 == 0xf;
    if (flat) return (own & destination) != 0;
    return (own >> 4 == destination >> 4 || destination >> 4 == 0xf) && (own & destination & 0xf) != 0;
}

bool is_destination(const ProcessorLocal& processor, std::uint32_t command, std::uint32_t destination,
                    bool x2apic) {
    switch (command & xapic::shorthand_mask) {
        case 0:
            break;
        case xapic::to_all_others:
            return &processor != &this_processor();
        default:
            return false;  // INIT and SIPI know no other shorthand (SDM 3A table 11-3)
    }
    if (destination == (x2apic ? x86::x2apic::everybody : xapic::everybody)) return true;
    if ((command & xapic::logical_destination_mode) != 0)
        return has_logical_destination(processor, destination, x2apic);
    return processor.apic_id == destination;
}

// To each by its identifier.
[[gnu::noinline, gnu::cold]] void send_to_logical(std::uint32_t command, std::uint32_t destination,
                                                  bool x2apic) {
    const bool lowest_priority = (command & xapic::delivery_mode_mask) == xapic::deliver_lowest_priority;
    std::uint32_t to_one =
        command & static_cast<std::uint32_t>(x86::x2apic::command_bits) & ~xapic::logical_destination_mode;
    if (lowest_priority) to_one &= ~xapic::delivery_mode_mask;
    const BootApic apic;
    for (const ProcessorLocal* const each : given_processors()) {
        if (!is_destination(*each, command, destination, x2apic)) continue;
        apic.send_to(each->apic_id, to_one);
        if (lowest_priority) return;
    }
}

}  // namespace

bool RealApic::take_command(std::uint32_t command, std::uint32_t destination, bool x2apic) const {
    const std::uint32_t mode = command & xapic::delivery_mode_mask;
    if (mode != xapic::deliver_init && mode != xapic::deliver_start) {
        constexpr std::uint32_t to_whom = xapic::shorthand_mask | xapic::logical_destination_mode;
        if ((command & to_whom) != xapic::logical_destination_mode) return false;
        const auto& are_l0s = x2apic ? x2apic_destinations_are_l0s_ : xapic_destinations_are_l0s_;
        if (!are_l0s.load(std::memory_order_relaxed)) return false;
        send_to_logical(command, destination, x2apic);
        return true;
    }
    // Deassertion of INIT concerns the arbitration of processors that had it (SDM 3A 11.6.1).
    constexpr std::uint32_t level = xapic::level_triggered | xapic::level_assert;
    if (mode == xapic::deliver_init && (command & level) == xapic::level_triggered) return true;
    for (ProcessorLocal* const each : given_processors()) {
        if (!is_destination(*each, command, destination, x2apic)) continue;
        if (mode == xapic::deliver_init) {
            give_init(*each);
        } else {
            give_start(*each, static_cast<std::uint8_t>(command));
        }
    }
    return true;
}

}  // namespace flatback::metal
