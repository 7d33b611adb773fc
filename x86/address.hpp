// Addresses that carry the level they belong to, so that one cannot be handed over for another.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace flatback::x86 {

// The virtualization levels whose guest-physical address spaces exist.
struct L1 {};
struct L2 {};

namespace address_space {
template <typename Level>
struct GuestPhysical {};
struct HostPhysical {};
struct Linear {};
}  // namespace address_space

inline constexpr std::uint64_t page_size = 0x1000;

// A 64-bit address in the address space named by Space. Offsets may be added; addresses of different spaces
// neither convert nor compare.
template <typename Space>
class Address {
public:
    constexpr Address() = default;
    constexpr explicit Address(std::uint64_t value) : value_(value) {}

    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }

    [[nodiscard]] constexpr std::uint64_t page_number() const { return value_ / page_size; }
    [[nodiscard]] constexpr std::uint64_t page_offset() const { return value_ % page_size; }

    // size: a power of two, in bytes.
    [[nodiscard]] constexpr Address align_down(std::uint64_t size = page_size) const {
        return Address{value_ & ~(size - 1)};
    }
    // Wraps to 0 within the last `size` bytes of the address space.
    [[nodiscard]] constexpr Address align_up(std::uint64_t size = page_size) const {
        return Address{(value_ + size - 1) & ~(size - 1)};
    }
    [[nodiscard]] constexpr std::uint64_t offset_in(std::uint64_t size) const { return value_ & (size - 1); }
    [[nodiscard]] constexpr bool is_aligned(std::uint64_t size = page_size) const {
        return offset_in(size) == 0;
    }

    constexpr Address& operator+=(std::uint64_t bytes) {
        value_ += bytes;
        return *this;
    }
    constexpr Address& operator-=(std::uint64_t bytes) {
        value_ -= bytes;
        return *this;
    }
    [[nodiscard]] friend constexpr Address operator+(Address address, std::uint64_t bytes) {
        return address += bytes;
    }
    [[nodiscard]] friend constexpr Address operator-(Address address, std::uint64_t bytes) {
        return address -= bytes;
    }
    // The distance in bytes, modulo 2^64.
    [[nodiscard]] friend constexpr std::uint64_t operator-(Address end, Address begin) {
        return end.value_ - begin.value_;
    }
    friend constexpr auto operator<=>(Address, Address) = default;

private:
    std::uint64_t value_ = 0;
};

// A guest-physical address of L1 or of L2.
template <typename Level>
using Gpa = Address<address_space::GuestPhysical<Level>>;
// A host-physical address: what the processor puts on the bus.
using Hpa = Address<address_space::HostPhysical>;
using LinearAddress = Address<address_space::Linear>;

// Bits 63:width-1 all equal (SDM 1 3.3.7.1). width: 48 with 4-level paging, 57 with 5-level paging.
[[nodiscard]] constexpr bool is_canonical(std::uint64_t linear_address, unsigned width = 48) {
    const auto signed_address = static_cast<std::int64_t>(linear_address);
    const std::int64_t upper = signed_address >> (width - 1);
    return upper == 0 || upper == -1;
}
[[nodiscard]] constexpr bool is_canonical(LinearAddress linear_address, unsigned width = 48) {
    return is_canonical(linear_address.value(), width);
}

// No bit at or above the physical-address width. physical_address_width: CPUID.80000008H:EAX[7:0], at
// most 52.
[[nodiscard]] constexpr bool fits_physical_width(std::uint64_t physical_address,
                                                 unsigned physical_address_width) {
    return (physical_address >> physical_address_width) == 0;
}

}  // namespace flatback::x86

template <typename Space>
struct std::hash<flatback::x86::Address<Space>> {
    std::size_t operator()(flatback::x86::Address<Space> address) const noexcept {
        // Page-aligned addresses must not collide in their low bits.
        return static_cast<std::size_t>((address.value() ^ (address.value() >> 12)) * 0x9e3779b97f4a7c15ULL);
    }
};
