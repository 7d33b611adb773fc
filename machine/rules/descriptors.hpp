// Gates and descriptors of segments in memory, as the SDM lays them out, and what two exceptions become of
// which the second arises in the delivery of the first. Whoever is judged has rules of its own.
#pragma once

#include <cstdint>

#include "event.hpp"

namespace flatback::machine::rules {

/// A gate of a 64-bit IDT (SDM 3A figure 6-8): 16 bytes, as two quadwords.
struct Gate {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    static constexpr unsigned bytes = 16;

    [[nodiscard]] constexpr std::uint64_t offset() const {
        return (low & 0xFFFF) | (low >> 48 << 16) | high << 32;
    }
    [[nodiscard]] constexpr std::uint16_t selector() const { return static_cast<std::uint16_t>(low >> 16); }
    /// Which stack of the TSS; 0: that of the privilege level.
    [[nodiscard]] constexpr unsigned stack_table() const { return static_cast<unsigned>(low >> 32 & 7); }
    [[nodiscard]] constexpr unsigned privilege_level() const { return static_cast<unsigned>(low >> 45 & 3); }
    [[nodiscard]] constexpr bool is_present() const { return (low >> 47 & 1) != 0; }
    // Bits 12:8 of the second doubleword: the type, and S = 0 (SDM 3A table 3-2).
    [[nodiscard]] constexpr bool is_interrupt_gate() const { return (low >> 40 & 0x1F) == 0xE; }
    [[nodiscard]] constexpr bool is_trap_gate() const { return (low >> 40 & 0x1F) == 0xF; }
};

/// The descriptor of a code or data segment (SDM 3A figure 3-8).
struct Descriptor {
    std::uint64_t value = 0;

    static constexpr unsigned bytes = 8;
    static constexpr std::uint64_t accessed = std::uint64_t{1} << 40;

    [[nodiscard]] constexpr std::uint64_t base() const {
        return (value >> 16 & 0xFF'FFFF) | (value >> 56 << 24);
    }
    [[nodiscard]] constexpr std::uint32_t limit() const {
        const auto raw = static_cast<std::uint32_t>((value & 0xFFFF) | (value >> 48 & 0xF) << 16);
        return (value >> 55 & 1) != 0 ? raw << 12 | 0xFFF : raw;
    }
    /// In the format of the VMCS (SDM 3C table 25-2).
    [[nodiscard]] constexpr std::uint32_t access_rights() const {
        return static_cast<std::uint32_t>((value >> 40 & 0xFF) | (value >> 52 & 0xF) << 12);
    }
    [[nodiscard]] constexpr bool is_code() const { return (value >> 43 & 3) == 3; }  // S and the type's bit 3
    [[nodiscard]] constexpr bool is_writable_data() const { return (value >> 43 & 3) == 2 && bit(41); }
    [[nodiscard]] constexpr bool is_conforming() const { return bit(42); }
    [[nodiscard]] constexpr unsigned privilege_level() const {
        return static_cast<unsigned>(value >> 45 & 3);
    }
    [[nodiscard]] constexpr bool is_present() const { return bit(47); }
    [[nodiscard]] constexpr bool is_64_bit() const { return bit(53); }
    [[nodiscard]] constexpr bool is_32_bit() const { return bit(54); }

private:
    [[nodiscard]] constexpr bool bit(unsigned number) const { return (value >> number & 1) != 0; }
};

/// Where a 64-bit TSS has the stack pointers of levels 0 to 2, and those of the interrupt stack table, from 1
/// (SDM 3A figure 8-11).
[[nodiscard]] constexpr unsigned tss_stack_of_level(unsigned level) {
    return 4 + 8 * level;
}
[[nodiscard]] constexpr unsigned tss_stack_of_table(unsigned number) {
    return 0x1C + 8 * number;
}

/// Bits of the error code that names a selector or a gate (SDM 3A 6.13).
namespace selector_error {
inline constexpr std::uint32_t external = 1U << 0;
inline constexpr std::uint32_t of_the_idt = 1U << 1;
}  // namespace selector_error

enum class ExceptionClass : std::uint8_t { benign, contributory, page_fault };

/// SDM 3A table 6-4.
[[nodiscard]] constexpr ExceptionClass class_of(unsigned vector) {
    switch (vector) {
        case 0:
        case 10:
        case 11:
        case 12:
        case 13:
        case 21:
            return ExceptionClass::contributory;
        case 14:
        case 20:
            return ExceptionClass::page_fault;
        default:
            return ExceptionClass::benign;
    }
}

enum class TwoExceptions : std::uint8_t { one_after_the_other, double_fault, shutdown };

/// What becomes of an exception that arises while `first` is delivered (SDM 3A table 6-5, and what follows
/// it).
[[nodiscard]] constexpr TwoExceptions two_exceptions(EventInformation first, unsigned second) {
    const ExceptionClass it = class_of(second);
    if (!first.is(vmx::InterruptionType::hardware_exception) || it == ExceptionClass::benign)
        return TwoExceptions::one_after_the_other;
    if (first.vector() == 8) return TwoExceptions::shutdown;
    switch (class_of(first.vector())) {
        case ExceptionClass::page_fault:
            return TwoExceptions::double_fault;
        case ExceptionClass::contributory:
            if (it == ExceptionClass::contributory) return TwoExceptions::double_fault;
            break;
        case ExceptionClass::benign:
            break;
    }
    return TwoExceptions::one_after_the_other;
}

/// Faults, whose saved image of RFLAGS has RF set: not #DB, #BP, #OF, #DF and #MC, nor an NMI (SDM 3A table
/// 6-1, SDM 3B 18.3.1.1).
[[nodiscard]] constexpr bool is_fault(unsigned vector) {
    return vector < 32 && vector != 1 && vector != 2 && vector != 3 && vector != 4 && vector != 8 &&
           vector != 18;
}

}  // namespace flatback::machine::rules
