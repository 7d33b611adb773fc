// The privileged instructions of the boot code and of L0's own housekeeping (VMX instructions:
// metal/ground/vmx_instructions.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "x86/cpuid.hpp"

namespace flatback::metal {

inline void write_port_8(std::uint16_t port, std::uint8_t value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
// size: 1, 2 or 4 bytes.
inline void write_port(std::uint16_t port, unsigned size, std::uint32_t value) {
    if (size == 1) {
        write_port_8(port, static_cast<std::uint8_t>(value));
    } else if (size == 2) {
        asm volatile("outw %w0, %1" ::"a"(value), "Nd"(port) : "memory");
    } else {
        asm volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
    }
}
// Into the low bytes; the others are 0.
[[nodiscard]] inline std::uint32_t read_port(std::uint16_t port, unsigned size) {
    std::uint32_t value = 0;
    if (size == 1) {
        asm volatile("inb %1, %b0" : "+a"(value) : "Nd"(port) : "memory");
    } else if (size == 2) {
        asm volatile("inw %1, %w0" : "+a"(value) : "Nd"(port) : "memory");
    } else {
        asm volatile("inl %1, %0" : "+a"(value) : "Nd"(port) : "memory");
    }
    return value;
}
// RAX behind an IN of so many bytes: four clear its upper half, fewer leave the rest as it is (SDM
// 1 3.4.1.1).
[[nodiscard]] constexpr std::uint64_t with_input(std::uint64_t rax, unsigned size, std::uint32_t value) {
    return (size == 4 ? 0 : rax & (~std::uint64_t{0} << (8 * size))) | value;
}
[[nodiscard]] inline std::uint8_t read_port_8(std::uint16_t port) {
    std::uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

inline void write_port_32(std::uint16_t port, std::uint32_t value) {
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
[[nodiscard]] inline std::uint32_t read_port_32(std::uint16_t port) {
    std::uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

// #GP on an MSR that does not exist: see metal/ground/faulting_instructions.hpp.
[[nodiscard]] inline std::uint64_t read_msr(std::uint32_t msr) {
    std::uint32_t low;
    std::uint32_t high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return std::uint64_t{high} << 32 | low;
}
inline void write_msr(std::uint32_t msr, std::uint64_t value) {
    asm volatile("wrmsr" ::"c"(msr), "a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

[[nodiscard]] inline x86::CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
    x86::CpuidResult result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    return result;
}

[[nodiscard]] inline std::uint64_t read_tsc() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (std::uint64_t{high} << 32) | low;
}

[[nodiscard]] inline std::uint64_t read_cr0() {
    std::uint64_t value;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}
inline void write_cr0(std::uint64_t value) {
    asm volatile("mov %0, %%cr0" ::"r"(value) : "memory");
}
[[nodiscard]] inline std::uint64_t read_cr2() {
    std::uint64_t value;
    asm volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}
[[nodiscard]] inline std::uint64_t read_cr3() {
    std::uint64_t value;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}
[[nodiscard]] inline std::uint64_t read_cr4() {
    std::uint64_t value;
    asm volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}

// Interrupts off, for ever.
[[noreturn]] inline void halt_forever() {
    for (;;) asm volatile("cli; hlt" ::: "memory");
}

}  // namespace flatback::metal
