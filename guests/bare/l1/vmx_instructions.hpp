// The VMX instructions. read() and write() are the plain ones of a hypervisor that knows what it does; the
// try_ forms report how the instruction ended, faults included, and start with all arithmetic flags set, so
// that an instruction which leaves one behind is seen.
#pragma once

#include <cstdint>

#include "guests/bare/l1/outcome.hpp"
#include "vmx/field.hpp"

namespace flatback::guests {

namespace field = vmx::field;

inline std::uint64_t read_raw(std::uint64_t encoding) {
    std::uint64_t value;
    asm volatile("vmread %1, %0" : "=r"(value) : "r"(encoding) : "cc", "memory");
    return value;
}

inline void write_raw(std::uint64_t encoding, std::uint64_t value) {
    asm volatile("vmwrite %1, %0" : : "r"(encoding), "r"(value) : "cc", "memory");
}

template <vmx::AnyField F>
typename F::Value read(F of) {
    return static_cast<typename F::Value>(read_raw(of.encoding));
}

// The value is not narrowed: bits above the field's width are for the processor to ignore.
template <vmx::AnyField F>
void write(F to, std::uint64_t value) {
    write_raw(to.encoding, value);
}

inline void vmptrld(const std::uint64_t& address) {
    asm volatile("vmptrld %0" : : "m"(address) : "cc", "memory");
}

inline void vmclear(const std::uint64_t& address) {
    asm volatile("vmclear %0" : : "m"(address) : "cc", "memory");
}

inline void vmptrst(std::uint64_t& address) {
    asm volatile("vmptrst %0" : "=m"(address) : : "cc", "memory");
}

// The 16 bytes that INVVPID and INVEPT take.
struct alignas(16) InvalidationDescriptor {
    std::uint64_t low;   // INVVPID: the VPID in bits 15:0; INVEPT: the EPTP
    std::uint64_t high;  // INVVPID: the linear address
};

inline void invvpid(std::uint64_t type, const InvalidationDescriptor& descriptor) {
    asm volatile("invvpid %0, %1" : : "m"(descriptor), "r"(type) : "cc", "memory");
}

inline void invept(std::uint64_t type, const InvalidationDescriptor& descriptor) {
    asm volatile("invept %0, %1" : : "m"(descriptor), "r"(type) : "cc", "memory");
}

namespace invvpid_type {
constexpr std::uint64_t individual_address = 0;
constexpr std::uint64_t single_context = 1;
constexpr std::uint64_t all_contexts = 2;
constexpr std::uint64_t single_context_retaining_globals = 3;
}  // namespace invvpid_type

namespace invept_type {
constexpr std::uint64_t single_context = 1;
constexpr std::uint64_t all_contexts = 2;
}  // namespace invept_type

Outcome try_vmxon(const void* operand);
Outcome try_vmxoff();
Outcome try_vmclear(const void* operand);
Outcome try_vmptrld(const void* operand);
Outcome try_vmptrst(void* operand);
Outcome try_vmread(std::uint64_t encoding, std::uint64_t& value);
Outcome try_vmread_to(std::uint64_t encoding, void* operand);
Outcome try_vmwrite(std::uint64_t encoding, std::uint64_t value);
Outcome try_vmwrite_from(std::uint64_t encoding, const void* operand);
// VMLAUNCH or VMRESUME with L2's registers zero; vm_exit where the entry took place.
Outcome try_enter(bool launch);
Outcome try_vmcall();
Outcome try_vmfunc();
Outcome try_invept(std::uint64_t type, const void* descriptor);
Outcome try_invvpid(std::uint64_t type, const void* descriptor);

}  // namespace flatback::guests
