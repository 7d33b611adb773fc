#include "metal/firmware/smram.hpp"

#include <cstdint>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/pci.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {
namespace {

// The host bridge, function 0 of device 0, and the offset of its SMRAM control register. The bits are the
// same in both (Intel 290549 "440FX PCIset", 3.2.22; 316966 "3 Series", 5.1.32).
struct HostBridge {
    std::uint32_t identifier;  // device and vendor, as at offset 0
    std::uint32_t smram_control;
};
constexpr HostBridge known_bridges[] = {
    {0x12378086, 0x72},  // 440FX
    {0x29C08086, 0x9D},  // 3 Series: Q35 as QEMU has it
};
constexpr std::uint8_t smram_open = 1 << 6;
constexpr std::uint8_t smram_closed_for_data = 1 << 5;
constexpr std::uint8_t smram_locked = 1 << 4;

// SDM 3C 32.4.2.1: with it on, memory below it is closed to all but system-management mode.
bool has_range_register() {
    constexpr std::uint64_t capability_smrr = 1 << 11;  // in IA32_MTRRCAP
    constexpr std::uint32_t ia32_smrr_physmask = 0x1F3;
    constexpr std::uint64_t valid = 1 << 11;
    const auto capability = try_read_msr(x86::msr::ia32_mtrrcap);
    if (!capability || (*capability & capability_smrr) == 0) return false;
    const auto mask = try_read_msr(ia32_smrr_physmask);
    return mask && (*mask & valid) != 0;
}

}  // namespace

void lock_smram() {
    constexpr pci::Function bridge{};
    const std::uint32_t identifier = pci::read_32(bridge, 0);
    for (const HostBridge& known : known_bridges) {
        if (known.identifier != identifier) continue;
        const std::uint8_t control = pci::read_8(bridge, known.smram_control);
        if ((control & smram_locked) == 0) {
            const auto closed =
                static_cast<std::uint8_t>(control & ~(smram_open | smram_closed_for_data)) | smram_locked;
            pci::write_8(bridge, known.smram_control, static_cast<std::uint8_t>(closed));
        }
        const std::uint8_t now = pci::read_8(bridge, known.smram_control);
        if ((now & (smram_open | smram_locked)) != smram_locked)
            log::info("warning: the chipset does not lock SMRAM (its control register is ", log::hex(now),
                      "); an L1 can reach L0 by system-management mode");
        return;
    }
    if (!has_range_register())
        log::info("warning: L0 does not know how this chipset (", log::hex(identifier),
                  ") locks SMRAM; where the firmware has not done so, an L1 can reach L0 by "
                  "system-management mode");
}

}  // namespace flatback::metal
