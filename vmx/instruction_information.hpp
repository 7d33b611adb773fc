// The VM-exit instruction-information field (SDM 3C 28.2.5, tables 28-8 to 28-14).
#pragma once

#include <cstdint>
#include <optional>

#include "../x86/segment.hpp"

namespace flatback::vmx {

// General-purpose registers are numbered as in instructions: 0 = RAX ... 4 = RSP ... 15 = R15.
struct InstructionInformation {
    std::uint32_t value = 0;

    static constexpr std::uint32_t register_operand_bit = 1u << 10;
    static constexpr std::uint32_t no_index_bit = 1u << 22;
    static constexpr std::uint32_t no_base_bit = 1u << 27;

    // What follows describes the memory operand; undefined where has_register_operand().
    // The index is multiplied by this: 1, 2, 4 or 8.
    [[nodiscard]] constexpr unsigned scale() const { return 1u << (value & 3); }
    // 16, 32 or 64 bits: the width of the offset's arithmetic.
    [[nodiscard]] constexpr unsigned address_bits() const { return 16u << (value >> 7 & 3); }
    [[nodiscard]] constexpr x86::SegmentRegister segment() const {
        return static_cast<x86::SegmentRegister>(value >> 15 & 7);
    }
    [[nodiscard]] constexpr std::optional<std::uint8_t> index_register() const {
        if ((value & no_index_bit) != 0) return std::nullopt;
        return static_cast<std::uint8_t>(value >> 18 & 0xf);
    }
    [[nodiscard]] constexpr std::optional<std::uint8_t> base_register() const {
        if ((value & no_base_bit) != 0) return std::nullopt;
        return static_cast<std::uint8_t>(value >> 23 & 0xf);
    }

    // VMREAD, VMWRITE, LLDT, LTR, SLDT, STR: the operand that may be memory is a register, register1().
    // Always false for INVEPT, INVVPID, INVPCID, VMCLEAR, VMPTRLD, VMPTRST and VMXON.
    [[nodiscard]] constexpr bool has_register_operand() const { return (value & register_operand_bit) != 0; }
    // Defined where has_register_operand(), and for RDRAND and RDSEED.
    [[nodiscard]] constexpr std::uint8_t register1() const {
        return static_cast<std::uint8_t>(value >> 3 & 0xf);
    }
    // The register with the field encoding of VMREAD and VMWRITE, the type of INVEPT, INVVPID and INVPCID.
    [[nodiscard]] constexpr std::uint8_t register2() const { return static_cast<std::uint8_t>(value >> 28); }

    // RDRAND and RDSEED: 16, 32 or 64 bits.
    [[nodiscard]] constexpr unsigned random_operand_bits() const { return 16u << (value >> 11 & 3); }
    // SGDT, SIDT, LGDT, LIDT (0 to 3), or SLDT, STR, LLDT, LTR (0 to 3).
    [[nodiscard]] constexpr unsigned instruction_identity() const { return value >> 28 & 3; }
    // SGDT, SIDT, LGDT, LIDT: 16 or 32 bits; undefined in 64-bit mode.
    [[nodiscard]] constexpr unsigned descriptor_operand_bits() const { return 16u << (value >> 11 & 1); }

    // The offset within the segment, truncated to the address size. displacement: the exit qualification.
    // registers: a callable from a register's number to its 64-bit value.
    template <typename Registers>
    [[nodiscard]] constexpr std::uint64_t effective_offset(std::uint64_t displacement,
                                                           Registers&& registers) const {
        std::uint64_t offset = displacement;
        if (const auto base = base_register()) offset += registers(*base);
        if (const auto scaled = index_register()) offset += registers(*scaled) * scale();
        const unsigned bits = address_bits();
        return bits >= 64 ? offset : offset & ((1ULL << bits) - 1);
    }

    friend constexpr bool operator==(InstructionInformation, InstructionInformation) = default;
};

// For a software processor: the field of an instruction with these operands.
struct InstructionOperands {
    unsigned scale = 1;
    unsigned address_bits = 64;
    x86::SegmentRegister segment = x86::SegmentRegister::ds;
    std::optional<std::uint8_t> index_register;
    std::optional<std::uint8_t> base_register;
    std::optional<std::uint8_t> register1;  // present: the operand is this register, not memory
    std::uint8_t register2 = 0;

    [[nodiscard]] constexpr InstructionInformation encode() const {
        std::uint32_t value = static_cast<std::uint32_t>(register2 & 0xf) << 28;
        if (register1) {
            return {value | InstructionInformation::register_operand_bit |
                    static_cast<std::uint32_t>(*register1 & 0xf) << 3};
        }
        value |= scale == 8 ? 3 : scale / 2;
        value |= (address_bits == 64 ? 2u : address_bits / 32) << 7;
        value |= static_cast<std::uint32_t>(segment) << 15;
        value |= index_register ? static_cast<std::uint32_t>(*index_register & 0xf) << 18
                                : InstructionInformation::no_index_bit;
        value |= base_register ? static_cast<std::uint32_t>(*base_register & 0xf) << 23
                               : InstructionInformation::no_base_bit;
        return {value};
    }
};

}  // namespace flatback::vmx
