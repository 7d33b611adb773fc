// L1's local APIC: IA32_APIC_BASE and the x2APIC registers, over a real APIC that enters x2APIC mode with L1
// and need never leave it.
//
// There are processors on which IA32_APIC_BASE.EN, once 0, is 0 until reset, and none on which x2APIC mode
// can be left otherwise than through EN = 0. So the real APIC never has EN = 0 for L1's sake:
// - L1 in xAPIC mode has the real page, and so no exit at all, as long as the real APIC is in that mode;
// - in x2APIC mode the real one is in it too, and L1 has the real registers, without an exit where the host
//   lets it (host/msr_bitmap.hpp, pass_x2apic_registers);
// - disabled, L1 has neither, and the APIC is a plain wire from the 8259 and the NMI pin to the processor
//   (SDM 3A 11.4.3);
// - in xAPIC mode again, the page is the host's to carry out, over the real one in x2APIC mode
//   (host/xapic_over_x2apic.hpp).
//
// Touches no hardware by itself: see ApicHardware. Not shared between processors.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include "../x86/local_apic.hpp"
#include "../x86/msr.hpp"

namespace flatback::host {

// Hardware may also have
//   bool take_command(std::uint32_t command, std::uint32_t destination, bool x2apic)
//       The interrupt command (bits 31:0) that L1 gives, with its destination of 8 bits, or of 32. True: it
//       is done in some other way, as INIT and SIPI are where no processor may get one of L1's; nothing is
//       sent.
template <typename H>
concept ApicHardware = requires(H& hardware, std::uint32_t number, std::uint64_t value,
                                std::optional<std::uint64_t> address) {
    // A register of xAPIC mode's page, by its offset, whatever mode the real APIC is in.
    { hardware.read_page(number) } -> std::same_as<std::uint32_t>;
    {hardware.write_page(number, number)};
    // MSRs of the real processor; absent, false: #GP.
    { hardware.read_msr(number) } -> std::same_as<std::optional<std::uint64_t>>;
    { hardware.write_msr(number, value) } -> std::same_as<bool>;
    // CPUID.0BH:EDX, or the initial APIC ID where there is no such leaf.
    { hardware.x2apic_id() } -> std::same_as<std::uint32_t>;
    { hardware.has_x2apic() } -> std::same_as<bool>;
    // L1 enters x2APIC mode, and the real APIC with it where it is not there yet: from now on L1 has its
    // registers. False: it does not enter that mode, and nothing has changed.
    { hardware.enter_x2apic_mode() } -> std::same_as<bool>;
    // L1 has left it: from now on it has none of these registers.
    {hardware.leave_x2apic_mode()};
    // From now on the APIC's page is at this guest-physical address of L1's, or nowhere. False: it cannot be
    // there, and nothing has changed.
    { hardware.place_page(address) } -> std::same_as<bool>;
    // Takes one interrupt that is requested; false: none is.
    { hardware.take_interrupt() } -> std::same_as<bool>;
};

template <ApicHardware H>
class LocalApic final {
public:
    // physical_address_width: CPUID.80000008H:EAX[7:0].
    LocalApic(H& hardware, unsigned physical_address_width)
        : hardware_(hardware),
          reserved_(x86::apic_base::reserved_bits | ~((std::uint64_t{1} << physical_address_width) - 1) |
                    (hardware.has_x2apic() ? 0 : x86::apic_base::x2apic_enable)),
          base_(hardware.read_msr(x86::msr::ia32_apic_base).value_or(0)) {}

    // IA32_APIC_BASE.
    [[nodiscard]] std::uint64_t base() const { return base_; }
    [[nodiscard]] bool in_x2apic_mode() const { return mode_of(base_) == Mode::x2apic; }
    [[nodiscard]] bool enabled() const { return (base_ & x86::apic_base::global_enable) != 0; }
    [[nodiscard]] bool write_base(std::uint64_t value);

    // MSRs 800H to 8FFH (SDM 3A table 11-6). Absent, false: #GP(0).
    [[nodiscard]] std::optional<std::uint64_t> read(std::uint32_t msr);
    [[nodiscard]] bool write(std::uint32_t msr, std::uint64_t value);
    // A register of the page, by its offset, in xAPIC mode: what L1 reads there, 0 where there is none ...
    [[nodiscard]] std::uint32_t read_page(std::uint32_t offset);
    // ... and what L1 writes there, where the host has kept the page from it.
    void write_page(std::uint32_t offset, std::uint32_t value);
    // INIT: as after reset, but for the mode and the identifier (SDM 3A 11.4.7.3).
    void take_init();
    // What a processor gets that acknowledges where no interrupt is any longer (SDM 3A 11.9).
    [[nodiscard]] std::uint8_t spurious_vector() {
        return static_cast<std::uint8_t>(hardware_.read_page(x86::xapic::spurious_vector));
    }

private:
    enum class Mode : std::uint8_t { disabled = 0, invalid = 1, xapic = 2, x2apic = 3 };  // EN, EXTD
    static constexpr Mode mode_of(std::uint64_t base) { return static_cast<Mode>(base >> 10 & 3); }

    [[nodiscard]] bool enter_x2apic_mode();
    void disable();
    void reset();
    [[nodiscard]] bool is_taken(std::uint32_t command, std::uint32_t destination, bool x2apic) {
        if constexpr (requires { hardware_.take_command(command, destination, x2apic); })
            return hardware_.take_command(command, destination, x2apic);
        return false;
    }
    // The performance and thermal entries came one after the other (SDM 3A 11.5.1): by "maximum LVT entry".
    [[nodiscard]] static constexpr std::uint32_t number_of(std::uint32_t offset) {
        namespace xapic = x86::xapic;
        switch (offset) {
            case xapic::local_vector_performance:
                return 4;
            case xapic::local_vector_thermal:
                return 5;
            case xapic::local_vector_cmci:
                return 6;
            default:
                return 0;
        }
    }
    [[nodiscard]] bool has_local_vector(std::uint32_t offset) {
        const std::uint32_t number = number_of(offset);
        return number == 0 || (hardware_.read_page(x86::xapic::version) >> 16 & 0xff) >= number;
    }

    H& hardware_;
    std::uint64_t reserved_;
    std::uint64_t base_;
    std::uint64_t command_ = 0;  // the interrupt command register of L1's x2APIC mode
};

// The transitions of SDM 3A figure 11-27; every other is #GP(0), and nothing has changed.
template <ApicHardware H>
bool LocalApic<H>::write_base(std::uint64_t value) {
    if ((value & reserved_) != 0) return false;
    const Mode from = mode_of(base_);
    const Mode to = mode_of(value);
    if (to == Mode::invalid || (from == Mode::disabled && to == Mode::x2apic) ||
        (from == Mode::x2apic && to == Mode::xapic)) {
        return false;
    }
    const std::uint64_t address = value & x86::apic_base::address_mask;
    const std::uint64_t old_address = base_ & x86::apic_base::address_mask;
    if (address != old_address || to != from) {
        // Asked for in every mode, so that an address that L1 cannot have is refused where it is written.
        if (!hardware_.place_page(address)) return false;
        if (to == Mode::x2apic && from != Mode::x2apic && !enter_x2apic_mode()) {
            (void)hardware_.place_page(old_address);
            return false;
        }
        if (to == Mode::disabled && from != Mode::disabled) {
            if (from == Mode::x2apic) hardware_.leave_x2apic_mode();
            disable();
        }
        if (to == Mode::xapic && from == Mode::disabled) reset();
        if (to != Mode::xapic) (void)hardware_.place_page(std::nullopt);
    }
    base_ = value;
    return true;
}

// The registers stay as they are, but for the upper half of the interrupt command (SDM 3A 11.12.5.1).
template <ApicHardware H>
bool LocalApic<H>::enter_x2apic_mode() {
    const std::uint32_t command = hardware_.read_page(x86::xapic::command_low);
    if (!hardware_.enter_x2apic_mode()) return false;
    command_ = command & x86::x2apic::command_bits;
    return true;
}

template <ApicHardware H>
void LocalApic<H>::disable() {
    reset();
    hardware_.write_page(x86::xapic::spurious_vector, 0x1ff);
    hardware_.write_page(x86::xapic::local_vector_lint0, x86::xapic::deliver_external);
    hardware_.write_page(x86::xapic::local_vector_lint1, x86::xapic::deliver_nmi);
}

// The state after reset (SDM 3A 11.4.7.1), and no interrupt left. The interrupt command register keeps its
// word: who writes it sends.
template <ApicHardware H>
void LocalApic<H>::reset() {
    namespace xapic = x86::xapic;
    hardware_.write_page(xapic::initial_count, 0);
    const std::uint32_t last_entry = hardware_.read_page(xapic::version) >> 16 & 0xff;
    for (const std::uint32_t offset :
         {xapic::local_vector_cmci, xapic::local_vector_timer, xapic::local_vector_thermal,
          xapic::local_vector_performance, xapic::local_vector_lint0, xapic::local_vector_lint1,
          xapic::local_vector_error}) {
        if (number_of(offset) <= last_entry) hardware_.write_page(offset, xapic::masked);
    }
    hardware_.write_page(xapic::divide_configuration, 0);
    hardware_.write_page(xapic::task_priority, 0);
    // What is in service goes, and then what is requested: at most every vector once. A line that stays
    // asserted would request again and again.
    const auto serves = [&] {
        std::uint32_t any = 0;
        for (std::uint32_t word = 0; word < 8; ++word)
            any |= hardware_.read_page(xapic::in_service + 16 * word);
        return any != 0;
    };
    for (unsigned vector = 0; vector < 256 && serves(); ++vector)
        hardware_.write_page(xapic::end_of_interrupt, 0);
    for (unsigned vector = 0; vector < 256 && hardware_.take_interrupt(); ++vector)
        hardware_.write_page(xapic::end_of_interrupt, 0);
    // In x2APIC mode these are nothing that L1 has, until it leaves that mode.
    hardware_.write_page(xapic::identification, hardware_.x2apic_id() << 24);
    hardware_.write_page(xapic::logical_destination, 0);
    hardware_.write_page(xapic::destination_format, 0xffff'ffff);
    hardware_.write_page(xapic::command_high, 0);
    hardware_.write_page(xapic::spurious_vector, 0xff);
    // The first write latches what was left, the second clears it.
    hardware_.write_page(xapic::error_status, 0);
    hardware_.write_page(xapic::error_status, 0);
}

template <ApicHardware H>
void LocalApic<H>::take_init() {
    if (mode_of(base_) == Mode::disabled) return;  // it is a plain wire
    command_ = 0;
    reset();
}

template <ApicHardware H>
std::uint32_t LocalApic<H>::read_page(std::uint32_t offset) {
    namespace xapic = x86::xapic;
    const bool is_there =
        offset == xapic::destination_format || offset == xapic::command_high ||
        (x86::x2apic::register_at(x86::x2apic::msr_at(offset)).readable && has_local_vector(offset));
    return is_there ? hardware_.read_page(offset) : 0;
}

template <ApicHardware H>
void LocalApic<H>::write_page(std::uint32_t offset, std::uint32_t value) {
    namespace xapic = x86::xapic;
    if (offset == xapic::command_low &&
        is_taken(value, hardware_.read_page(xapic::command_high) >> 24, false))
        return;
    hardware_.write_page(offset, value);
}

// The interrupt command is what L1 wrote: the real one may be the host's own, or not have been sent. And
// there are emulators on which the logical destination is 0 once this mode was entered.
template <ApicHardware H>
std::optional<std::uint64_t> LocalApic<H>::read(std::uint32_t msr) {
    if (!in_x2apic_mode()) return std::nullopt;
    if (msr == x86::x2apic::msr_at(x86::xapic::command_low)) return command_;
    if (msr == x86::x2apic::msr_at(x86::xapic::logical_destination))
        return x86::x2apic::logical_id(hardware_.x2apic_id());
    return hardware_.read_msr(msr);
}

template <ApicHardware H>
bool LocalApic<H>::write(std::uint32_t msr, std::uint64_t value) {
    if (!in_x2apic_mode()) return false;
    if (msr == x86::x2apic::msr_at(x86::xapic::command_low)) {
        constexpr std::uint64_t bits = x86::x2apic::command_bits | 0xffff'ffff'0000'0000;
        if ((value & ~bits) != 0) return false;
        const bool taken =
            is_taken(static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32), true);
        if (!taken && !hardware_.write_msr(msr, value)) return false;
        command_ = value;
        return true;
    }
    return hardware_.write_msr(msr, value);
}

}  // namespace flatback::host
