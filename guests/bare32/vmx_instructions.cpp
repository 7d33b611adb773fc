#include "guests/bare32/vmx_instructions.hpp"

#include "guests/bare32/framed.hpp"

#define FLATBACK_MEMORY_INSTRUCTION(name, instruction)                    \
    Outcome name(std::uint32_t operand) {                                 \
        std::uint32_t flags;                                              \
        last_fault.taken = false;                                         \
        asm volatile(FLATBACK_FRAMED(instruction " (%[operand])")         \
                     : [flags] "=r"(flags)                                \
                     : [operand] "r"(operand), [preset] "i"(preset_flags) \
                     : "cc", "memory");                                   \
        return outcome_of(flags);                                         \
    }

namespace flatback::guests::bare32 {
namespace {

// All arithmetic flags and the bit that is always one; IF clear.
constexpr std::uint32_t preset_flags = arithmetic_flags | 2;

}  // namespace

Outcome outcome_of(std::uint32_t flags) {
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
            return vm_fail_valid(read(field::vm_instruction_error));
        default:
            return {Outcome::Kind::strange_flags, 0, 0, flags};
    }
}

FLATBACK_MEMORY_INSTRUCTION(try_vmxon, "vmxon")
FLATBACK_MEMORY_INSTRUCTION(try_vmclear, "vmclear")
FLATBACK_MEMORY_INSTRUCTION(try_vmptrld, "vmptrld")
FLATBACK_MEMORY_INSTRUCTION(try_vmptrst, "vmptrst")

Outcome try_vmxoff() {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmxoff")
                 : [flags] "=r"(flags)
                 : [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmcall() {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmcall")
                 : [flags] "=r"(flags)
                 : [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmread(std::uint32_t encoding, std::uint32_t& value) {
    std::uint32_t flags;
    std::uint32_t result = value;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmread %[encoding], %[result]")
                 : [flags] "=&r"(flags), [result] "+r"(result)
                 : [encoding] "r"(encoding), [preset] "i"(preset_flags)
                 : "cc", "memory");
    value = result;
    return outcome_of(flags);
}

Outcome try_vmread_to(std::uint32_t encoding, std::uint32_t operand) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmread %[encoding], (%[operand])")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [operand] "r"(operand), [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmwrite(std::uint32_t encoding, std::uint32_t value) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmwrite %[value], %[encoding]")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [value] "r"(value), [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmwrite_from(std::uint32_t encoding, std::uint32_t operand) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmwrite (%[operand]), %[encoding]")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [operand] "r"(operand), [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_invept(std::uint32_t type, std::uint32_t operand) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("invept (%[operand]), %[type]")
                 : [flags] "=r"(flags)
                 : [type] "r"(type), [operand] "r"(operand), [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_invvpid(std::uint32_t type, std::uint32_t operand) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("invvpid (%[operand]), %[type]")
                 : [flags] "=r"(flags)
                 : [type] "r"(type), [operand] "r"(operand), [preset] "i"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_enter(bool launch) {
    GuestRegisters registers{};
    last_fault.taken = false;
    const std::uint32_t flags = enter_l2(&registers, launch);
    return flags == 0 && !last_fault.taken ? vm_exit : outcome_of(flags);
}

}  // namespace flatback::guests::bare32
