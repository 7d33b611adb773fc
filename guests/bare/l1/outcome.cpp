#include "guests/bare/l1/outcome.hpp"

#include "guests/bare/l1/vmx_instructions.hpp"

namespace flatback::guests {

Outcome outcome_of(std::uint64_t flags) {
    if (last_fault.taken) {
        return {Outcome::Kind::fault, last_fault.vector, last_fault.error_code,
                last_fault.vector == 14 ? last_fault.cr2 : 0};
    }
    switch (flags & arithmetic_flags) {
        case 0:
            return vm_succeed;
        case flag_carry:
            return vm_fail_invalid;
        case flag_zero:
            return vm_fail_valid(read(vmx::field::vm_instruction_error));
        default:
            return {Outcome::Kind::strange_flags, 0, 0, flags};
    }
}

}  // namespace flatback::guests
