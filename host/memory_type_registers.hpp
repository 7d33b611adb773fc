// L1's memory-type range registers. It reads back what it wrote, and no more: the real ones decide how L0's
// own memory is cached too, and what type L1's memory has was settled in EPT01 when it started.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "../x86/msr.hpp"

namespace flatback::host {

class MemoryTypeRegisters final {
public:
    // capability: IA32_MTRRCAP, 0 where the processor has none.
    MemoryTypeRegisters(std::uint64_t capability, unsigned physical_address_width)
        : capability_(capability), too_wide_(~((std::uint64_t{1} << physical_address_width) - 1)) {}

    // The numbers among which these registers lie.
    [[nodiscard]] static constexpr bool may_contain(std::uint32_t msr) {
        return (msr >= x86::msr::ia32_mtrr_physbase0 && msr < x86::msr::ia32_mtrr_physbase0 + variable) ||
               (msr >= x86::msr::ia32_mtrr_fix64k_00000 && msr < x86::msr::ia32_mtrr_fix64k_00000 + fixed) ||
               msr == x86::msr::ia32_mtrr_def_type;
    }
    // Whether this processor has the register.
    [[nodiscard]] bool contains(std::uint32_t msr) const {
        if (capability_ == 0 || !may_contain(msr)) return false;
        if (msr == x86::msr::ia32_mtrr_def_type) return true;
        if (is_variable(msr))
            return (msr - x86::msr::ia32_mtrr_physbase0) / 2 < (capability_ & variable_count_mask);
        // SDM 3A table 12-9: 64 KB from 0, 16 KB from 80000H and A0000H, 4 KB from C0000H on.
        constexpr std::uint32_t existing = 1U << 0 | 3U << 8 | 0xffU << 24;
        return (capability_ & has_fixed) != 0 &&
               (existing >> (msr - x86::msr::ia32_mtrr_fix64k_00000) & 1) != 0;
    }

    // Of a register that contains() knows. Absent: L1 has not written it, so that it is as the firmware left
    // it.
    [[nodiscard]] std::optional<std::uint64_t> read(std::uint32_t msr) const { return values_[index(msr)]; }
    // False: #GP(0), by a reserved bit or a type that is none (SDM 3A 12.11.2).
    [[nodiscard]] bool write(std::uint32_t msr, std::uint64_t value) {
        if (!is_valid(msr, value)) return false;
        values_[index(msr)] = value;
        return true;
    }

private:
    static constexpr std::uint32_t variable = 0x20;  // 200H-21FH: base and mask of up to 16
    static constexpr std::uint32_t fixed = 0x20;     // 250H-26FH
    // IA32_MTRRCAP.
    static constexpr std::uint64_t variable_count_mask = 0xff;
    static constexpr std::uint64_t has_fixed = 1U << 8;
    static constexpr std::uint64_t has_write_combining = 1U << 10;

    [[nodiscard]] static constexpr bool is_variable(std::uint32_t msr) {
        return msr < x86::msr::ia32_mtrr_fix64k_00000;
    }
    [[nodiscard]] bool is_type(std::uint64_t type) const {
        using enum x86::MemoryType;
        switch (static_cast<x86::MemoryType>(type)) {
            case uncacheable:
            case write_through:
            case write_protected:
            case write_back:
                return true;
            case write_combining:
                return (capability_ & has_write_combining) != 0;
            default:
                return false;
        }
    }
    [[nodiscard]] bool is_valid(std::uint32_t msr, std::uint64_t value) const {
        if (msr == x86::msr::ia32_mtrr_def_type) {
            constexpr std::uint64_t fixed_enable = 1U << 10;
            constexpr std::uint64_t enable = 1U << 11;
            const std::uint64_t flags = enable | ((capability_ & has_fixed) != 0 ? fixed_enable : 0);
            return (value & ~(flags | 0xff)) == 0 && is_type(value & 0xff);
        }
        if (is_variable(msr)) {
            if ((value & too_wide_) != 0) return false;
            const bool is_mask = msr % 2 != 0;
            return is_mask ? (value & 0x7ff) == 0 : (value & 0xf00) == 0 && is_type(value & 0xff);
        }
        for (unsigned shift = 0; shift < 64; shift += 8) {
            if (!is_type(value >> shift & 0xff)) return false;
        }
        return true;
    }
    static constexpr std::size_t index(std::uint32_t msr) {
        if (msr == x86::msr::ia32_mtrr_def_type) return variable + fixed;
        return is_variable(msr) ? msr - x86::msr::ia32_mtrr_physbase0
                                : variable + (msr - x86::msr::ia32_mtrr_fix64k_00000);
    }

    std::uint64_t capability_;
    std::uint64_t too_wide_;
    std::array<std::optional<std::uint64_t>, variable + fixed + 1> values_{};
};

}  // namespace flatback::host
