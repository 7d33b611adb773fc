// The symbols of an ELF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace flatback::tools {

// "name+0x12" for an address in the code of an ELF file, 32 or 64 bits; nothing where the file has no symbol
// for it or is no ELF file. The file may be anything.
[[nodiscard]] std::optional<std::string> symbol_at(std::span<const std::byte> file, std::uint64_t address);

}  // namespace flatback::tools
