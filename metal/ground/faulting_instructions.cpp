#include "metal/ground/faulting_instructions.hpp"

namespace flatback::metal {

std::optional<std::uint64_t> try_read_msr(std::uint32_t msr) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    bool faulted = false;
    asm volatile(
        "1: rdmsr\n"
        "jmp 3f\n"
        "2: movb $1, %2\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "+a"(low), "+d"(high), "+r"(faulted)
        : "c"(msr)
        : "memory");
    if (faulted) return std::nullopt;
    return std::uint64_t{high} << 32 | low;
}

bool try_write_msr(std::uint32_t msr, std::uint64_t value) {
    bool faulted = false;
    asm volatile(
        "1: wrmsr\n"
        "jmp 3f\n"
        "2: movb $1, %0\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "+r"(faulted)
        : "c"(msr), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
        : "memory");
    return !faulted;
}

bool try_xsetbv(std::uint32_t index, std::uint64_t value) {
    bool faulted = false;
    asm volatile(
        "1: xsetbv\n"
        "jmp 3f\n"
        "2: movb $1, %0\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "+r"(faulted)
        : "c"(index), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
        : "memory");
    return !faulted;
}

}  // namespace flatback::metal
