// The emulated PC that a run needs, as Bochs' configuration file and CMOS memory.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "tools/image/clock.hpp"

namespace flatback::tools {

// Memory, in MB: below 64 GRUB has no place for its modules; above 3072 Bochs' PCI hole begins.
inline constexpr unsigned least_memory = 64;
inline constexpr unsigned most_memory = 3072;

// The model of Bochs' that has all of VT-x that Flatback needs.
inline constexpr std::string_view usual_processor = "corei7_skylake_x";

// The models that a run may name: those of Bochs' that are of 64 bits.
inline constexpr std::array<std::string_view, 18> processor_models{
    "athlon64_clawhammer",
    "athlon64_venice",
    "turion64_tyler",
    "phenom_8650_toliman",
    "zambezi",
    "trinity_apu",
    "ryzen",
    "core2_penryn_t9600",
    "corei5_lynnfield_750",
    "corei5_arrandale_m520",
    "corei7_sandy_bridge_2600k",
    "corei7_ivy_bridge_3770k",
    "corei7_haswell_4770",
    "broadwell_ult",
    usual_processor,
    "corei3_cnl",
    "corei7_icelake_u",
    "tigerlake",
};
inline constexpr unsigned most_processors = 8;

enum class Firmware : std::uint8_t { bios, uefi };
enum class Medium : std::uint8_t { cd, disk };  // as what the boot image is there

struct EmulatedPc {
    std::string processor{usual_processor};  // one of Bochs' CPU models
    Firmware firmware = Firmware::bios;
    Medium medium = Medium::cd;
    unsigned memory = 1024;  // MB
    unsigned processors = 1;
    std::uint64_t instructions_per_second = tools::instructions_per_second;
    std::filesystem::path image;   // the ISO image that it boots from
    std::filesystem::path serial;  // COM1's output; or a terminal that is its other end:
    bool serial_is_terminal = false;
    std::filesystem::path log;                  // Bochs' own log
    std::optional<std::filesystem::path> disk;  // a raw image, the second drive; it is written to
    std::filesystem::path cmos;                 // the file that holds cmos_image()
    bool magic_breaks = false;                  // XCHG BX, BX stops in Bochs' debugger
};

// Bochs' configuration. Paths must hold no comma, quote or newline (they are in a temporary directory).
[[nodiscard]] std::string bochs_configuration(const EmulatedPc& pc);

// The CMOS memory at power-on: memory sizes, what is booted from, and the firmware's fast-boot flag, which
// spares three emulated seconds of waiting for a key.
[[nodiscard]] std::array<std::uint8_t, 128> cmos_image(unsigned memory, Medium medium = Medium::cd);

}  // namespace flatback::tools
