#include "metal/load/elf.hpp"

namespace flatback::metal {
namespace {

namespace elf = formats::elf;

std::expected<ElfSegment, BootError> checked(const elf::Segment& header, Bytes file) {
    const std::uint64_t physical = header.physical;
    const ElfSegment segment{.file_offset = header.offset,
                             .file_size = header.file_size,
                             .linear = header.linear,
                             .memory = {physical, physical + header.memory_size}};
    if (segment.memory.end < segment.memory.start) {
        return std::unexpected(
            BootError{"a segment of the ELF image wraps around the address space at", physical});
    }
    if (segment.file_size > header.memory_size) {
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

ElfSection elf_section(Bytes file, std::uint32_t index) {
    const auto header = elf::read_header(file);
    const auto section = header ? elf::read_section(file, *header, index) : std::nullopt;
    if (!section) return {};
    const elf::Layout& layout = elf::layout_of(*header);
    return {.file_offset = section->offset,
            .size = section->size,
            .in_file = section->type != elf::section_no_bits,
            .in_segments = section->address != 0,
            .address_offset = layout.section_address,
            .address_size = layout.word};
}

ElfSections parse_elf_sections(Bytes file) {
    const auto header = elf::read_header(file);
    if (!header) return {};
    const elf::Table& table = header->sections;
    for (std::uint32_t index = 0; index < table.count; ++index) {
        if (!elf::read_section(file, *header, index)) return {};
        const ElfSection section = elf_section(file, index);
        if (section.in_segments || section.size == 0) continue;
        // What is in no segment and not in the file would be memory from nowhere.
        if (!section.in_file || !slice(file, section.file_offset, section.size)) return {};
    }
    return {.table_offset = table.offset,
            .count = table.count,
            .header_size = table.header_size,
            .names_index = header->names_section};
}

std::expected<ElfImage, BootError> parse_elf(Bytes file) {
    const auto header = elf::read_header(file);
    if (!header || !header->is_for_x86())
        return std::unexpected(BootError{"the L1 image is not an ELF file for x86"});
    if (header->type != elf::executable) {
        return std::unexpected(
            BootError{"the ELF image is not an executable linked to fixed addresses, so it is no kernel"});
    }
    const elf::Table& table = header->segments;
    if (table.count != 0 && table.header_size < elf::layout_of(*header).segment_size) {
        return std::unexpected(
            BootError{"the ELF image's program headers have a wrong size", table.header_size});
    }
    ElfImage image{.is_64_bit = header->is_64_bit(), .entry = header->entry, .segments = {}};
    for (std::uint64_t index = 0; index < table.count; ++index) {
        const auto found = elf::read_segment(file, *header, index);
        if (!found) {
            return std::unexpected(
                BootError{"the ELF image's program headers reach past the end of the file"});
        }
        if (found->type != elf::segment_load || found->memory_size == 0) continue;
        const auto segment = checked(*found, file);
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
