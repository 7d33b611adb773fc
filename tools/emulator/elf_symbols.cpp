#include "tools/emulator/elf_symbols.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <iterator>
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

// Those with an address and a name.
template <typename Each>
void for_each_symbol(std::span<const std::byte> file, const Each& each) {
    const auto header = elf::read_header(file);
    if (!header || header->data != elf::little_endian) return;
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
            const std::string_view text = text_at(*strings, symbol->name);
            if (!text.empty()) each(*symbol, text);
        }
    }
}

}  // namespace

std::optional<std::string> symbol_at(std::span<const std::byte> file, std::uint64_t address) {
    std::string_view name;
    std::uint64_t best = 0;
    for_each_symbol(file, [&](const elf::Symbol& symbol, std::string_view text) {
        if (symbol.type != function && symbol.type != no_type) return;
        const std::uint64_t length = symbol.size != 0 ? symbol.size : most_unsized;
        if (symbol.value > address || address - symbol.value >= length) return;
        if (!name.empty() && symbol.value < best) return;
        name = text;
        best = symbol.value;
    });
    if (name.empty()) return std::nullopt;
    return fmt::format("{}+{:#x}", name, address - best);
}

std::optional<std::uint64_t> address_of_symbol(std::span<const std::byte> file, std::string_view name) {
    std::optional<std::uint64_t> address;
    for_each_symbol(file, [&](const elf::Symbol& symbol, std::string_view text) {
        if (text == name) address = symbol.value;
    });
    return address;
}

std::string symbol_list(std::span<const std::byte> file) {
    // As many as a big kernel has: a file that repeats a section a million times ends too.
    constexpr std::size_t most_bytes = std::size_t{32} << 20;
    std::string list;
    for_each_symbol(file, [&list](const elf::Symbol& symbol, std::string_view text) {
        constexpr std::uint8_t object = 1;
        if (symbol.type > function || list.size() > most_bytes) return;
        static_assert(no_type < object && object < function);
        std::string name{text};
        std::ranges::replace_if(
            name,
            [](char c) {
                return c != '_' && c != '.' && c != '$' && std::isalnum(static_cast<unsigned char>(c)) == 0;
            },
            '_');
        fmt::format_to(std::back_inserter(list), "{:x} {}\n", symbol.value, name);
    });
    return list;
}

}  // namespace flatback::tools
