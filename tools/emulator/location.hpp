// Where a run was when it ended, in words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tools/emulator/ending.hpp"

namespace flatback::tools {

// What ran in a machine.
struct Programs {
    std::filesystem::path l1;
    std::optional<std::filesystem::path> l0;
    std::optional<std::uint64_t> vmcs01;        // the address of the VMCS by which L0 runs L1, where it said
    std::optional<std::uint64_t> current_vmcs;  // at the end, where it is known
};

// The symbol of an address, as symbol_at, as a terminal may show it.
[[nodiscard]] std::optional<std::string> symbol_in_file(const std::filesystem::path& file,
                                                        std::uint64_t address);

// "L1 was running, at EIP 001000bd (triple_fault+0x7), protected mode, CPL 0, CR3 0": who, by the mode and
// the VMCS; the symbol where the program's file has it.
[[nodiscard]] std::string describe_location(const ProcessorState& state, const Programs& programs);

}  // namespace flatback::tools
