#include "metal/elf.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint32_t magic = 0x464C457F;  // 7F 'E' 'L' 'F', little-endian
constexpr std::uint64_t class_offset = 4;
constexpr std::uint64_t data_offset = 5;
constexpr std::uint64_t type_offset = 16;
constexpr std::uint64_t machine_offset = 18;
constexpr std::uint8_t little_endian = 1;
constexpr std::uint16_t executable = 2;    // ET_EXEC: linked to run where its headers say
constexpr std::uint32_t segment_load = 1;  // PT_LOAD

// Where the two classes keep the same things.
struct Layout {
    std::uint8_t file_class;
    std::uint16_t machine;
    std::uint64_t header_size;
    std::uint64_t entry, table, table_entry_size, table_count;       // in the file's header
    std::uint64_t offset, linear, physical, file_size, memory_size;  // in a program header
    std::uint64_t program_header_size;
};
constexpr Layout layout_32{1, 3, 52, 24, 28, 42, 44, 4, 8, 12, 16, 20, 32};
constexpr Layout layout_64{2, 62, 64, 24, 32, 54, 56, 8, 16, 24, 32, 40, 56};

// An address-sized number; the caller has checked that it is there.
std::uint64_t read_word(const Layout& layout, Bytes bytes, std::uint64_t offset) {
    if (layout.file_class == layout_64.file_class) return *read<std::uint64_t>(bytes, offset);
    return *read<std::uint32_t>(bytes, offset);
}

std::expected<ElfSegment, BootError> parse_segment(const Layout& layout, Bytes file, Bytes header) {
    const std::uint64_t physical = read_word(layout, header, layout.physical);
    const std::uint64_t memory_size = read_word(layout, header, layout.memory_size);
    ElfSegment segment{.file_offset = read_word(layout, header, layout.offset),
                       .file_size = read_word(layout, header, layout.file_size),
                       .linear = read_word(layout, header, layout.linear),
                       .memory = {physical, physical + memory_size}};
    if (segment.memory.end < segment.memory.start) {
        return std::unexpected(
            BootError{"a segment of the ELF image wraps around the address space at", physical});
    }
    if (segment.file_size > memory_size) {
        return std::unexpected(
            BootError{"a segment of the ELF image is larger in the file than in memory at", physical});
    }
    if (!slice(file, segment.file_offset, segment.file_size)) {
        return std::unexpected(
            BootError{"a segment of the ELF image reaches past the end of the file, at", physical});
    }
    return segment;
}

}  // namespace

std::optional<std::uint64_t> ElfImage::physical_entry() const {
    for (const ElfSegment& segment : segments.items()) {
        if (segment.memory.contains(entry)) return entry;
    }
    for (const ElfSegment& segment : segments.items()) {
        const std::uint64_t offset = entry - segment.linear;
        if (offset < segment.memory.size()) return segment.memory.start + offset;
    }
    return std::nullopt;
}

ElfSection elf_section(Bytes file, const ElfSections& sections, std::uint32_t index) {
    constexpr std::uint32_t no_bits = 8;  // SHT_NOBITS
    const bool is_64_bit = read<std::uint8_t>(file, class_offset) == layout_64.file_class;
    const Layout& layout = is_64_bit ? layout_64 : layout_32;
    const Bytes header = file.subspan(sections.table_offset + std::uint64_t{index} * sections.header_size,
                                      sections.header_size);
    const std::uint64_t address_offset = is_64_bit ? 16 : 12;
    const std::uint64_t word = is_64_bit ? 8 : 4;
    return {.file_offset = read_word(layout, header, address_offset + word),
            .size = read_word(layout, header, address_offset + 2 * word),
            .in_file = *read<std::uint32_t>(header, 4) != no_bits,
            .in_segments = read_word(layout, header, address_offset) != 0,
            .address_offset = address_offset,
            .address_size = word};
}

ElfSections parse_elf_sections(Bytes file) {
    constexpr std::uint32_t least_header_32 = 40;
    constexpr std::uint32_t least_header_64 = 64;
    const bool is_64_bit = read<std::uint8_t>(file, class_offset) == layout_64.file_class;
    const Layout& layout = is_64_bit ? layout_64 : layout_32;
    if (!is_elf(file) || file.size() < layout.header_size) return {};
    const std::uint64_t counts = is_64_bit ? 58 : 46;  // size of a header, their number, the names' index
    const ElfSections sections{.table_offset = read_word(layout, file, is_64_bit ? 40 : 32),
                               .count = *read<std::uint16_t>(file, counts + 2),
                               .header_size = *read<std::uint16_t>(file, counts),
                               .names_index = *read<std::uint16_t>(file, counts + 4)};
    if (sections.count == 0 || sections.header_size < (is_64_bit ? least_header_64 : least_header_32) ||
        !slice(file, sections.table_offset, sections.table_size())) {
        return {};
    }
    for (std::uint32_t index = 0; index < sections.count; ++index) {
        const ElfSection section = elf_section(file, sections, index);
        if (section.in_segments || section.size == 0) continue;
        // What is in no segment and not in the file would be memory from nowhere.
        if (!section.in_file || !slice(file, section.file_offset, section.size)) return {};
    }
    return sections;
}

bool is_elf(Bytes file) {
    return read<std::uint32_t>(file, 0) == magic;
}

std::expected<ElfImage, BootError> parse_elf(Bytes file) {
    const auto file_class = read<std::uint8_t>(file, class_offset);
    const Layout& layout = file_class == layout_64.file_class ? layout_64 : layout_32;
    if (!is_elf(file) || file_class != layout.file_class || file.size() < layout.header_size ||
        read<std::uint8_t>(file, data_offset) != little_endian ||
        read<std::uint16_t>(file, machine_offset) != layout.machine) {
        return std::unexpected(BootError{"the L1 image is not an ELF file for x86"});
    }
    if (read<std::uint16_t>(file, type_offset) != executable) {
        return std::unexpected(
            BootError{"the ELF image is not an executable linked to fixed addresses, so it is no kernel"});
    }
    const std::uint64_t table = read_word(layout, file, layout.table);
    const std::uint64_t entry_size = *read<std::uint16_t>(file, layout.table_entry_size);
    const std::uint64_t count = *read<std::uint16_t>(file, layout.table_count);
    if (count != 0 && entry_size < layout.program_header_size) {
        return std::unexpected(BootError{"the ELF image's program headers have a wrong size", entry_size});
    }
    const auto headers = slice(file, table, count * entry_size);
    if (!headers)
        return std::unexpected(BootError{"the ELF image's program headers reach past the end of the file"});

    ElfImage image{.is_64_bit = layout.file_class == layout_64.file_class,
                   .entry = read_word(layout, file, layout.entry),
                   .segments = {}};
    for (std::uint64_t index = 0; index < count; ++index) {
        const Bytes header = headers->subspan(index * entry_size, entry_size);
        if (read<std::uint32_t>(header, 0) != segment_load) continue;
        if (read_word(layout, header, layout.memory_size) == 0) continue;
        const auto segment = parse_segment(layout, file, header);
        if (!segment) return std::unexpected(segment.error());
        if (!image.segments.push_back(*segment)) {
            return std::unexpected(
                BootError{"the ELF image has too many segments; most is", ElfImage::most_segments});
        }
    }
    if (image.segments.empty()) return std::unexpected(BootError{"the ELF image has no segment to load"});
    return image;
}

}  // namespace flatback::metal
