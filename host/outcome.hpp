// What became of an instruction of L1's that L0 carries out in the processor's place.
#pragma once

#include <cstdint>

#include "../nested/fault.hpp"
#include "../x86/vectors.hpp"

namespace flatback::host {

enum class Outcome : std::uint8_t {
    done,
    general_protection,  // #GP(0), and nothing of L1 has changed
    invalid_opcode,      // #UD, the same
    not_handled,         // nothing was done: the exit is the hypervisor's own
};

// The faults by which an instruction ends that does nothing.
[[nodiscard]] constexpr nested::Fault fault_of(Outcome outcome) {
    if (outcome == Outcome::invalid_opcode)
        return {.vector = static_cast<std::uint8_t>(x86::Vector::invalid_opcode)};
    return {.vector = static_cast<std::uint8_t>(x86::Vector::general_protection), .has_error_code = true};
}

}  // namespace flatback::host
