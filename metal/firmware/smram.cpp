#include "metal/firmware/smram.hpp"

#include <cstdint>

#include "metal/firmware/smram_control.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/pci.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {
namespace {

class HostBridge final {
public:
    [[nodiscard]] static std::uint32_t read_32(std::uint32_t offset) { return pci::read_32({}, offset); }
    [[nodiscard]] static std::uint8_t read_8(std::uint32_t offset) { return pci::read_8({}, offset); }
    static void write_8(std::uint32_t offset, std::uint8_t value) { pci::write_8({}, offset, value); }
};

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
    HostBridge bridge;
    const SmramLock lock = lock_smram_of(bridge);
    switch (lock.result) {
        case SmramLock::Result::locked:
            return;
        case SmramLock::Result::not_locked:
            log::info("warning: the chipset does not lock SMRAM (its control register is ",
                      log::hex(lock.detail), "); an L1 can reach L0 by system-management mode");
            return;
        case SmramLock::Result::unknown_bridge:
            if (has_range_register()) return;
            log::info("warning: L0 does not know how this chipset (", log::hex(lock.detail),
                      ") locks SMRAM; where the firmware has not done so, an L1 can reach L0 by "
                      "system-management mode");
    }
}

}  // namespace flatback::metal
