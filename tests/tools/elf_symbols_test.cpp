#include "tools/emulator/elf_symbols.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

namespace flatback::tools::elf_symbols_test {
namespace {

template <typename Header, typename Section, typename Symbol>
std::vector<std::byte> make_elf(unsigned char file_class) {
    constexpr std::string_view names{"\0start\0second\0", 14};
    std::vector<std::byte> file(sizeof(Header) + 3 * sizeof(Section) + 3 * sizeof(Symbol) + names.size());
    const auto put = [&file](std::size_t at, const auto& value) {
        std::memcpy(&file[at], &value, sizeof value);
    };
    Header header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = file_class;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_shoff = sizeof header;
    header.e_shnum = 3;
    header.e_shentsize = sizeof(Section);
    put(0, header);
    const std::size_t symbols_at = sizeof(Header) + 3 * sizeof(Section);
    const std::size_t names_at = symbols_at + 3 * sizeof(Symbol);
    Section table{};
    table.sh_type = SHT_SYMTAB;
    table.sh_link = 2;
    table.sh_offset = symbols_at;
    table.sh_size = 3 * sizeof(Symbol);
    put(sizeof(Header) + sizeof(Section), table);
    Section strings{};
    strings.sh_type = SHT_STRTAB;
    strings.sh_offset = names_at;
    strings.sh_size = names.size();
    put(sizeof(Header) + 2 * sizeof(Section), strings);
    Symbol start{};
    start.st_name = 1;
    start.st_value = 0x1000;
    start.st_shndx = 1;  // no size: of assembler code
    put(symbols_at + sizeof(Symbol), start);
    Symbol second{};
    second.st_name = 7;
    second.st_value = 0x2000;
    second.st_size = 0x10;
    second.st_info = STT_FUNC;
    second.st_shndx = 1;
    put(symbols_at + 2 * sizeof(Symbol), second);
    std::memcpy(&file[names_at], names.data(), names.size());
    return file;
}

void expect_symbols(const std::vector<std::byte>& file) {
    EXPECT_EQ(symbol_at(file, 0x1000), "start+0x0");
    EXPECT_EQ(symbol_at(file, 0x1fff), "start+0xfff");
    EXPECT_EQ(symbol_at(file, 0x200f), "second+0xf");
    EXPECT_EQ(symbol_at(file, 0xfff), std::nullopt);
    EXPECT_EQ(symbol_at(file, 0x100000), std::nullopt);
}

TEST(ElfSymbols, OfBothClasses) {
    expect_symbols(make_elf<Elf32_Ehdr, Elf32_Shdr, Elf32_Sym>(ELFCLASS32));
    expect_symbols(make_elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(ELFCLASS64));
}

TEST(ElfSymbols, AnyBytesAreTaken) {
    const auto whole = make_elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(ELFCLASS64);
    for (std::size_t length = 0; length < whole.size(); ++length)
        static_cast<void>(symbol_at(std::span{whole}.first(length), 0x2000));
    for (std::size_t at = EI_NIDENT; at < whole.size(); ++at) {
        auto damaged = whole;
        damaged[at] = std::byte{0xff};
        static_cast<void>(symbol_at(damaged, 0x2000));
    }
}

TEST(ElfSymbols, AnAddressByItsName) {
    const auto file = make_elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(ELFCLASS64);
    EXPECT_EQ(address_of_symbol(file, "second"), 0x2000U);
    EXPECT_EQ(address_of_symbol(file, "secon"), std::nullopt);
    EXPECT_EQ(address_of_symbol({}, "second"), std::nullopt);
}

TEST(ElfSymbols, AListForTheDebuggerHasEachOnALine) {
    EXPECT_EQ(symbol_list(make_elf<Elf64_Ehdr, Elf64_Shdr, Elf64_Sym>(ELFCLASS64)),
              "1000 start\n2000 second\n");
    EXPECT_EQ(symbol_list({}), "");
    // A name that could end the debugger's line, or its string.
    auto file = make_elf<Elf32_Ehdr, Elf32_Shdr, Elf32_Sym>(ELFCLASS32);
    const auto hostile = static_cast<std::byte>('"');
    std::ranges::replace(file, static_cast<std::byte>('t'), hostile);
    EXPECT_EQ(symbol_list(file), "1000 s_ar_\n2000 second\n");
}

}  // namespace
}  // namespace flatback::tools::elf_symbols_test
