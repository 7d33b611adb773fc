// What VM exits say of an instruction, as the SDM lays it out: the encoders' side. Whoever is judged decodes.
#pragma once

#include <cstdint>

namespace flatback::machine::rules {

enum class ControlRegisterAccess : std::uint8_t { mov_to = 0, mov_from = 1 };

/// SDM 3C table 28-3: the register 3:0, the kind 5:4, the general register 11:8.
[[nodiscard]] constexpr std::uint64_t control_register_qualification(unsigned control_register,
                                                                     ControlRegisterAccess kind,
                                                                     unsigned general_register) {
    return std::uint64_t{control_register} | std::uint64_t{static_cast<unsigned>(kind)} << 4 |
           std::uint64_t{general_register} << 8;
}

/// SDM 3C table 28-5, for OUT DX, AL: size 2:0 less one, OUT is bit 3 clear, DX is bit 6 clear, the port
/// 31:16.
[[nodiscard]] constexpr std::uint64_t output_qualification(std::uint16_t port) {
    return std::uint64_t{port} << 16;
}

/// SDM 3C table 28-14, for VMREAD and VMWRITE between registers: bit 10, the datum's register 6:3, the
/// encoding's 31:28.
[[nodiscard]] constexpr std::uint32_t two_register_information(unsigned datum, unsigned encoding) {
    return 1U << 10 | datum << 3 | encoding << 28;
}

/// SDM 3C table 28-13, for a memory operand that is a displacement alone: 64-bit addresses (2 in 9:7), DS (3
/// in 17:15), neither index (22) nor base (27); INVEPT, INVVPID and INVPCID name the register of their type
/// in 31:28.
[[nodiscard]] constexpr std::uint32_t displacement_information(unsigned type_register = 0) {
    return 2U << 7 | 3U << 15 | 1U << 22 | 1U << 27 | type_register << 28;
}

/// SDM 3C table 28-10, for LIDT: as above, 3 in 29:28.
[[nodiscard]] constexpr std::uint32_t descriptor_table_information() {
    return displacement_information(3);
}

}  // namespace flatback::machine::rules
