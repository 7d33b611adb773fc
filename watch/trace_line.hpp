// One line of the text that Bochs' debugger prints with "trace on" and "trace-mem on" (Bochs 2.7).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace flatback::watch {

/// What an access was to, by the word that the emulator puts behind it.
enum class Target : std::uint8_t {
    memory,          // none: an access of an instruction, or of the processor for it
    page_structure,  // PML4E to PTE
    ept_structure,   // EPT PML4E to EPT PTE
    vmcs,            // the current VMCS, not a shadow VMCS
    other,
};

enum class Direction : std::uint8_t { read, write, read_and_write };

/// The instructions that change what may be cached, or where a translation begins.
enum class Operation : std::uint8_t {
    none,
    vm_entry,  // VMLAUNCH, VMRESUME
    mov_to_cr0,
    mov_to_cr3,
    mov_to_cr4,
    invlpg,
    invpcid,
    invvpid,
    invept,
    hidden,  // the debugger cannot find the instruction's bytes, and says so
};

/// An instruction, printed before it is executed. An instruction that exits or faults is printed too.
struct TracedInstruction {
    std::uint64_t tick = 0;
    std::uint64_t physical = 0;
    std::uint64_t instruction_pointer = 0;
    bool in_64_bit_mode = false;  // the instruction pointer has 16 digits: it is a linear address
    Operation operation = Operation::none;
    /// As printed; of use while the line is.
    std::string_view text;
};

struct TracedAccess {
    Target target = Target::memory;
    Direction direction = Direction::read;
    bool has_linear = false;
    std::uint8_t level = 0;  // of a structure's entry: 4 for PML4E to 1 for PTE
    std::uint8_t length = 0;
    std::uint64_t linear = 0;
    std::uint64_t physical = 0;
    /// `length` bytes, the first in bits 7:0 of the first quadword; of what was read and written, the former.
    std::array<std::uint64_t, 8> value{};
};

struct TraceLine {
    enum class Kind : std::uint8_t { other, instruction, access };

    Kind kind = Kind::other;
    unsigned processor = 0;
    TracedInstruction instruction{};  // one of the two holds, by `kind`
    TracedAccess access{};
};

/// Reads one line, without its end. Whatever is not such a line, or cut off, is `other`: nothing of it is
/// used.
void read_line(std::string_view text, TraceLine& line);

}  // namespace flatback::watch
