// The headers of an ELF file for x86, of 32 or 64 bits (System V ABI, "Object Files"), with 64-bit numbers
// whichever it is.
#pragma once

#include <cstdint>
#include <optional>

#include "formats/bytes.hpp"

namespace flatback::formats::elf {

inline constexpr std::uint32_t magic = 0x464C457F;  // 7F 'E' 'L' 'F', little-endian
inline constexpr std::uint8_t class_32 = 1;
inline constexpr std::uint8_t class_64 = 2;
inline constexpr std::uint8_t little_endian = 1;
inline constexpr std::uint16_t executable = 2;  // ET_EXEC: linked to run where its headers say
inline constexpr std::uint16_t machine_386 = 3;
inline constexpr std::uint16_t machine_x86_64 = 62;
inline constexpr std::uint32_t segment_load = 1;     // PT_LOAD
inline constexpr std::uint32_t section_symbols = 2;  // SHT_SYMTAB
inline constexpr std::uint32_t section_no_bits = 8;  // SHT_NOBITS: zeros that are not in the file

// A table in the file: its headers may be larger than what is known of them.
struct Table {
    std::uint64_t offset = 0;
    std::uint16_t header_size = 0;
    std::uint16_t count = 0;

    [[nodiscard]] std::uint64_t size() const { return std::uint64_t{count} * header_size; }
};

struct Header {
    std::uint8_t file_class = 0;
    std::uint8_t data = 0;
    std::uint16_t type = 0;
    std::uint16_t machine = 0;
    std::uint64_t entry = 0;
    Table segments;
    Table sections;
    std::uint16_t names_section = 0;  // that holds the sections' names

    [[nodiscard]] constexpr bool is_64_bit() const { return file_class == class_64; }
    [[nodiscard]] bool is_for_x86() const {
        return data == little_endian && machine == (is_64_bit() ? machine_x86_64 : machine_386);
    }
};

struct Segment {
    std::uint32_t type = 0;
    std::uint64_t offset = 0;  // in the file
    std::uint64_t linear = 0;
    std::uint64_t physical = 0;
    std::uint64_t file_size = 0;
    std::uint64_t memory_size = 0;
};

struct Section {
    std::uint32_t type = 0;
    std::uint64_t address = 0;
    std::uint64_t offset = 0;  // in the file
    std::uint64_t size = 0;
    std::uint32_t link = 0;  // of symbols: the section that holds their names
};

struct Symbol {
    std::uint32_t name = 0;  // in the names' section
    std::uint8_t type = 0;
    std::uint16_t section = 0;
    std::uint64_t value = 0;
    std::uint64_t size = 0;
};

// Where the two classes keep the same things.
struct Layout {
    std::uint64_t word;  // bytes of an address
    std::uint64_t header_size, entry, segments, sections, sizes;
    std::uint64_t segment_size, offset, linear, physical, file_size, memory_size;
    std::uint64_t section_size, section_address, section_link;
    std::uint64_t symbol_size, symbol_value, symbol_length, symbol_info, symbol_section;
};
// clang-format off
inline constexpr Layout layout_32{
    .word = 4,
    .header_size  = 52, .entry = 24, .segments = 28, .sections = 32, .sizes = 42,
    .segment_size = 32, .offset = 4, .linear = 8, .physical = 12, .file_size = 16, .memory_size = 20,
    .section_size = 40, .section_address = 12, .section_link = 24,
    .symbol_size  = 16, .symbol_value = 4, .symbol_length = 8, .symbol_info = 12, .symbol_section = 14};
inline constexpr Layout layout_64{
    .word = 8,
    .header_size  = 64, .entry = 24, .segments = 32, .sections = 40, .sizes = 54,
    .segment_size = 56, .offset = 8, .linear = 16, .physical = 24, .file_size = 32, .memory_size = 40,
    .section_size = 64, .section_address = 16, .section_link = 40,
    .symbol_size  = 24, .symbol_value = 8, .symbol_length = 16, .symbol_info = 4, .symbol_section = 6};
// clang-format on

[[nodiscard]] constexpr const Layout& layout_of(const Header& header) {
    return header.is_64_bit() ? layout_64 : layout_32;
}

// An address-sized number; the caller knows that it is there.
[[nodiscard]] inline std::uint64_t read_word(const Layout& layout, Bytes bytes, std::uint64_t offset) {
    if (layout.word == sizeof(std::uint64_t)) return *read<std::uint64_t>(bytes, offset);
    return *read<std::uint32_t>(bytes, offset);
}

[[nodiscard]] inline bool is_elf(Bytes file) {
    return read<std::uint32_t>(file, 0) == magic;
}

// Absent if it is no ELF file of a known class, or cut short.
[[nodiscard]] inline std::optional<Header> read_header(Bytes file) {
    const auto file_class = read<std::uint8_t>(file, 4);
    if (!is_elf(file) || (file_class != class_32 && file_class != class_64)) return std::nullopt;
    const Layout& layout = file_class == class_64 ? layout_64 : layout_32;
    if (file.size() < layout.header_size) return std::nullopt;
    const auto half = [file](std::uint64_t offset) { return *read<std::uint16_t>(file, offset); };
    return Header{
        .file_class = *file_class,
        .data = *read<std::uint8_t>(file, 5),
        .type = half(16),
        .machine = half(18),
        .entry = read_word(layout, file, layout.entry),
        .segments = {read_word(layout, file, layout.segments), half(layout.sizes), half(layout.sizes + 2)},
        .sections = {read_word(layout, file, layout.sections), half(layout.sizes + 4),
                     half(layout.sizes + 6)},
        .names_section = half(layout.sizes + 8)};
}

// The header number `index` of a table, if all of the table is in the file and its headers have `least`
// bytes.
[[nodiscard]] inline std::optional<Bytes> table_header(Bytes file, const Table& table, std::uint64_t index,
                                                       std::uint64_t least) {
    const auto headers = slice(file, table.offset, table.size());
    if (!headers || index >= table.count || table.header_size < least) return std::nullopt;
    return headers->subspan(index * table.header_size, table.header_size);
}

// Of the contents of a segment or section nothing is said: they may lie anywhere.
[[nodiscard]] inline std::optional<Segment> read_segment(Bytes file, const Header& header,
                                                         std::uint64_t index) {
    const Layout& layout = layout_of(header);
    const auto bytes = table_header(file, header.segments, index, layout.segment_size);
    if (!bytes) return std::nullopt;
    return Segment{.type = *read<std::uint32_t>(*bytes, 0),
                   .offset = read_word(layout, *bytes, layout.offset),
                   .linear = read_word(layout, *bytes, layout.linear),
                   .physical = read_word(layout, *bytes, layout.physical),
                   .file_size = read_word(layout, *bytes, layout.file_size),
                   .memory_size = read_word(layout, *bytes, layout.memory_size)};
}

[[nodiscard]] inline std::optional<Section> read_section(Bytes file, const Header& header,
                                                         std::uint64_t index) {
    const Layout& layout = layout_of(header);
    const auto bytes = table_header(file, header.sections, index, layout.section_size);
    if (!bytes) return std::nullopt;
    return Section{.type = *read<std::uint32_t>(*bytes, 4),
                   .address = read_word(layout, *bytes, layout.section_address),
                   .offset = read_word(layout, *bytes, layout.section_address + layout.word),
                   .size = read_word(layout, *bytes, layout.section_address + 2 * layout.word),
                   .link = *read<std::uint32_t>(*bytes, layout.section_link)};
}

// Absent behind the last that is whole. `symbols`: the contents of a section of symbols.
[[nodiscard]] inline std::optional<Symbol> read_symbol(Bytes symbols, const Header& header,
                                                       std::uint64_t index) {
    const Layout& layout = layout_of(header);
    if (index >= symbols.size() / layout.symbol_size) return std::nullopt;
    const Bytes bytes = symbols.subspan(index * layout.symbol_size, layout.symbol_size);
    return Symbol{.name = *read<std::uint32_t>(bytes, 0),
                  .type = static_cast<std::uint8_t>(*read<std::uint8_t>(bytes, layout.symbol_info) & 0xF),
                  .section = *read<std::uint16_t>(bytes, layout.symbol_section),
                  .value = read_word(layout, bytes, layout.symbol_value),
                  .size = read_word(layout, bytes, layout.symbol_length)};
}

}  // namespace flatback::formats::elf
