// I/O ports.
#pragma once

#include <cstdint>

namespace flatback::guests {

inline void out_byte(std::uint16_t port, std::uint8_t value) {
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline std::uint8_t in_byte(std::uint16_t port) {
    std::uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

}  // namespace flatback::guests
