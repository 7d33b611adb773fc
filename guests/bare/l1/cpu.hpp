// Privileged instructions of the processor that need no recovery.
#pragma once

#include <cstdint>

namespace flatback::guests {

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

inline std::uint64_t read_tsc() {
    std::uint32_t low;
    std::uint32_t high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (std::uint64_t{high} << 32) | low;
}

inline std::uint64_t read_msr(std::uint32_t index) {
    std::uint32_t low;
    std::uint32_t high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return (std::uint64_t{high} << 32) | low;
}

inline void write_msr(std::uint32_t index, std::uint64_t value) {
    asm volatile("wrmsr"
                 :
                 : "c"(index), "a"(static_cast<std::uint32_t>(value)),
                   "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

inline std::uint64_t read_cr0() {
    std::uint64_t value;
    asm volatile("movq %%cr0, %0" : "=r"(value) : : "memory");
    return value;
}

inline std::uint64_t read_cr2() {
    std::uint64_t value;
    asm volatile("movq %%cr2, %0" : "=r"(value) : : "memory");
    return value;
}

inline std::uint64_t read_cr3() {
    std::uint64_t value;
    asm volatile("movq %%cr3, %0" : "=r"(value) : : "memory");
    return value;
}

inline std::uint64_t read_cr4() {
    std::uint64_t value;
    asm volatile("movq %%cr4, %0" : "=r"(value) : : "memory");
    return value;
}

inline void write_cr0(std::uint64_t value) {
    asm volatile("movq %0, %%cr0" : : "r"(value) : "memory");
}
inline void write_cr3(std::uint64_t value) {
    asm volatile("movq %0, %%cr3" : : "r"(value) : "memory");
}
inline void write_cr4(std::uint64_t value) {
    asm volatile("movq %0, %%cr4" : : "r"(value) : "memory");
}

inline void invalidate_page(const void* linear_address) {
    asm volatile("invlpg %0" : : "m"(*static_cast<const char*>(linear_address)) : "memory");
}

constexpr std::uint64_t cr4_vmxe = 1U << 13;

constexpr std::uint32_t msr_efer = 0xC0000080;
constexpr std::uint32_t msr_pat = 0x277;
constexpr std::uint32_t msr_debugctl = 0x1D9;
constexpr std::uint32_t msr_feature_control = 0x3A;

// Vectors of the exceptions that this guest meets.
constexpr std::uint8_t vector_nmi = 2;
constexpr std::uint8_t vector_invalid_opcode = 6;
constexpr std::uint8_t vector_stack_fault = 12;
constexpr std::uint8_t vector_general_protection = 13;
constexpr std::uint8_t vector_page_fault = 14;

}  // namespace flatback::guests
