#include "guests/bare/l1/vmx_instructions.hpp"

#include "guests/bare/l1/enter_l2.hpp"

// A VMX instruction as text, framed: flags set before, flags read after, the fault recovered at label 2.
#define FLATBACK_FRAMED(instruction)    \
    "pushq %[preset]\n\tpopfq\n"        \
    "1:\t" instruction                  \
    "\n"                                \
    "2:\tpushfq\n\tpopq %[flags]\n"     \
    "\t.pushsection .recovery, \"a\"\n" \
    "\t.quad 1b, 2b\n"                  \
    "\t.popsection\n"

namespace flatback::guests {
namespace {

// All arithmetic flags and the bit that is always one; IF clear.
constexpr std::uint64_t preset_flags = arithmetic_flags | 2;

}  // namespace

Outcome try_vmxon(const void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmxon (%[operand])")
                 : [flags] "=r"(flags)
                 : [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmxoff() {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmxoff")
                 : [flags] "=r"(flags)
                 : [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmclear(const void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmclear (%[operand])")
                 : [flags] "=r"(flags)
                 : [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmptrld(const void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmptrld (%[operand])")
                 : [flags] "=r"(flags)
                 : [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmptrst(void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmptrst (%[operand])")
                 : [flags] "=r"(flags)
                 : [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmread(std::uint64_t encoding, std::uint64_t& value) {
    std::uint64_t flags;
    std::uint64_t result = value;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmread %[encoding], %[result]")
                 : [flags] "=&r"(flags), [result] "+r"(result)
                 : [encoding] "r"(encoding), [preset] "r"(preset_flags)
                 : "cc", "memory");
    value = result;
    return outcome_of(flags);
}

Outcome try_vmread_to(std::uint64_t encoding, void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmread %[encoding], (%[operand])")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmwrite(std::uint64_t encoding, std::uint64_t value) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmwrite %[value], %[encoding]")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [value] "r"(value), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmwrite_from(std::uint64_t encoding, const void* operand) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmwrite (%[operand]), %[encoding]")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [operand] "r"(operand), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_enter(bool launch) {
    GuestRegisters registers{};
    last_fault.taken = false;
    const std::uint64_t flags = enter_l2(&registers, launch);
    return flags == 0 ? vm_exit : outcome_of(flags);
}

Outcome try_vmcall() {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmcall")
                 : [flags] "=r"(flags)
                 : [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmfunc() {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmfunc")
                 : [flags] "=r"(flags)
                 : [preset] "r"(preset_flags), "a"(0), "c"(0)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_invept(std::uint64_t type, const void* descriptor) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("invept (%[descriptor]), %[type]")
                 : [flags] "=r"(flags)
                 : [type] "r"(type), [descriptor] "r"(descriptor), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_invvpid(std::uint64_t type, const void* descriptor) {
    std::uint64_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("invvpid (%[descriptor]), %[type]")
                 : [flags] "=r"(flags)
                 : [type] "r"(type), [descriptor] "r"(descriptor), [preset] "r"(preset_flags)
                 : "cc", "memory");
    return outcome_of(flags);
}

}  // namespace flatback::guests
