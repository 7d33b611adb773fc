// A system-management interrupt that this kernel sends to the other processors: whoever can have it handled
// by code of their own is above every hypervisor.
#include "guests/world/support.hpp"

namespace world {

void check_smi() {
    constexpr u32 handler = 0x38000;  // SDM 3C 32.4, where the firmware has chosen no other place
    constexpr u32 mark = 0x7FE0;
    // MOVB $5AH, 7FE0H; RSM. The data segments begin at 0.
    constexpr u8 code[] = {0xC6, 0x06, 0xE0, 0x7F, 0x5A, 0x0F, 0xAA};
    u8 before[sizeof code];
    for (u32 at = 0; at < sizeof code; ++at) {
        before[at] = memory<u8>(handler + at);
        memory<u8>(handler + at) = code[at];
    }
    memory<u8>(mark) = 0;
    memory<u32>(0xFEE000F0) = memory<u32>(0xFEE000F0) | 0x100;
    constexpr u32 assert_smi = 0x4200;
    memory<u32>(0xFEE00310) = 0;
    memory<u32>(0xFEE00300) = 3 << 18 | assert_smi;  // to all others
    for (u32 reads = 0; reads < 100'000; ++reads) static_cast<void>(in8(0x80));
    const bool others = memory<u8>(mark) != 0;
    for (u32 at = 0; at < sizeof code; ++at) memory<u8>(handler + at) = before[at];
    check("smi-to-another-processor-runs-nothing-of-this-kernels", !others, "its handler ran");
}

}  // namespace world
