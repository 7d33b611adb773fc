// L1's local APIC: IA32_APIC_BASE and the x2APIC registers, over a real APIC that stays in one mode.
//
// There are processors on which IA32_APIC_BASE.EN, once 0, is 0 until reset, and none on which x2APIC mode
// can be left otherwise than through EN = 0. So L1's modes are L0's word only. The real APIC is in xAPIC
// mode;
// - L1 in xAPIC mode has its page, and so no exit at all;
// - in x2APIC mode L1 has no page, and each of its x2APIC registers is one access of L0's to the page;
// - disabled, it has neither, and the APIC is a plain wire from the 8259 and the NMI pin to the processor
//   (SDM 3A 11.4.3).
// Where the firmware left the real APIC in x2APIC mode, L1's x2APIC registers are the real ones, which the
// host may let L1 have without an exit (has_real_registers), until L1 leaves that mode: then so does the real
// one, for good.
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
    // A register of the real APIC's page, by its offset; only while it is in xAPIC mode.
    { hardware.read_page(number) } -> std::same_as<std::uint32_t>;
    {hardware.write_page(number, number)};
    // MSRs of the real processor; absent, false: #GP.
    { hardware.read_msr(number) } -> std::same_as<std::optional<std::uint64_t>>;
    { hardware.write_msr(number, value) } -> std::same_as<bool>;
    // CPUID.0BH:EDX, or the initial APIC ID where there is no such leaf.
    { hardware.x2apic_id() } -> std::same_as<std::uint32_t>;
    { hardware.has_x2apic() } -> std::same_as<bool>;
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
          base_(hardware.read_msr(x86::msr::ia32_apic_base).value_or(0)),
          passes_x2apic_(mode_of(base_) == Mode::x2apic) {}

    // IA32_APIC_BASE.
    [[nodiscard]] std::uint64_t base() const { return base_; }
    // L1's x2APIC registers are the real ones: they need no exit, but for interrupt commands
    // (host/msr_bitmap.hpp, pass_x2apic_registers). Ends with the first write of IA32_APIC_BASE that leaves
    // x2APIC mode.
    [[nodiscard]] bool has_real_registers() const { return passes_x2apic_; }
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
        return static_cast<std::uint8_t>(read_register(x86::xapic::spurious_vector));
    }

private:
    enum class Mode : std::uint8_t { disabled = 0, invalid = 1, xapic = 2, x2apic = 3 };  // EN, EXTD
    static constexpr Mode mode_of(std::uint64_t base) { return static_cast<Mode>(base >> 10 & 3); }

    void enter_x2apic_mode();
    void disable();
    void reset();
    void write_command(std::uint64_t command);
    void send(std::uint32_t destination, std::uint32_t command);
    [[nodiscard]] bool is_taken(std::uint32_t command, std::uint32_t destination, bool x2apic) {
        if constexpr (requires { hardware_.take_command(command, destination, x2apic); })
            return hardware_.take_command(command, destination, x2apic);
        return false;
    }
    [[nodiscard]] std::uint32_t read_register(std::uint32_t offset) {
        if (!passes_x2apic_) return hardware_.read_page(offset);
        return static_cast<std::uint32_t>(hardware_.read_msr(x86::x2apic::msr_at(offset)).value_or(0));
    }
    void write_register(std::uint32_t offset, std::uint32_t value) {
        if (!passes_x2apic_) return hardware_.write_page(offset, value);
        (void)hardware_.write_msr(x86::x2apic::msr_at(offset), value);
    }
    [[nodiscard]] bool has_local_vector(std::uint32_t offset);

    H& hardware_;
    std::uint64_t reserved_;
    std::uint64_t base_;
    bool passes_x2apic_;         // the real APIC is in x2APIC mode
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
    const bool moved = address != (base_ & x86::apic_base::address_mask);
    if (passes_x2apic_ && to == Mode::x2apic) {
        if (moved) return false;  // the real one is not to lie anywhere else
    } else if (moved || to != from) {
        // Asked for in every mode, so that an address that L1 cannot have is refused where it is written.
        if (!hardware_.place_page(address)) return false;
        if (to == Mode::x2apic && from != Mode::x2apic) enter_x2apic_mode();
        if (to == Mode::disabled && from != Mode::disabled) disable();
        if (to == Mode::xapic && from == Mode::disabled) reset();
        if (to != Mode::xapic) (void)hardware_.place_page(std::nullopt);
    }
    base_ = value;
    return true;
}

// The registers stay as they are, but for the upper half of the interrupt command (SDM 3A 11.12.5.1).
template <ApicHardware H>
void LocalApic<H>::enter_x2apic_mode() {
    command_ = hardware_.read_page(x86::xapic::command_low) & x86::x2apic::command_bits;
}

template <ApicHardware H>
void LocalApic<H>::disable() {
    if (passes_x2apic_) {
        namespace bit = x86::apic_base;
        const std::uint64_t real = hardware_.read_msr(x86::msr::ia32_apic_base).value_or(0);
        (void)hardware_.write_msr(x86::msr::ia32_apic_base,
                                  real & ~(bit::global_enable | bit::x2apic_enable));
        (void)hardware_.write_msr(x86::msr::ia32_apic_base,
                                  (real & ~bit::x2apic_enable) | bit::global_enable);
        passes_x2apic_ = false;
    }
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
    write_register(xapic::initial_count, 0);
    for (const std::uint32_t offset :
         {xapic::local_vector_cmci, xapic::local_vector_timer, xapic::local_vector_thermal,
          xapic::local_vector_performance, xapic::local_vector_lint0, xapic::local_vector_lint1,
          xapic::local_vector_error}) {
        if (has_local_vector(offset)) write_register(offset, xapic::masked);
    }
    write_register(xapic::divide_configuration, 0);
    write_register(xapic::task_priority, 0);
    // What is in service goes, and then what is requested: at most every vector once. A line that stays
    // asserted would request again and again.
    const auto serves = [&] {
        std::uint32_t any = 0;
        for (std::uint32_t word = 0; word < 8; ++word) any |= read_register(xapic::in_service + 16 * word);
        return any != 0;
    };
    for (unsigned vector = 0; vector < 256 && serves(); ++vector) write_register(xapic::end_of_interrupt, 0);
    for (unsigned vector = 0; vector < 256 && hardware_.take_interrupt(); ++vector)
        write_register(xapic::end_of_interrupt, 0);
    if (!passes_x2apic_) {
        hardware_.write_page(xapic::identification, hardware_.x2apic_id() << 24);
        hardware_.write_page(xapic::logical_destination, 0);
        hardware_.write_page(xapic::destination_format, 0xffff'ffff);
        hardware_.write_page(xapic::command_high, 0);
    }
    write_register(xapic::spurious_vector, 0xff);
    // The first write latches what was left, the second clears it.
    write_register(xapic::error_status, 0);
    write_register(xapic::error_status, 0);
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
    return is_there && !passes_x2apic_ ? hardware_.read_page(offset) : 0;
}

template <ApicHardware H>
void LocalApic<H>::write_page(std::uint32_t offset, std::uint32_t value) {
    namespace xapic = x86::xapic;
    if (offset == xapic::command_low &&
        is_taken(value, hardware_.read_page(xapic::command_high) >> 24, false))
        return;
    hardware_.write_page(offset, value);
}

// The performance and thermal entries came one after the other (SDM 3A 11.5.1): by "maximum LVT entry".
template <ApicHardware H>
bool LocalApic<H>::has_local_vector(std::uint32_t offset) {
    namespace xapic = x86::xapic;
    std::uint32_t entry = 0;
    switch (offset) {
        case xapic::local_vector_performance:
            entry = 4;
            break;
        case xapic::local_vector_thermal:
            entry = 5;
            break;
        case xapic::local_vector_cmci:
            entry = 6;
            break;
        default:
            return true;
    }
    return (read_register(xapic::version) >> 16 & 0xff) >= entry;
}

template <ApicHardware H>
std::optional<std::uint64_t> LocalApic<H>::read(std::uint32_t msr) {
    if (mode_of(base_) != Mode::x2apic) return std::nullopt;
    if (passes_x2apic_) return hardware_.read_msr(msr);
    const auto what = x86::x2apic::register_at(msr);
    if (!what.readable) return std::nullopt;
    const std::uint32_t offset = x86::x2apic::page_offset(msr);
    switch (offset) {
        case x86::xapic::identification:
            return hardware_.x2apic_id();
        case x86::xapic::logical_destination:
            return x86::x2apic::logical_id(hardware_.x2apic_id());
        case x86::xapic::command_low:
            return command_;
        default:
            if (!has_local_vector(offset)) return std::nullopt;
            return hardware_.read_page(offset);
    }
}

template <ApicHardware H>
bool LocalApic<H>::write(std::uint32_t msr, std::uint64_t value) {
    if (mode_of(base_) != Mode::x2apic) return false;
    if (passes_x2apic_) {
        constexpr std::uint64_t bits = x86::x2apic::command_bits | 0xffff'ffff'0000'0000;
        if (msr == x86::x2apic::msr_at(x86::xapic::command_low) && (value & ~bits) == 0 &&
            is_taken(static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32), true)) {
            return true;
        }
        return hardware_.write_msr(msr, value);
    }
    const std::uint32_t offset = x86::x2apic::page_offset(msr);
    // The most frequent first.
    if (offset == x86::xapic::end_of_interrupt) {
        if (value != 0) return false;
        hardware_.write_page(offset, 0);
        return true;
    }
    if (offset == x86::xapic::command_low) {
        if ((value & 0xffff'ffff & ~x86::x2apic::command_bits) != 0) return false;
        write_command(value);
        return true;
    }
    const auto what = x86::x2apic::register_at(msr);
    std::uint64_t writable = what.writable_bits;
    if (offset == x86::xapic::spurious_vector &&
        (hardware_.read_page(x86::xapic::version) & x86::xapic::version_suppresses_eoi) != 0) {
        writable |= x86::xapic::suppress_eoi_broadcast;
    }
    if (!what.writable || (value & ~writable) != 0 || !has_local_vector(offset)) return false;
    switch (offset) {
        case x86::x2apic::self_interrupt_offset:
            send(0, x86::xapic::to_self | x86::xapic::level_assert | static_cast<std::uint32_t>(value));
            break;
        default:
            hardware_.write_page(offset, static_cast<std::uint32_t>(value));
    }
    return true;
}

// A 32-bit destination by means of 8-bit ones: the processors of a cluster are those whose IDs have its
// number (SDM 3A 11.12.10), so each is sent to by its ID. There is none that xAPIC mode does not reach.
template <ApicHardware H>
void LocalApic<H>::write_command(std::uint64_t command) {
    namespace xapic = x86::xapic;
    command_ = command;
    const auto low = static_cast<std::uint32_t>(command);
    const auto destination = static_cast<std::uint32_t>(command >> 32);
    if (is_taken(low, destination, true)) return;
    if ((low & xapic::shorthand_mask) != 0 || destination == x86::x2apic::everybody) {
        const bool named = (low & xapic::shorthand_mask) == 0;
        send(named ? xapic::everybody : 0, named ? low & ~xapic::logical_destination_mode : low);
        return;
    }
    if ((low & xapic::logical_destination_mode) == 0) {
        if (destination < xapic::everybody) send(destination, low);
        return;
    }
    const std::uint32_t first = (destination >> 16) * 16;
    for (unsigned member = 0; member < 16 && first + member < xapic::everybody; ++member) {
        if ((destination >> member & 1) == 0) continue;
        const bool lowest_priority = (low & xapic::delivery_mode_mask) == xapic::deliver_lowest_priority;
        std::uint32_t to_one = low & ~xapic::logical_destination_mode;
        if (lowest_priority) to_one &= ~xapic::delivery_mode_mask;
        send(first + member, to_one);
        if (lowest_priority) return;
    }
}

template <ApicHardware H>
void LocalApic<H>::send(std::uint32_t destination, std::uint32_t command) {
    namespace xapic = x86::xapic;
    constexpr unsigned longest_wait = 1000;
    for (unsigned i = 0; i < longest_wait; ++i) {
        if ((hardware_.read_page(xapic::command_low) & xapic::delivery_pending) == 0) break;
    }
    hardware_.write_page(xapic::command_high, destination << 24);
    hardware_.write_page(xapic::command_low, command);
}

}  // namespace flatback::host
