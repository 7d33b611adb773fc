// Segment registers, selectors, and the access-rights format of the VMCS (SDM 3C table 25-2). Layouts alone,
// which decide nothing.
#pragma once

#include <cstdint>

namespace flatback::x86 {

// In the order of the instruction encoding, which is also the order of the VMCS's segment fields.
enum class SegmentRegister : std::uint8_t { es = 0, cs = 1, ss = 2, ds = 3, fs = 4, gs = 5 };

// Segment type of a code or data segment (SDM 3A table 3-1): bits of the 4-bit type field.
namespace segment_type {
// clang-format off
inline constexpr std::uint32_t accessed             = 1u << 0;
inline constexpr std::uint32_t writable             = 1u << 1;  // data
inline constexpr std::uint32_t readable             = 1u << 1;  // code
inline constexpr std::uint32_t expand_down          = 1u << 2;  // data
inline constexpr std::uint32_t conforming           = 1u << 2;  // code
inline constexpr std::uint32_t code                 = 1u << 3;
// System segments (SDM 3A table 3-2).
inline constexpr std::uint32_t available_tss_16     = 1;
inline constexpr std::uint32_t ldt                  = 2;
inline constexpr std::uint32_t busy_tss_16          = 3;
inline constexpr std::uint32_t available_tss        = 9;
inline constexpr std::uint32_t busy_tss             = 11;
// clang-format on
}  // namespace segment_type

// A value of a guest access-rights field.
class AccessRights {
public:
    // clang-format off
    static constexpr std::uint32_t type_mask               = 0xf;
    static constexpr std::uint32_t code_or_data_bit        = 1u << 4;   // S
    static constexpr std::uint32_t privilege_level_shift   = 5;         // DPL, two bits
    static constexpr std::uint32_t present_bit             = 1u << 7;   // P
    static constexpr std::uint32_t available_bit           = 1u << 12;  // AVL
    static constexpr std::uint32_t long_mode_bit           = 1u << 13;  // L, CS only
    static constexpr std::uint32_t default_big_bit         = 1u << 14;  // D/B
    static constexpr std::uint32_t granularity_bit         = 1u << 15;  // G
    static constexpr std::uint32_t unusable_bit            = 1u << 16;
    static constexpr std::uint32_t reserved_bits           = 0xfffe'0f00;
    // clang-format on

    constexpr explicit AccessRights(std::uint32_t value) : value_(value) {}

    [[nodiscard]] constexpr std::uint32_t value() const { return value_; }
    [[nodiscard]] constexpr std::uint32_t type() const { return value_ & type_mask; }
    [[nodiscard]] constexpr bool is_code_or_data() const { return (value_ & code_or_data_bit) != 0; }
    [[nodiscard]] constexpr bool is_code() const { return (value_ & segment_type::code) != 0; }
    [[nodiscard]] constexpr std::uint32_t privilege_level() const {
        return value_ >> privilege_level_shift & 3;
    }
    [[nodiscard]] constexpr bool is_present() const { return (value_ & present_bit) != 0; }
    [[nodiscard]] constexpr bool is_long_mode() const { return (value_ & long_mode_bit) != 0; }
    // Of CS: 64-bit mode at privilege level 0. A conforming segment, whose DPL is not the privilege level
    // (SDM 3A 5.5), is never said to be.
    [[nodiscard]] constexpr bool is_64_bit_level_0() const {
        constexpr std::uint32_t mask = long_mode_bit | 3u << privilege_level_shift | segment_type::conforming;
        return (value_ & mask) == long_mode_bit;
    }
    [[nodiscard]] constexpr bool is_default_big() const { return (value_ & default_big_bit) != 0; }
    [[nodiscard]] constexpr bool has_page_granularity() const { return (value_ & granularity_bit) != 0; }
    [[nodiscard]] constexpr bool is_unusable() const { return (value_ & unusable_bit) != 0; }
    [[nodiscard]] constexpr bool has_reserved_bits() const { return (value_ & reserved_bits) != 0; }

    friend constexpr bool operator==(AccessRights, AccessRights) = default;

private:
    std::uint32_t value_;
};

// SDM 3A 3.4.2.
namespace selector {
inline constexpr std::uint16_t requested_privilege_level = 3;
inline constexpr std::uint16_t table_indicator = 1u << 2;
}  // namespace selector

}  // namespace flatback::x86
