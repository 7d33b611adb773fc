// Whoever can open SMRAM owns system-management mode, which is above every hypervisor.
#include "guests/world/support.hpp"

namespace world {

void check_smram() {
    constexpr u16 address_port = 0xCF8;
    constexpr u16 data_port = 0xCFC;
    out32(address_port, 0x80000000);
    const u32 host_bridge = in32(data_port);
    const u32 where = host_bridge == 0x29C08086 ? 0x9D : 0x72;  // Q35, i440FX
    Line{"FLATBACK text world.host_bridge "} << u64{host_bridge};
    out32(address_port, 0x80000000 | (where & 0xFC));
    const u16 port = static_cast<u16>(data_port + (where & 3));
    const u8 before = in8(port);
    out8(port, 0x4A);  // open, enabled, at A0000H
    const u8 after = in8(port);
    Line{"FLATBACK text world.smram "} << u64{before} << " " << u64{after};
    check("smram-is-locked", (after & 0x50) == 0x10, "D_OPEN can be set, or D_LCK is clear");
    // Open, these bytes are SMRAM's: they differ from the screen's that lie there else, and can be changed.
    const u32 old = memory<u32>(0xA8000);
    memory<u32>(0xA8000) = old ^ 0xA5A5A5A5;
    const bool changed = memory<u32>(0xA8000) == (old ^ 0xA5A5A5A5);
    if (changed) memory<u32>(0xA8000) = old;
    check("smram-is-closed", !changed, "the memory at A8000H can be written");
    out8(port, before);
}

}  // namespace world
