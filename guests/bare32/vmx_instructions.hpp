// The VMX instructions with 32-bit operands. The try_ forms report how the instruction ended, faults
// included.
#pragma once

#include <cstdint>

#include "guests/bare/l1/outcome.hpp"
#include "vmx/field.hpp"

namespace flatback::guests::bare32 {

namespace field = vmx::field;

// The encoding that names bits 63:32 of a 64-bit field.
constexpr std::uint32_t high_half(std::uint32_t encoding) {
    return encoding | 1;
}

inline std::uint32_t read_raw(std::uint32_t encoding) {
    std::uint32_t value;
    asm volatile("vmread %1, %0" : "=r"(value) : "r"(encoding) : "cc", "memory");
    return value;
}

inline void write_raw(std::uint32_t encoding, std::uint32_t value) {
    asm volatile("vmwrite %1, %0" : : "r"(encoding), "r"(value) : "cc", "memory");
}

template <vmx::AnyField F>
std::uint32_t read(F of) {
    return read_raw(of.encoding);
}

template <vmx::AnyField F>
void write(F to, std::uint32_t value) {
    write_raw(to.encoding, value);
}

template <vmx::AnyField F>
void write_64(F to, std::uint64_t value) {
    write_raw(to.encoding, static_cast<std::uint32_t>(value));
    write_raw(high_half(to.encoding), static_cast<std::uint32_t>(value >> 32));
}

template <vmx::AnyField F>
std::uint64_t read_64(F of) {
    return read_raw(of.encoding) | std::uint64_t{read_raw(high_half(of.encoding))} << 32;
}

struct alignas(16) InvalidationDescriptor {
    std::uint64_t low;
    std::uint64_t high;
};

// L2's registers that no VMCS holds; the offsets are known to enter_l2.S.
struct GuestRegisters {
    std::uint32_t eax, ebx, ecx, edx, esi, edi, ebp;
};

extern "C" {
std::uint32_t enter_l2(GuestRegisters* registers, bool launch);
extern char l2_exit[];
extern char exit_stack[];
}

// The outcome that EFLAGS after the instruction and last_fault tell.
Outcome outcome_of(std::uint32_t flags);

// Operands by linear address, through the flat DS.
Outcome try_vmxon(std::uint32_t operand);
Outcome try_vmxoff();
Outcome try_vmclear(std::uint32_t operand);
Outcome try_vmptrld(std::uint32_t operand);
Outcome try_vmptrst(std::uint32_t operand);
Outcome try_vmread(std::uint32_t encoding, std::uint32_t& value);
Outcome try_vmread_to(std::uint32_t encoding, std::uint32_t operand);
Outcome try_vmwrite(std::uint32_t encoding, std::uint32_t value);
Outcome try_vmwrite_from(std::uint32_t encoding, std::uint32_t operand);
Outcome try_invept(std::uint32_t type, std::uint32_t operand);
Outcome try_invvpid(std::uint32_t type, std::uint32_t operand);
Outcome try_vmcall();

// VMLAUNCH or VMRESUME; vm_exit where the entry took place.
Outcome try_enter(bool launch);

}  // namespace flatback::guests::bare32
