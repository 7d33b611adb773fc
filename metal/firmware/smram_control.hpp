// SMRAM control of the host bridges that L0 knows. Touches no hardware by itself.
#pragma once

#include <concepts>
#include <cstdint>

namespace flatback::metal {

// Configuration space of the host bridge, function 0 of device 0 on bus 0.
template <typename B>
concept HostBridgeRegisters = requires(B& bridge, std::uint32_t offset, std::uint8_t value) {
    { bridge.read_32(offset) } -> std::same_as<std::uint32_t>;
    { bridge.read_8(offset) } -> std::same_as<std::uint8_t>;
    {bridge.write_8(offset, value)};
};

// The bits of the register, the same in both (Intel 290549 "440FX PCIset", 3.2.22; 316966 "3 Series",
// 5.1.32).
namespace smram {
inline constexpr std::uint8_t open = 1 << 6;
inline constexpr std::uint8_t closed_for_data = 1 << 5;
// Until the next reset: "open" is 0 and nothing of the register can be written. In the 3 Series it locks the
// extended register too, and with it where TSEG lies and how large it is (5.1.33).
inline constexpr std::uint8_t locked = 1 << 4;
}  // namespace smram

struct KnownBridge {
    std::uint32_t identifier;  // device and vendor, as at offset 0
    std::uint32_t smram_control;
};
inline constexpr KnownBridge known_bridges[] = {
    {0x12378086, 0x72},  // 440FX
    {0x29C08086, 0x9D},  // 3 Series: G31, G33, P31, P35, and Q35 as QEMU has it
    {0x29B08086, 0x9D},  // Q35
    {0x29D08086, 0x9D},  // Q33
};

struct SmramLock {
    enum class Result : std::uint8_t { locked, not_locked, unknown_bridge };
    Result result;
    std::uint32_t detail;  // not_locked: what the register reads; unknown_bridge: the identifier
};

// Closes and locks it; what is locked already is left as it is.
template <HostBridgeRegisters B>
[[nodiscard]] SmramLock lock_smram_of(B& bridge) {
    const std::uint32_t identifier = bridge.read_32(0);
    for (const KnownBridge& known : known_bridges) {
        if (known.identifier != identifier) continue;
        const std::uint8_t control = bridge.read_8(known.smram_control);
        if ((control & smram::locked) == 0) {
            constexpr std::uint8_t cleared = smram::open | smram::closed_for_data;
            bridge.write_8(known.smram_control,
                           static_cast<std::uint8_t>((control & ~cleared) | smram::locked));
        }
        const std::uint8_t now = bridge.read_8(known.smram_control);
        const bool done = (now & (smram::open | smram::locked)) == smram::locked;
        return {done ? SmramLock::Result::locked : SmramLock::Result::not_locked, now};
    }
    return {SmramLock::Result::unknown_bridge, identifier};
}

}  // namespace flatback::metal
