#include "tools/emulator/elf_symbols.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <string_view>

namespace flatback::tools {
namespace {

// A symbol without a size (of assembler code) is taken to be at most so long.
constexpr std::uint64_t most_unsized = 0x10000;

template <typename T>
std::optional<T> read(std::span<const std::byte> bytes, std::uint64_t offset) {
    if (bytes.size() < sizeof(T) || offset > bytes.size() - sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

struct Elf32 {
    using Header = Elf32_Ehdr;
    using Section = Elf32_Shdr;
    using Symbol = Elf32_Sym;
};
struct Elf64 {
    using Header = Elf64_Ehdr;
    using Section = Elf64_Shdr;
    using Symbol = Elf64_Sym;
};

template <typename Section>
std::span<const std::byte> contents(std::span<const std::byte> file, const Section& section) {
    if (section.sh_offset > file.size() || section.sh_size > file.size() - section.sh_offset) return {};
    return file.subspan(section.sh_offset, section.sh_size);
}

std::string_view text_at(std::span<const std::byte> strings, std::uint64_t offset) {
    if (offset >= strings.size()) return {};
    const auto* const text = reinterpret_cast<const char*>(strings.data() + offset);
    return {text, ::strnlen(text, strings.size() - offset)};
}

template <typename Elf>
std::optional<std::string> search(std::span<const std::byte> file, std::uint64_t address) {
    const auto header = read<typename Elf::Header>(file, 0);
    if (!header) return std::nullopt;
    const auto section = [&](std::uint64_t index) {
        return index < header->e_shnum && header->e_shoff <= file.size()
                   ? read<typename Elf::Section>(file,
                                                 header->e_shoff + index * sizeof(typename Elf::Section))
                   : std::nullopt;
    };
    std::string_view name;
    std::uint64_t best = 0;
    for (std::uint64_t index = 0; index < header->e_shnum; ++index) {
        const auto table = section(index);
        if (!table || table->sh_type != SHT_SYMTAB) continue;
        const auto names = section(table->sh_link);
        if (!names) continue;
        const auto symbols = contents(file, *table);
        const auto strings = contents(file, *names);
        for (std::uint64_t at = 0; at + sizeof(typename Elf::Symbol) <= symbols.size();
             at += sizeof(typename Elf::Symbol)) {
            const auto symbol = *read<typename Elf::Symbol>(symbols, at);
            const unsigned type = symbol.st_info & 0xFU;
            if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS) continue;
            if (type != STT_FUNC && type != STT_NOTYPE) continue;
            const std::uint64_t length = symbol.st_size != 0 ? symbol.st_size : most_unsized;
            if (symbol.st_value > address || address - symbol.st_value >= length) continue;
            const std::string_view text = text_at(strings, symbol.st_name);
            if (text.empty() || (!name.empty() && symbol.st_value < best)) continue;
            name = text;
            best = symbol.st_value;
        }
    }
    if (name.empty()) return std::nullopt;
    return fmt::format("{}+{:#x}", name, address - best);
}

}  // namespace

std::optional<std::string> symbol_at(std::span<const std::byte> file, std::uint64_t address) {
    const auto identification = read<std::array<unsigned char, EI_NIDENT>>(file, 0);
    if (!identification || std::memcmp(identification->data(), ELFMAG, SELFMAG) != 0) return std::nullopt;
    if ((*identification)[EI_DATA] != ELFDATA2LSB) return std::nullopt;
    if ((*identification)[EI_CLASS] == ELFCLASS32) return search<Elf32>(file, address);
    if ((*identification)[EI_CLASS] == ELFCLASS64) return search<Elf64>(file, address);
    return std::nullopt;
}

}  // namespace flatback::tools
