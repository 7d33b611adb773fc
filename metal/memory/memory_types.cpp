#include "metal/memory/memory_types.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint64_t fixed_end = 0x100000;
constexpr std::uint64_t address_bits = ~std::uint64_t{0xFFF};

// A number that is no memory type counts as uncacheable: always correct, only slow.
x86::MemoryType type_from(std::uint64_t number) {
    switch (number & 0xFF) {
        case 1:
        case 4:
        case 5:
        case 6:
            return static_cast<x86::MemoryType>(number & 0xFF);
        default:
            return x86::MemoryType::uncacheable;
    }
}

// SDM 3A 12.11.4.1: of overlapping variable ranges UC wins, WT wins over WB; any other pair is undefined.
x86::MemoryType combine(x86::MemoryType a, x86::MemoryType b) {
    using enum x86::MemoryType;
    if (a == b) return a;
    const bool through_and_back =
        (a == write_through && b == write_back) || (a == write_back && b == write_through);
    return through_and_back ? write_through : uncacheable;
}

}  // namespace

// SDM 3A table 12-9: eight ranges a register, one byte each.
x86::MemoryType MemoryTypes::fixed_type(std::uint64_t address) const {
    std::size_t range = 0;
    if (address < 0x80000) {
        range = address / 0x10000;
    } else if (address < 0xC0000) {
        range = 8 + (address - 0x80000) / 0x4000;
    } else {
        range = 24 + (address - 0xC0000) / 0x1000;
    }
    return type_from(fixed[range / 8] >> (range % 8 * 8));
}

std::optional<x86::MemoryType> MemoryTypes::type_of(std::uint64_t address, std::uint64_t size) const {
    if ((default_type & enabled) == 0) return x86::MemoryType::uncacheable;
    if (address < fixed_end && (default_type & fixed_enabled) != 0) {
        if (size > 0x1000) return std::nullopt;
        return fixed_type(address);
    }
    const std::uint64_t width_mask = ((std::uint64_t{1} << physical_address_width) - 1) & address_bits;
    std::optional<x86::MemoryType> type;
    for (const Variable& range : variable) {
        if ((range.mask & valid) == 0) continue;
        const std::uint64_t mask = range.mask & width_mask;
        const std::uint64_t mask_above = mask & ~(size - 1);
        if ((address & mask_above) != (range.base & mask_above)) continue;
        // Some byte is in the range; bits of the mask below the size select only a part of them.
        if (mask_above != mask) return std::nullopt;
        const x86::MemoryType this_type = type_from(range.base);
        type = type ? combine(*type, this_type) : this_type;
    }
    return type.value_or(type_from(default_type));
}

}  // namespace flatback::metal
