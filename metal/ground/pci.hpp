// PCI configuration space by ports (PCI Local Bus Specification 3.0, 3.2.2.3.2).
#pragma once

#include <cstdint>

#include "metal/ground/instructions.hpp"

namespace flatback::metal::pci {

inline constexpr std::uint16_t address_port = 0xCF8;
inline constexpr std::uint16_t data_port = 0xCFC;

// A function of bus 0.
struct Function {
    std::uint32_t device = 0;    // 0 to 31
    std::uint32_t function = 0;  // 0 to 7
};

// What CONFIG_ADDRESS holds for a double word.
[[nodiscard]] constexpr std::uint32_t address_of(Function where, std::uint32_t offset) {
    constexpr std::uint32_t enable = 1U << 31;
    return enable | where.device << 11 | where.function << 8 | (offset & 0xFC);
}
inline void select(Function where, std::uint32_t offset) {
    write_port_32(address_port, address_of(where, offset));
}
// offset: 0 to 255. All ones where there is no such function.
[[nodiscard]] inline std::uint32_t read_32(Function where, std::uint32_t offset) {
    select(where, offset);
    return read_port_32(data_port);
}
[[nodiscard]] inline std::uint8_t read_8(Function where, std::uint32_t offset) {
    select(where, offset);
    return read_port_8(static_cast<std::uint16_t>(data_port + (offset & 3)));
}
inline void write_8(Function where, std::uint32_t offset, std::uint8_t value) {
    select(where, offset);
    write_port_8(static_cast<std::uint16_t>(data_port + (offset & 3)), value);
}

}  // namespace flatback::metal::pci
