// L1's memory-type range registers. It reads back what it wrote, and no more: the real ones decide how L0's
// own memory is cached too, and what type L1's memory has was settled in EPT01 when it started.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "x86/msr.hpp"

namespace flatback::metal {

class MemoryTypeRegisters final {
public:
    [[nodiscard]] static constexpr bool contains(std::uint32_t msr) {
        return (msr >= x86::msr::ia32_mtrr_physbase0 && msr < x86::msr::ia32_mtrr_physbase0 + variable) ||
               (msr >= x86::msr::ia32_mtrr_fix64k_00000 && msr < x86::msr::ia32_mtrr_fix64k_00000 + fixed) ||
               msr == x86::msr::ia32_mtrr_def_type;
    }
    // Absent: L1 has not written it, so that it is as the firmware left it.
    [[nodiscard]] std::optional<std::uint64_t> read(std::uint32_t msr) const { return values_[index(msr)]; }
    void write(std::uint32_t msr, std::uint64_t value) { values_[index(msr)] = value; }

private:
    static constexpr std::uint32_t variable = 0x20;  // 200H-21FH: base and mask of up to 16
    static constexpr std::uint32_t fixed = 0x20;     // 250H-26FH
    static constexpr std::size_t index(std::uint32_t msr) {
        if (msr == x86::msr::ia32_mtrr_def_type) return variable + fixed;
        return msr < x86::msr::ia32_mtrr_fix64k_00000 ? msr - x86::msr::ia32_mtrr_physbase0
                                                      : variable + (msr - x86::msr::ia32_mtrr_fix64k_00000);
    }
    std::array<std::optional<std::uint64_t>, variable + fixed + 1> values_{};
};

}  // namespace flatback::metal
