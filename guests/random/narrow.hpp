// A piece of 32-bit L1: what narrow.S is told to do after leaving long mode, and what came of it.
#pragma once

#include <cstdint>

namespace flatback::guests {

// The offsets are known to narrow.S.
struct NarrowScript {
    // VMWRITE and VMREAD of a field. `read` and `flags` are results.
    struct Move {
        std::uint32_t encoding, value, read, flags;
    };
    // One run of L2. The rest are results, by VMREADs of 32 bits.
    struct Exit {
        std::uint32_t next_rip;  // where L2 goes on behind it
        std::uint32_t reason, qualification, rip;
    };
    static constexpr unsigned moves = 3;
    static constexpr unsigned most_entries = 4;
    static constexpr std::uint32_t no_exception = 256;

    std::uint32_t cr3, cr4, return_cr3, return_cr4;
    std::uint32_t vmxon, vmcs;  // linear addresses of the pointers
    std::uint32_t count, flags;
    std::uint32_t pdpte;          // the address of the table whose second entry is cleared, or 0
    std::uint32_t code;           // the linear address of a subroutine, or 0
    std::uint32_t vector, error;  // of the exception that ended it
    std::uint32_t offset;         // in the code, of that
    std::uint32_t entries;        // how often L2 may be entered
    std::uint32_t exits;          // how often it was
    std::uint32_t entry_flags;    // of the entry that did not happen
    std::uint32_t state[12];      // L1's registers after the last exit: narrow.S has their order
    std::uint32_t registers[7];   // L2's: EAX, EBX, ECX, EDX, ESI, EDI, EBP
    Exit exit[most_entries];
    Move move[moves];
};

extern "C" {
void run_narrow(NarrowScript* script);
// HOST_RIP of what narrow.S enters.
void narrow_exit();
// The interrupt-descriptor table there: a gate in each of the first bytes.
extern std::uint64_t narrow_gates[15];
}

}  // namespace flatback::guests
