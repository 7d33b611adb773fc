// The emulated PC that a run needs, as Bochs' configuration file and CMOS memory.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace flatback::tools {

// Memory, in MB: below 64 GRUB has no place for its modules; above 3072 Bochs' PCI hole begins.
inline constexpr unsigned least_memory = 64;
inline constexpr unsigned most_memory = 3072;

// One tick is one instruction; the emulated clock runs at this many instructions per second.
inline constexpr std::uint64_t instructions_per_second = 100'000'000;

// The clock's rate under Linux. At 250 timer interrupts a second, there are 4 million instructions between
// two, as on a PC; were there fewer, the interrupts would be a good part of what is measured.
inline constexpr std::uint64_t linux_instructions_per_second = 1'000'000'000;

// The model of Bochs' that has all of VT-x that Flatback needs.
inline constexpr std::string_view usual_processor = "corei7_skylake_x";

struct Machine {
    std::string processor{usual_processor};  // one of Bochs' CPU models
    unsigned memory = 1024;                  // MB
    unsigned processors = 1;
    std::uint64_t instructions_per_second = tools::instructions_per_second;
    std::filesystem::path cdrom;   // the ISO image that it boots from
    std::filesystem::path serial;  // COM1's output
    std::filesystem::path log;     // Bochs' own log
    std::filesystem::path cmos;    // the file that holds cmos_image()
};

// Bochs' configuration. Paths must hold no comma, quote or newline (they are in a temporary directory).
[[nodiscard]] std::string bochs_configuration(const Machine& machine);

// The CMOS memory at power-on: memory sizes, boot from CD, and the firmware's fast-boot flag, which spares
// three emulated seconds of waiting for a key.
[[nodiscard]] std::array<std::uint8_t, 128> cmos_image(unsigned memory);

}  // namespace flatback::tools
