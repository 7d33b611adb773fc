// Privileged instructions of the processor in 32-bit mode that need no recovery.
#pragma once

#include <cstdint>

namespace flatback::guests::bare32 {

struct CpuidResult {
    std::uint32_t eax, ebx, ecx, edx;
};

inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
    CpuidResult result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    return result;
}

inline std::uint64_t read_msr(std::uint32_t index) {
    std::uint64_t value;
    asm volatile("rdmsr" : "=A"(value) : "c"(index) : "memory");
    return value;
}

inline std::uint32_t read_cr0() {
    std::uint32_t value;
    asm volatile("movl %%cr0, %0" : "=r"(value) : : "memory");
    return value;
}
inline std::uint32_t read_cr2() {
    std::uint32_t value;
    asm volatile("movl %%cr2, %0" : "=r"(value) : : "memory");
    return value;
}
inline std::uint32_t read_cr3() {
    std::uint32_t value;
    asm volatile("movl %%cr3, %0" : "=r"(value) : : "memory");
    return value;
}
inline std::uint32_t read_cr4() {
    std::uint32_t value;
    asm volatile("movl %%cr4, %0" : "=r"(value) : : "memory");
    return value;
}
inline void write_cr0(std::uint32_t value) {
    asm volatile("movl %0, %%cr0" : : "r"(value) : "memory");
}
inline void write_cr3(std::uint32_t value) {
    asm volatile("movl %0, %%cr3" : : "r"(value) : "memory");
}
inline void write_cr4(std::uint32_t value) {
    asm volatile("movl %0, %%cr4" : : "r"(value) : "memory");
}
inline void invalidate_page(std::uint32_t linear_address) {
    asm volatile("invlpg (%0)" : : "r"(linear_address) : "memory");
}

inline std::uint32_t physical(const volatile void* pointer) {
    return reinterpret_cast<std::uint32_t>(pointer);
}

constexpr std::uint32_t cr0_pe = 1;
constexpr std::uint32_t cr0_ne = 1U << 5;
constexpr std::uint32_t cr0_wp = 1U << 16;
constexpr std::uint32_t cr0_pg = 1U << 31;
constexpr std::uint32_t cr4_pse = 1U << 4;
constexpr std::uint32_t cr4_pae = 1U << 5;
constexpr std::uint32_t cr4_vmxe = 1U << 13;

constexpr std::uint8_t vector_invalid_opcode = 6;
constexpr std::uint8_t vector_stack_fault = 12;
constexpr std::uint8_t vector_general_protection = 13;

}  // namespace flatback::guests::bare32
