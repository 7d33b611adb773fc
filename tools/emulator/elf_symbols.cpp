#include "tools/emulator/elf_symbols.hpp"

#include <fmt/format.h>

#include <cstring>
#include <string_view>

#include "formats/elf.hpp"

namespace flatback::tools {
namespace {

// A symbol without a size (of assembler code) is taken to be at most so long.
constexpr std::uint64_t most_unsized = 0x10000;

namespace elf = formats::elf;

// Of a symbol (System V ABI, "Symbol Table"): what has no address of its own, and what is code, or may be.
constexpr std::uint16_t undefined = 0;
constexpr std::uint16_t absolute = 0xFFF1;
constexpr std::uint8_t no_type = 0;
constexpr std::uint8_t function = 2;

std::string_view text_at(std::span<const std::byte> strings, std::uint64_t offset) {
    if (offset >= strings.size()) return {};
    const auto* const text = reinterpret_cast<const char*>(strings.data() + offset);
    return {text, ::strnlen(text, strings.size() - offset)};
}

}  // namespace

std::optional<std::string> symbol_at(std::span<const std::byte> file, std::uint64_t address) {
    const auto header = elf::read_header(file);
    if (!header || header->data != elf::little_endian) return std::nullopt;
    std::string_view name;
    std::uint64_t best = 0;
    for (std::uint64_t index = 0; index < header->sections.count; ++index) {
        const auto table = elf::read_section(file, *header, index);
        if (!table || table->type != elf::section_symbols) continue;
        const auto names = elf::read_section(file, *header, table->link);
        if (!names) continue;
        const auto symbols = formats::slice(file, table->offset, table->size);
        const auto strings = formats::slice(file, names->offset, names->size);
        if (!symbols || !strings) continue;
        for (std::uint64_t at = 0; const auto symbol = elf::read_symbol(*symbols, *header, at); ++at) {
            if (symbol->section == undefined || symbol->section == absolute) continue;
            if (symbol->type != function && symbol->type != no_type) continue;
            const std::uint64_t length = symbol->size != 0 ? symbol->size : most_unsized;
            if (symbol->value > address || address - symbol->value >= length) continue;
            const std::string_view text = text_at(*strings, symbol->name);
            if (text.empty() || (!name.empty() && symbol->value < best)) continue;
            name = text;
            best = symbol->value;
        }
    }
    if (name.empty()) return std::nullopt;
    return fmt::format("{}+{:#x}", name, address - best);
}

}  // namespace flatback::tools
