// The loadable segments of an ELF file for x86, 32 or 64 bits (System V ABI, "Program Header").
#pragma once

#include <cstdint>
#include <expected>

#include "formats/elf.hpp"
#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"
#include "metal/ground/inline_vector.hpp"
#include "metal/ground/memory_map.hpp"

namespace flatback::metal {

struct ElfSegment {
    std::uint64_t file_offset = 0;
    std::uint64_t file_size = 0;  // lies inside the file; at most memory.size()
    std::uint64_t linear = 0;     // p_vaddr
    PhysicalRange memory;         // p_paddr, p_memsz: does not wrap, not empty
};

struct ElfImage {
    static constexpr std::size_t most_segments = 32;
    bool is_64_bit = false;
    std::uint64_t entry = 0;                           // as the file says: physical or linear
    InlineVector<ElfSegment, most_segments> segments;  // PT_LOAD with a size, in the file's order

    // The entry as a physical address inside a segment: taken as physical if it is one, else as linear;
    // absent if it is neither.
    [[nodiscard]] std::optional<std::uint64_t> physical_entry() const;
};

// The table of section headers, as the file's header says. Empty where there is none, or where it or a
// section that a boot loader would load reaches outside of the file.
struct ElfSections {
    std::uint64_t table_offset = 0;  // in the file
    std::uint32_t count = 0;
    std::uint32_t header_size = 0;
    std::uint32_t names_index = 0;  // the section that holds the names

    [[nodiscard]] std::uint64_t table_size() const { return std::uint64_t{count} * header_size; }
};
struct ElfSection {
    std::uint64_t file_offset = 0;
    std::uint64_t size = 0;
    bool in_file = false;              // false: it is all zeros
    bool in_segments = false;          // it has an address of its own, and so belongs to a segment
    std::uint64_t address_offset = 0;  // of its address, in its header
    std::uint64_t address_size = 4;    // in bytes: 4 or 8
};
[[nodiscard]] ElfSections parse_elf_sections(Bytes file);
// index: below the count of parse_elf_sections(file).
[[nodiscard]] ElfSection elf_section(Bytes file, std::uint32_t index);

// Refuses other classes and machines, and tables or segments that reach outside of the file.
[[nodiscard]] std::expected<ElfImage, BootError> parse_elf(Bytes file);

}  // namespace flatback::metal
