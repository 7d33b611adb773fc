// Instructions made at run time: for L1's own steps and for L2's programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace flatback::guests {

// Appends bytes of machine code to a fixed piece of memory; what does not fit is left out whole, an
// instruction at a time.
class Emitter final {
public:
    Emitter(void* memory, std::size_t size) : at_{static_cast<std::uint8_t*>(memory)}, left_{size} {}

    void bytes(std::initializer_list<std::uint8_t> all) {
        if (all.size() > left_) return;
        for (const std::uint8_t each : all) put(each);
    }
    // One instruction: its first bytes, then an immediate of `size` bytes.
    void with_immediate(std::initializer_list<std::uint8_t> first, std::uint64_t immediate, unsigned size) {
        if (first.size() + size > left_) return;
        for (const std::uint8_t each : first) put(each);
        for (unsigned i = 0; i < size; ++i) put(static_cast<std::uint8_t>(immediate >> (8 * i)));
    }
    const std::uint8_t* here() const { return at_; }
    std::size_t left() const { return left_; }

private:
    void put(std::uint8_t byte) {
        *at_++ = byte;
        --left_;
    }

    std::uint8_t* at_;
    std::size_t left_;
};

// The offsets are known to run_code.S; the order is that of GuestRegisters.
struct CodeRegisters {
    std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t rflags;
};

// How a piece of L1's code ended. Where no exception came, `vector` is none.
struct CodeEnd {
    static constexpr std::uint64_t none = 256;
    std::uint64_t vector = none;
    std::uint64_t error_code = 0;
    std::uint64_t offset = 0;  // of RIP in its page; the code begins at 0
    std::uint64_t cr2 = 0;     // of a #PF
    std::uint64_t dr6 = 0;     // of a #DB
    std::uint64_t rflags = 0;  // as the exception pushed it
    std::uint64_t cs = 0;
};

// The page that L1's code is made in, and its linear address in the window where user mode may run it.
std::uint8_t* code_memory();
constexpr std::size_t code_size = 256;

// Ends the code in code_memory() with the jump back, and runs it from there, or from the user page. `code` is
// what was emitted.
CodeEnd run(Emitter& code, CodeRegisters& registers);

}  // namespace flatback::guests
