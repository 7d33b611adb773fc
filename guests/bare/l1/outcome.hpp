// How a VMX instruction ended: SDM 3C 31.2 "Conventions".
#pragma once

#include <cstdint>

#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

// CF, PF, AF, ZF, SF, OF: what every VMX instruction defines.
constexpr std::uint64_t arithmetic_flags = 0x8D5;
constexpr std::uint64_t flag_carry = 0x1;
constexpr std::uint64_t flag_zero = 0x40;

struct Outcome {
    enum class Kind : std::uint8_t { succeed, fail_invalid, fail_valid, fault, strange_flags, vm_exit };

    Kind kind = Kind::succeed;
    std::uint8_t vector = 0;   // of a fault
    std::uint32_t error = 0;   // VM-instruction error of fail_valid, or error code of a fault
    std::uint64_t detail = 0;  // CR2 of a #PF, the flags of strange_flags

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

constexpr Outcome vm_succeed{};
constexpr Outcome vm_exit{Outcome::Kind::vm_exit, 0, 0, 0};
constexpr Outcome vm_fail_invalid{Outcome::Kind::fail_invalid, 0, 0, 0};
constexpr Outcome vm_fail_valid(std::uint32_t number) {
    return {Outcome::Kind::fail_valid, 0, number, 0};
}
constexpr Outcome fault(std::uint8_t vector, std::uint32_t error_code = 0) {
    return {Outcome::Kind::fault, vector, error_code, 0};
}
inline Outcome page_fault(std::uint64_t linear_address, std::uint32_t error_code) {
    return {Outcome::Kind::fault, 14, error_code, linear_address};
}

// The outcome that RFLAGS after the instruction and last_fault tell. Reads the error number by VMREAD.
Outcome outcome_of(std::uint64_t flags);

Line& operator<<(Line& line, const Outcome& outcome);

}  // namespace flatback::guests
