// How L1 begins: what its loader hands to the hypervisor proper.
#pragma once

#include <cstdint>

namespace flatback::metal {

// The registers and tables L1 starts with. All selectors not named are null or flat as its boot protocol
// wants.
struct L1Start {
    enum class Mode : std::uint8_t {
        // Linux 64-bit boot protocol: CR0.PG, CR4.PAE, EFER.LME|LMA; CS 0x10, DS/ES/SS 0x18.
        long_mode,
        // Multiboot 1: CR0.PE only, no paging; CS 0x08, DS/ES/FS/GS/SS 0x10, flat 4 GB, 32 bits.
        protected_mode,
    };
    Mode mode = Mode::long_mode;
    std::uint64_t rip = 0;
    std::uint64_t rsp = 0;
    std::uint64_t rax = 0;
    std::uint64_t rbx = 0;
    std::uint64_t rsi = 0;
    std::uint64_t cr3 = 0;  // 0 in protected mode
    std::uint64_t gdt_base =
        0;  // guest-physical (paging is identity); holds the descriptors of the selectors
    std::uint16_t gdt_limit = 0;
    std::uint16_t code_selector = 0;
    std::uint16_t data_selector = 0;
};

}  // namespace flatback::metal
