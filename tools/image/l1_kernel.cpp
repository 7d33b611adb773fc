#include "tools/image/l1_kernel.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "tools/image/archive.hpp"

namespace flatback::tools {
namespace {

constexpr std::size_t most_unpacked = std::size_t{1} << 30;
constexpr std::uint64_t below_4g = 0x1'0000'0000;

template <typename T>
std::optional<T> read(std::span<const std::byte> bytes, std::uint64_t offset) {
    if (bytes.size() < sizeof(T) || offset > bytes.size() - sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

std::unexpected<Error> refused(std::string clause) {
    return fail(ExitStatus::input_file, std::move(clause));
}

bool starts_with(std::span<const std::byte> file, std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

bool is_compressed(std::span<const std::byte> file) {
    using namespace std::string_view_literals;
    constexpr std::array magics{"\x1f\x8b"sv, "\xfd\x37zXZ\0"sv, "\x28\xb5\x2f\xfd"sv, "BZh"sv,
                                "\x04\x22\x4d\x18"sv};
    return std::ranges::any_of(magics, [file](std::string_view magic) { return starts_with(file, magic); });
}

// Linux boot protocol (Documentation/arch/x86/boot.rst): offsets in the file.
namespace header {
constexpr std::uint64_t setup_sectors = 0x1F1;
constexpr std::uint64_t paragraphs = 0x1F4;
constexpr std::uint64_t version = 0x206;
constexpr std::uint64_t alignment = 0x230;
constexpr std::uint64_t extended_load_flags = 0x236;
constexpr std::uint64_t preferred_address = 0x258;
constexpr std::uint64_t end = 0x264;
}  // namespace header

Result<> check_bzimage(std::span<const std::byte> file) {
    constexpr std::uint16_t oldest = 0x20C;
    constexpr std::uint16_t entry_64_bit = 1;
    constexpr std::uint64_t sector = 512;
    constexpr std::uint64_t paragraph = 16;
    if (file.size() < header::end) return refused("is cut short: not all of the bzImage's header is there");
    const std::uint16_t version = *read<std::uint16_t>(file, header::version);
    if (version < oldest)
        return refused(
            fmt::format("is a bzImage of boot protocol {}.{:02}; L1 needs 2.12 (Linux 3.8) or later",
                        version >> 8U, version & 0xFFU));
    if ((*read<std::uint16_t>(file, header::extended_load_flags) & entry_64_bit) == 0)
        return refused("is a bzImage without a 64-bit entry; L1 needs a 64-bit Linux kernel");
    const std::uint64_t sectors = *read<std::uint8_t>(file, header::setup_sectors);
    const std::uint64_t kernel_at = ((sectors == 0 ? 4 : sectors) + 1) * sector;
    const std::uint64_t declared = *read<std::uint32_t>(file, header::paragraphs) * paragraph;
    // The size is in units of 16 bytes: it may be up to 15 more than what is there.
    if (kernel_at >= file.size() || declared >= file.size() - kernel_at + paragraph)
        return refused("is a bzImage that is cut short");
    const std::uint64_t alignment = *read<std::uint32_t>(file, header::alignment);
    const std::uint64_t preferred = *read<std::uint64_t>(file, header::preferred_address);
    constexpr std::uint64_t page = 4096;
    if (!std::has_single_bit(alignment) || alignment < page || preferred % alignment != 0 ||
        preferred >= below_4g)
        return refused(
            fmt::format("is a bzImage with a damaged header: it wants to be loaded at {:#x}, aligned to "
                        "{:#x}",
                        preferred, alignment));
    return {};
}

template <typename Header, typename Segment>
Result<> check_elf(std::span<const std::byte> file, std::uint16_t machine) {
    constexpr std::size_t most_segments = 32;
    const auto elf = read<Header>(file, 0);
    if (!elf || elf->e_ident[EI_DATA] != ELFDATA2LSB || elf->e_machine != machine)
        return refused("is an ELF file, but not for x86");
    if (elf->e_type != ET_EXEC)
        return refused("is an ELF file that is not linked to fixed addresses, so it is no kernel");
    std::size_t count = 0;
    bool entered = false;
    for (std::uint64_t index = 0; index < elf->e_phnum; ++index) {
        const auto segment = elf->e_phoff > file.size()
                                 ? std::nullopt
                                 : read<Segment>(file, elf->e_phoff + index * elf->e_phentsize);
        if (!segment) return refused("is an ELF file that is cut short: its program headers are not there");
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0) continue;
        ++count;
        const std::uint64_t size = segment->p_filesz;
        if (size > segment->p_memsz || segment->p_offset > file.size() ||
            size > file.size() - segment->p_offset)
            return refused("is an ELF file that is cut short or damaged: a segment lies outside of it");
        entered = entered || elf->e_entry - segment->p_paddr < segment->p_memsz ||
                  elf->e_entry - segment->p_vaddr < segment->p_memsz;
    }
    if (count == 0 || count > most_segments)
        return refused(fmt::format("is an ELF file with {} segments to load; a kernel has 1 to {}", count,
                                   most_segments));
    if (!entered) return refused("is an ELF file whose entry lies outside of its segments");
    return {};
}

Result<> check_any_elf(std::span<const std::byte> file) {
    if (read<std::uint8_t>(file, EI_CLASS) == ELFCLASS64)
        return check_elf<Elf64_Ehdr, Elf64_Phdr>(file, EM_X86_64);
    return check_elf<Elf32_Ehdr, Elf32_Phdr>(file, EM_386);
}

// Multiboot 0.6.96, 3.1: magic, flags and checksum, aligned to 4 in the first 8192 bytes.
Result<> check_multiboot1(std::span<const std::byte> file, std::uint64_t at) {
    constexpr std::uint32_t known_demands = 0x7;
    constexpr std::uint32_t all_demands = 0xFFFF;
    constexpr std::uint32_t has_addresses = 1U << 16;
    const std::uint32_t flags = *read<std::uint32_t>(file, at + 4);
    if ((flags & all_demands & ~known_demands) != 0)
        return refused(fmt::format(
            "is a Multiboot 1 kernel that demands what L0 does not know: its flags are {:#x}", flags));
    if ((flags & has_addresses) == 0) {
        if (!starts_with(file, ELFMAG))
            return refused("is a Multiboot 1 kernel that is no ELF file and has no addresses in its header");
        return check_any_elf(file);
    }
    const auto header_address = read<std::uint32_t>(file, at + 12);
    const auto load = read<std::uint32_t>(file, at + 16);
    const auto load_end = read<std::uint32_t>(file, at + 20);
    if (!load_end || *header_address < *load || *header_address - *load > at)
        return refused("is a Multiboot 1 kernel whose header has addresses that do not fit the file");
    const std::uint64_t offset = at - (*header_address - *load);
    if (*load_end != 0 && (*load_end <= *load || *load_end - *load > file.size() - offset))
        return refused("is a Multiboot 1 kernel that is cut short, or has a damaged header");
    return {};
}

std::optional<std::uint64_t> find_multiboot1(std::span<const std::byte> file) {
    constexpr std::uint32_t magic = 0x1BADB002;
    constexpr std::uint64_t search = 8192;
    for (std::uint64_t at = 0; at + 12 <= std::min<std::uint64_t>(file.size(), search); at += 4) {
        if (read<std::uint32_t>(file, at) == magic &&
            magic + *read<std::uint32_t>(file, at + 4) + *read<std::uint32_t>(file, at + 8) == 0)
            return at;
    }
    return std::nullopt;
}

// Multiboot 2, 3.1.1: magic, architecture, length and checksum, aligned to 8 in the first 32768 bytes.
bool is_multiboot2(std::span<const std::byte> file) {
    constexpr std::uint32_t magic = 0xE85250D6;
    constexpr std::uint64_t search = 32768;
    for (std::uint64_t at = 0; at + 16 <= std::min<std::uint64_t>(file.size(), search); at += 8) {
        if (read<std::uint32_t>(file, at) == magic && magic + *read<std::uint32_t>(file, at + 4) +
                                                              *read<std::uint32_t>(file, at + 8) +
                                                              *read<std::uint32_t>(file, at + 12) ==
                                                          0)
            return true;
    }
    return false;
}

}  // namespace

Result<KernelKind> check_l1_kernel(std::span<const std::byte> file) {
    const auto kind = kernel_kind(file);
    if (kind == KernelKind::linux_bzimage) {
        TRY(check_bzimage(file));
        return *kind;
    }
    if (const auto at = find_multiboot1(file)) {
        TRY(check_multiboot1(file, *at));
        return KernelKind::multiboot1;
    }
    constexpr std::string_view kinds =
        "L1 can be a Linux bzImage or vmlinux of 64 bits, or a Multiboot 1 kernel, compressed or not";
    if (is_multiboot2(file))
        return refused(fmt::format("is a Multiboot 2 kernel, which needs another boot protocol: {}", kinds));
    if (starts_with(file, ELFMAG)) {
        TRY(check_any_elf(file));
        if (kind == KernelKind::linux_elf64) return *kind;
        return refused(fmt::format("is an ELF file of 32 bits without a Multiboot 1 header: {}", kinds));
    }
    if (starts_with(file, "MZ")) return refused(fmt::format("is an EFI program and nothing else: {}", kinds));
    return refused(fmt::format("is no kernel that is known here: {}", kinds));
}

Result<L1Kernel> read_l1_kernel(const std::filesystem::path& path) {
    const Bytes file = TRY(read_file(path));
    L1Kernel kernel;
    if (is_compressed(file)) {
        auto unpacked = decompress(file, most_unpacked);
        if (!unpacked) return refused(fmt::format("{}: {}", path.string(), unpacked.error().message));
        kernel.unpacked = std::move(*unpacked);
    }
    const auto kind = check_l1_kernel(kernel.unpacked ? *kernel.unpacked : file);
    if (!kind)
        return refused(fmt::format("{} {}{}", path.string(), kernel.unpacked ? "(unpacked) " : "",
                                   kind.error().message));
    kernel.kind = *kind;
    return kernel;
}

}  // namespace flatback::tools
