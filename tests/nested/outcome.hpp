// What becomes of an instruction of L1's, or of an exit of L2's.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>

#include "vmx/exit_reason.hpp"
#include "vmx/instruction_error.hpp"
#include "x86/exception.hpp"

namespace flatback::nested_test {

struct Outcome {
    enum class Kind : std::uint8_t {
        succeeded,       // VMsucceed, and RIP moved on
        failed_invalid,  // VMfailInvalid, and RIP moved on
        failed_valid,    // VMfailValid, `number` the error, and RIP moved on
        faulted,         // exception `number` with `code` waits for L1 at the same RIP
        l2_runs,         // the processor is in L2
        begins_again,    // nothing happened yet: L1 executes it once more
        l1_sees_exit,    // L1 is at its host RIP with an exit of basic reason `number`
        hosts_exit,      // an exit of L2's that the host asked for, and sees first
        lost,            // none of these: never right
    };
    Kind kind = Kind::lost;
    std::uint32_t number = 0;
    std::optional<std::uint32_t> code;

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

inline constexpr Outcome vm_succeed{Outcome::Kind::succeeded, 0, {}};
inline constexpr Outcome vm_fail_invalid{Outcome::Kind::failed_invalid, 0, {}};
inline constexpr Outcome l2_runs{Outcome::Kind::l2_runs, 0, {}};
inline constexpr Outcome hosts_exit{Outcome::Kind::hosts_exit, 0, {}};

constexpr Outcome vm_fail(std::uint32_t error) {
    return {Outcome::Kind::failed_valid, error, {}};
}
constexpr Outcome vm_fail(vmx::InstructionError error) {
    return vm_fail(static_cast<std::uint32_t>(error));
}
constexpr Outcome fault(x86::Vector vector, std::optional<std::uint32_t> code = {}) {
    return {Outcome::Kind::faulted, static_cast<std::uint32_t>(vector), code};
}
inline constexpr Outcome invalid_opcode = fault(x86::Vector::invalid_opcode);
inline constexpr Outcome general_protection = fault(x86::Vector::general_protection, 0);
inline constexpr Outcome stack_fault = fault(x86::Vector::stack_fault, 0);
constexpr Outcome page_fault(std::uint32_t code) {
    return fault(x86::Vector::page_fault, code);
}
constexpr Outcome l1_sees(vmx::ExitReason reason) {
    return {Outcome::Kind::l1_sees_exit, static_cast<std::uint32_t>(reason), {}};
}

inline void PrintTo(const Outcome& outcome, std::ostream* out) {
    switch (outcome.kind) {
        case Outcome::Kind::succeeded:
            *out << "VMsucceed";
            return;
        case Outcome::Kind::failed_invalid:
            *out << "VMfailInvalid";
            return;
        case Outcome::Kind::failed_valid:
            *out << "VMfailValid " << outcome.number << " ("
                 << name_of(static_cast<vmx::InstructionError>(outcome.number)) << ")";
            return;
        case Outcome::Kind::faulted:
            *out << "exception " << outcome.number;
            if (outcome.code) *out << " with error code " << *outcome.code;
            return;
        case Outcome::Kind::l2_runs:
            *out << "L2 runs";
            return;
        case Outcome::Kind::begins_again:
            *out << "begins again";
            return;
        case Outcome::Kind::l1_sees_exit:
            *out << "L1 sees exit " << outcome.number << " ("
                 << name_of(static_cast<vmx::ExitReason>(outcome.number)) << ")";
            return;
        case Outcome::Kind::hosts_exit:
            *out << "the host's exit";
            return;
        case Outcome::Kind::lost:
            *out << "lost";
    }
}

}  // namespace flatback::nested_test
