#pragma once

#include <cstdint>

namespace flatback::machine {

enum class Opcode : std::uint8_t {
    nop,
    // Memory. `general[a]` is the datum.
    load,
    store,
    fetch,     // an instruction fetched from `address`
    prefetch,  // what the processor may do by itself: `address` is translated, nothing is seen of it
    // Control registers: general[a].
    mov_to_cr0,
    mov_to_cr3,
    mov_to_cr4,
    mov_from_cr0,
    mov_from_cr3,
    mov_from_cr4,
    // Translations. INVPCID: general[b] is the type, the descriptor is at `address`.
    invlpg,
    invpcid,
    // Others.
    cpuid,
    hlt,
    pause,
    rdtsc,
    rdmsr,
    wrmsr,
    out,  // AL to port DX
    sti,
    cli,
    mov_to_ss,  // the selector that is there already
    iret,       // to the same place; `address` is that of its frame, of which eight bytes are read
    iretq,      // from the frame at RSP (64-bit mode only)
    int_n,      // `address` is the vector
    ud2,
    lidt,    // the limit and the base are at `address`
    wbinvd,  // nothing is cached but translations
    // VMX. Pointers and descriptors are at `address`; INVEPT, INVVPID: general[b] is the type; VMREAD,
    // VMWRITE: general[b] is the encoding and general[a] the datum.
    vmxon,
    vmxoff,
    vmclear,
    vmptrld,
    vmptrst,
    vmread,
    vmwrite,
    vmlaunch,
    vmresume,
    vmcall,
    vmfunc,  // EAX is the function, ECX its operand
    invept,
    invvpid,
};

inline constexpr unsigned opcode_count = static_cast<unsigned>(Opcode::invvpid) + 1;

/// One instruction with its operands. `address` is the linear address of its memory operand.
struct Instruction {
    Opcode opcode = Opcode::nop;
    std::uint8_t a = 0;  // a general register
    std::uint8_t b = 0;  // another
    std::uint64_t address = 0;
    /// Load, store, fetch, prefetch: as a user-mode access.
    bool user = false;
};

/// Bytes, as VM exits report it.
[[nodiscard]] constexpr unsigned instruction_length(Opcode opcode) {
    switch (opcode) {
        case Opcode::nop:
        case Opcode::hlt:
        case Opcode::out:
        case Opcode::sti:
        case Opcode::cli:
            return 1;
        case Opcode::cpuid:
        case Opcode::pause:
        case Opcode::rdtsc:
        case Opcode::rdmsr:
        case Opcode::wrmsr:
        case Opcode::mov_to_ss:
        case Opcode::iret:
        case Opcode::iretq:
        case Opcode::int_n:
        case Opcode::ud2:
        case Opcode::wbinvd:
            return 2;
        case Opcode::mov_to_cr0:
        case Opcode::mov_to_cr3:
        case Opcode::mov_to_cr4:
        case Opcode::mov_from_cr0:
        case Opcode::mov_from_cr3:
        case Opcode::mov_from_cr4:
        case Opcode::vmxoff:
        case Opcode::vmread:
        case Opcode::vmwrite:
        case Opcode::vmlaunch:
        case Opcode::vmresume:
        case Opcode::vmcall:
        case Opcode::vmfunc:
            return 3;
        case Opcode::prefetch:
            return 0;
        default:
            return 8;  // with a 32-bit displacement
    }
}

}  // namespace flatback::machine
