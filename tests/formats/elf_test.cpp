// The layouts of formats/elf.hpp against the C library's structures.
#include "formats/elf.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace flatback::formats::elf_test {
namespace {

struct Of32 {
    using Header = Elf32_Ehdr;
    using Segment = Elf32_Phdr;
    using Section = Elf32_Shdr;
    using Symbol = Elf32_Sym;
    static constexpr unsigned char file_class = ELFCLASS32;
    static constexpr std::uint16_t machine = EM_386;
};
struct Of64 {
    using Header = Elf64_Ehdr;
    using Segment = Elf64_Phdr;
    using Section = Elf64_Shdr;
    using Symbol = Elf64_Sym;
    static constexpr unsigned char file_class = ELFCLASS64;
    static constexpr std::uint16_t machine = EM_X86_64;
};

template <typename T>
void append(std::vector<std::byte>& file, const T& value) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
    file.insert(file.end(), bytes, bytes + sizeof value);
}

// A header, two segments and two sections, each field with a number of its own.
template <typename Of>
std::vector<std::byte> file_of() {
    typename Of::Header header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = Of::file_class;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = Of::machine;
    header.e_entry = 0x1122;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(typename Of::Segment);
    header.e_phnum = 2;
    header.e_shoff = sizeof header + 2 * sizeof(typename Of::Segment);
    header.e_shentsize = sizeof(typename Of::Section);
    header.e_shnum = 2;
    header.e_shstrndx = 1;
    typename Of::Segment segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = 1;
    segment.p_vaddr = 2;
    segment.p_paddr = 3;
    segment.p_filesz = 4;
    segment.p_memsz = 5;
    typename Of::Section section{};
    section.sh_type = SHT_SYMTAB;
    section.sh_addr = 6;
    section.sh_offset = 7;
    section.sh_size = 8;
    section.sh_link = 9;
    std::vector<std::byte> file;
    append(file, header);
    append(file, typename Of::Segment{});
    append(file, segment);
    append(file, typename Of::Section{});
    append(file, section);
    return file;
}

template <typename Of>
struct Elf : testing::Test {};
using Classes = testing::Types<Of32, Of64>;
TYPED_TEST_SUITE(Elf, Classes, );

TYPED_TEST(Elf, HeadersAreReadWhereTheyAre) {
    const auto file = file_of<TypeParam>();
    const auto header = elf::read_header(file);
    ASSERT_TRUE(header);
    EXPECT_TRUE(header->is_for_x86());
    EXPECT_EQ(header->type, elf::executable);
    EXPECT_EQ(header->entry, 0x1122U);
    EXPECT_EQ(header->names_section, 1U);
    const auto segment = elf::read_segment(file, *header, 1);
    ASSERT_TRUE(segment);
    EXPECT_EQ(segment->type, elf::segment_load);
    EXPECT_EQ(segment->offset, 1U);
    EXPECT_EQ(segment->linear, 2U);
    EXPECT_EQ(segment->physical, 3U);
    EXPECT_EQ(segment->file_size, 4U);
    EXPECT_EQ(segment->memory_size, 5U);
    const auto section = elf::read_section(file, *header, 1);
    ASSERT_TRUE(section);
    EXPECT_EQ(section->type, elf::section_symbols);
    EXPECT_EQ(section->address, 6U);
    EXPECT_EQ(section->offset, 7U);
    EXPECT_EQ(section->size, 8U);
    EXPECT_EQ(section->link, 9U);
    EXPECT_FALSE(elf::read_segment(file, *header, 2));
    EXPECT_FALSE(elf::read_section(file, *header, 2));
}

TYPED_TEST(Elf, SymbolsAreReadWhereTheyAre) {
    typename TypeParam::Symbol symbol{};
    symbol.st_name = 1;
    symbol.st_value = 2;
    symbol.st_size = 3;
    symbol.st_info = STT_FUNC | STB_GLOBAL << 4;
    symbol.st_shndx = 4;
    std::vector<std::byte> symbols;
    append(symbols, typename TypeParam::Symbol{});
    append(symbols, symbol);
    symbols.resize(symbols.size() + sizeof symbol - 1);  // one that is cut short
    const auto header = elf::read_header(file_of<TypeParam>());
    const auto read = elf::read_symbol(symbols, *header, 1);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->name, 1U);
    EXPECT_EQ(read->value, 2U);
    EXPECT_EQ(read->size, 3U);
    EXPECT_EQ(read->type, STT_FUNC);
    EXPECT_EQ(read->section, 4U);
    EXPECT_FALSE(elf::read_symbol(symbols, *header, 2));
}

TYPED_TEST(Elf, WhatIsCutShortIsNotThere) {
    const auto file = file_of<TypeParam>();
    const auto header = elf::read_header(file);
    for (std::size_t size = 0; size < file.size(); ++size) {
        const std::vector<std::byte> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_EQ(elf::read_header(cut).has_value(), size >= sizeof(typename TypeParam::Header)) << size;
        EXPECT_EQ(elf::read_segment(cut, *header, 1).has_value(), size >= header->sections.offset) << size;
        EXPECT_FALSE(elf::read_section(cut, *header, 1)) << size;
    }
}

TYPED_TEST(Elf, ATableAnywhereIsTaken) {
    const auto file = file_of<TypeParam>();
    auto header = *elf::read_header(file);
    for (const std::uint64_t offset : {~0ULL, ~0ULL - sizeof(typename TypeParam::Segment), 1ULL << 63}) {
        header.segments.offset = offset;
        EXPECT_FALSE(elf::read_segment(file, header, 1));
    }
    header = *elf::read_header(file);
    header.segments.header_size = 1;  // of which a segment has no room
    EXPECT_FALSE(elf::read_segment(file, header, 1));
}

TEST(ElfHeader, OfAnotherClassOrMachineIsNotForX86) {
    auto file = file_of<Of64>();
    file[EI_CLASS] = std::byte{3};
    EXPECT_FALSE(elf::read_header(file));
    file[EI_CLASS] = std::byte{ELFCLASS64};
    file[EI_DATA] = std::byte{ELFDATA2MSB};
    EXPECT_FALSE(elf::read_header(file)->is_for_x86());
    file[EI_DATA] = std::byte{ELFDATA2LSB};
    file[18] = std::byte{EM_386};
    EXPECT_FALSE(elf::read_header(file)->is_for_x86());
}

}  // namespace
}  // namespace flatback::formats::elf_test
