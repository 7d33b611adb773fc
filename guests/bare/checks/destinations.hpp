// The two processors' places among logical destinations (SDM 3A 11.6.2.2), and the registers of the local
// APIC's page by which they take them.
#pragma once

#include <cstdint>

namespace flatback::guests {

constexpr std::uint64_t apic_page = 0xFEE00000;
inline std::uint32_t read_apic_register(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(apic_page + offset);
}
inline void write_apic_register(std::uint32_t offset, std::uint32_t value) {
    *reinterpret_cast<volatile std::uint32_t*>(apic_page + offset) = value;
}

constexpr std::uint32_t logical_destination = 0xD0;
constexpr std::uint32_t destination_format = 0xE0;
constexpr std::uint32_t flat = 0xFFFFFFFF;
constexpr std::uint32_t clusters = 0x0FFFFFFF;

// Of an interrupt command.
constexpr std::uint32_t logical = 1U << 11;
constexpr std::uint32_t to_all_others = 3U << 18;

constexpr std::uint32_t first_is = 0x11;   // in cluster 1, the first; as a flat one, two bits
constexpr std::uint32_t second_is = 0x12;  // the second there

// Both processors take them. The format is one that processors are to have in common.
void take_places(std::uint32_t format);

void wait_ticks(std::uint64_t ticks);

}  // namespace flatback::guests
