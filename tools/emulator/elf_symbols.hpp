// The symbols of an ELF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace flatback::tools {

// "name+0x12" for an address in the code of an ELF file, 32 or 64 bits; nothing where the file has no symbol
// for it or is no ELF file. The file may be anything.
[[nodiscard]] std::optional<std::string> symbol_at(std::span<const std::byte> file, std::uint64_t address);

// The address of what has this name there; nothing where nothing has. The file may be anything.
[[nodiscard]] std::optional<std::uint64_t> address_of_symbol(std::span<const std::byte> file,
                                                             std::string_view name);

// All symbols of its code and data, a line "ADDRESS NAME" each, as the emulator's debugger reads them; empty
// where it has none. Names are made of what the debugger can take in a command: other characters become '_'.
[[nodiscard]] std::string symbol_list(std::span<const std::byte> file);

}  // namespace flatback::tools
