// The VMX instructions. One that fails is a bug of L0's: it panics, naming what it was about.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>

#include "vmx/field.hpp"
#include "vmx/invalidation.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

[[noreturn, gnu::cold]] void vmx_instruction_failed(const char* instruction, std::uint64_t operand);

extern "C" {
[[noreturn, gnu::cold]] void vmread_failed(std::uint64_t encoding);
[[noreturn, gnu::cold]] void vmwrite_failed(std::uint64_t encoding);
}

// Field encodings have 32 bits, values 64 whatever the field's width (SDM 3C 31.3, VMREAD).
//
// These two are most of what an exit costs. To the compiler they touch no memory and do not branch: it keeps
// in registers what it has there, and adds the engine's counts of them together. The branch of one that fails
// is out of the way, and does not come back.
[[nodiscard, gnu::always_inline]] inline std::uint64_t vmread(std::uint64_t encoding) {
    std::uint64_t value;
    asm volatile(
        "vmread %1, %0; jbe 1f\n\t"
        ".subsection 1\n1: mov %1, %%rdi; call vmread_failed\n\t.previous"
        : "=&r"(value)
        : "r"(encoding)
        : "cc");
    return value;
}
// The same where the field may not be there, or no VMCS, or no VMX operation (#UD, which the fixup turns into
// no value).
[[nodiscard]] inline std::optional<std::uint64_t> try_vmread(std::uint64_t encoding) {
    bool failed;
    std::uint64_t value;
    asm volatile(
        "1: vmread %2, %1\n"
        "setbe %0\n"
        "jmp 3f\n"
        "2: movb $1, %0\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "=&r"(failed), "=&r"(value)
        : "r"(encoding)
        : "cc", "memory");
    return failed ? std::nullopt : std::optional{value};
}
[[gnu::always_inline]] inline void vmwrite(std::uint64_t encoding, std::uint64_t value) {
    asm volatile(
        "vmwrite %1, %0; jbe 1f\n\t"
        ".subsection 1\n1: mov %0, %%rdi; call vmwrite_failed\n\t.previous"
        :
        : "r"(encoding), "r"(value)
        : "cc");
}
// The same where a VMCS is current, beyond doubt, and the field one that every processor with VT-x has: those
// cannot fail, and who executes many in a row does not look.
[[nodiscard, gnu::always_inline]] inline std::uint64_t vmread_unfailing(std::uint64_t encoding) {
    std::uint64_t value;
    asm volatile("vmread %1, %0" : "=r"(value) : "r"(encoding) : "cc");
    return value;
}
[[gnu::always_inline]] inline void vmwrite_unfailing(std::uint64_t encoding, std::uint64_t value) {
    asm volatile("vmwrite %1, %0" : : "r"(encoding), "r"(value) : "cc");
}
// By typed fields: a value has its field's width.
template <vmx::FieldWidth W, vmx::FieldKind K>
[[nodiscard, gnu::always_inline]] inline vmx::field_value_t<W> get(vmx::Field<W, K> field) {
    return static_cast<vmx::field_value_t<W>>(vmread(field.encoding));
}
template <vmx::FieldWidth W, vmx::FieldKind K>
[[gnu::always_inline]] inline void put(vmx::Field<W, K> field,
                                       std::type_identity_t<vmx::field_value_t<W>> value) {
    vmwrite(field.encoding, value);
}

inline void vmptrld(x86::Hpa vmcs) {
    const std::uint64_t address = vmcs.value();
    asm goto volatile("vmptrld %0; jbe %l[failed]" : : "m"(address) : "cc", "memory" : failed);
    return;
failed:
    vmx_instruction_failed("VMPTRLD", address);
}
inline void vmclear(x86::Hpa vmcs) {
    const std::uint64_t address = vmcs.value();
    asm goto volatile("vmclear %0; jbe %l[failed]" : : "m"(address) : "cc", "memory" : failed);
    return;
failed:
    vmx_instruction_failed("VMCLEAR", address);
}
inline void vmxon(x86::Hpa region) {
    const std::uint64_t address = region.value();
    asm goto volatile("vmxon %0; jbe %l[failed]" : : "m"(address) : "cc", "memory" : failed);
    return;
failed:
    vmx_instruction_failed("VMXON", address);
}
inline void invvpid(vmx::InvvpidType type, vmx::InvvpidDescriptor descriptor) {
    asm goto volatile("invvpid %0, %1; jbe %l[failed]"
                      :
                      : "m"(descriptor), "r"(static_cast<std::uint64_t>(type))
                      : "cc", "memory"
                      : failed);
    return;
failed:
    vmx_instruction_failed("INVVPID of VPID", descriptor.vpid());
}
inline void invept(vmx::InveptType type, vmx::InveptDescriptor descriptor) {
    asm goto volatile("invept %0, %1; jbe %l[failed]"
                      :
                      : "m"(descriptor), "r"(static_cast<std::uint64_t>(type))
                      : "cc", "memory"
                      : failed);
    return;
failed:
    vmx_instruction_failed("INVEPT of EPTP", descriptor.eptp);
}

}  // namespace flatback::metal
