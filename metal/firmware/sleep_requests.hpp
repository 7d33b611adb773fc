// Requests of sleep states at the ports themselves: an L1 that knows the registers needs no table to suspend
// the machine (metal/firmware/sleep_states.hpp), and would wake alone on it.
//
// A request is a write of SLP_EN with a type to a PM1 control register, or to the sleep control register of
// hardware-reduced ACPI (ACPI 6.5, sections 4.8.3.2.1 and 4.8.3.7). Types that the firmware's tables name for
// S1 (the processor goes on), S4 and S5 (it begins anew) are let through; every other one is refused.
// Where the chipset's configuration space has the ports' base in a register that L0 knows, it stays where the
// firmware put it, and so does configuration space itself where it is in memory too. What of this lies in
// memory is kept_registers.hpp's. Not watched: the S4BIOS command, which is a request to system-management
// mode.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "metal/ground/bytes.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::metal {

struct SleepControl {
    // Ports with SLP_TYP in bits 4:2 and SLP_EN in bit 5: the second byte of a PM1 control register.
    std::array<std::uint16_t, 6> request_ports{};
    std::size_t request_ports_used = 0;
    std::uint8_t allowed_types = 0;  // bit n: SLP_TYP n
    // Where such a byte lies in memory instead.
    std::array<std::uint64_t, 3> request_bytes{};
    std::size_t request_bytes_used = 0;
    // Where configuration space is in memory too, that of bus 0 of segment 0 (PCI Firmware Specification
    // 3.3, 4.1.2).
    std::optional<std::uint64_t> memory_configuration;
    // Double words of configuration space that stay as they are, as CONFIG_ADDRESS selects them: the base of
    // the ports, and where configuration space lies in memory.
    std::array<std::uint32_t, 3> fixed_registers{};
    std::size_t fixed_registers_used = 0;

    [[nodiscard]] std::span<const std::uint32_t> fixed() const {
        return std::span{fixed_registers}.first(fixed_registers_used);
    }
    void fix(std::uint32_t configuration_address) {
        if (fixed_registers_used < fixed_registers.size())
            fixed_registers[fixed_registers_used++] = configuration_address;
    }
    // Of a byte with a request: whether L0 refuses it.
    [[nodiscard]] bool refuses(std::uint8_t byte) const {
        return (byte & sleep_enable) != 0 && (allowed_types >> (byte >> 2 & 7) & 1) == 0;
    }
    static constexpr std::uint8_t sleep_enable = 1U << 5;

    [[nodiscard]] std::span<const std::uint16_t> requests() const {
        return std::span{request_ports}.first(request_ports_used);
    }
    void add_request_port(std::uint64_t port);
    // Where the tables name no type for S5, a power-off cannot be told from a sleep: then nothing is watched.
    [[nodiscard]] bool tells_power_off() const { return allowed_types != 0; }
};

// From the tables as the firmware left them, before hide_sleep_states(). physical: as keep_processors.
// Corrupt tables have no registers.
[[nodiscard]] SleepControl find_sleep_control(std::byte* physical, std::uint64_t physical_size, Bytes rsdp);

enum class IoAnswer : std::uint8_t {
    let_through,
    refused,  // completed without what it asks for
};
// value: what an OUT writes.
[[nodiscard]] IoAnswer answer_io(const SleepControl& control, vmx::IoAccess access, std::uint32_t value);
// Whether an OUT at CONFIG_DATA, with this in CONFIG_ADDRESS, reaches one of the fixed registers.
[[nodiscard]] bool reaches_fixed(const SleepControl& control, vmx::IoAccess access,
                                 std::uint32_t configuration_address);
// A refused request without SLP_EN.
[[nodiscard]] std::uint32_t without_request(const SleepControl& control, vmx::IoAccess access,
                                            std::uint32_t value);

}  // namespace flatback::metal
