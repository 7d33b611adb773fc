// The command line of L0: words `name=value`, separated by spaces.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "interface/l0_words.hpp"

namespace flatback::metal {

// The values are those that the information leaf 0x40000001 reports in EBX.
enum class NestedVpid : std::uint8_t { mapped = 0, single = 1, off = 2 };
// Where the log goes: COM1, the screen, both, or nowhere before L0 ends.
enum class Console : std::uint8_t { serial, screen, both, quiet };
enum class LogLevel : std::uint8_t { quiet = 0, info = 1, debug = 2 };

struct Options {
    NestedVpid nested_vpid = NestedVpid::mapped;
    bool shadow_vmcs = true;
    bool hypervisor = true;   // off: a Linux L1 gets the bare machine, as the base line of measurements
    bool vpid = true;         // off: as on a processor without VPIDs
    bool huge_pages = true;   // off: as on one without 1 GB pages, EPT's too
    unsigned processors = 0;  // how many L1 gets at most; 0: all
    bool second_vm = false;   // the last module is the kernel of another VM (metal/l0/second_vm.hpp)
    bool demands = false;     // L0 wants something of L2 for itself (metal/l0/demands.hpp)
    bool x2apic = false;      // local APICs are in x2APIC mode when L1 begins, whatever firmware left
    // L1's guests may have virtual-interrupt delivery and what goes with it. Without a word: but on a
    // processor that is known to lose some of their interrupts (metal/l0/main.cpp).
    std::optional<bool> apicv{};
    // L1 may enter its guests halted. Without a word: but on a processor that is known not to wake all of
    // them.
    std::optional<bool> hlt_state{};
    bool uefi_runtime = false;  // a Linux L1 may call UEFI's runtime services
    bool trace = false;         // every exit and entry costs what a record costs (docs/trace.md)
    LogLevel log = LogLevel::info;
    Console console = Console::both;
};

struct OptionError {
    std::string_view word;  // the word of the command line that is not understood
};

// What every refusal of a command line prints.
inline constexpr std::string_view valid_options = interface::l0_words;

// Later words win over earlier ones.
[[nodiscard]] std::expected<Options, OptionError> parse_options(std::string_view command_line);

}  // namespace flatback::metal
