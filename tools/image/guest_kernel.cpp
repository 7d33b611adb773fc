#include "tools/image/guest_kernel.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "tools/image/archive.hpp"

namespace flatback::tools {
namespace {

// Linux boot protocol (Documentation/arch/x86/boot.rst): offsets in the file.
constexpr std::size_t setup_sectors_at = 0x1F1;
constexpr std::size_t boot_flag_at = 0x1FE;
constexpr std::size_t header_magic_at = 0x202;
constexpr std::size_t version_at = 0x206;
constexpr std::size_t payload_offset_at = 0x248;
constexpr std::size_t payload_length_at = 0x24C;
constexpr std::size_t header_end = 0x250;
constexpr std::uint32_t header_magic = 0x53726448;  // "HdrS"
constexpr std::uint16_t boot_flag = 0xAA55;
constexpr std::uint16_t payload_since_version = 0x208;
constexpr std::size_t sector = 512;
constexpr std::size_t default_setup_sectors = 4;  // what 0 means

constexpr std::uint16_t gzip_magic = 0x8B1F;

// Multiboot 0.6.96, 3.1: the header lies in the first 8192 bytes, aligned to 4, and sums up to 0.
constexpr std::size_t multiboot_search = 8192;
constexpr std::uint32_t multiboot_magic = 0x1BADB002;

// More than any kernel needs, less than would hurt this machine: a bomb of a payload stops here.
constexpr std::size_t most_kernel_bytes = std::size_t{512} << 20;
constexpr std::size_t page = 4096;

// Reads a little-endian number; nothing where it would lie outside.
template <typename T>
std::optional<T> read_number(std::span<const std::byte> bytes, std::size_t offset) {
    if (bytes.size() < sizeof(T) || offset > bytes.size() - sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

bool is_bzimage(std::span<const std::byte> file) {
    return file.size() >= header_end && read_number<std::uint16_t>(file, boot_flag_at) == boot_flag &&
           read_number<std::uint32_t>(file, header_magic_at) == header_magic;
}

bool is_elf64(std::span<const std::byte> file) {
    const auto header = read_number<Elf64_Ehdr>(file, 0);
    return header && std::memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
           header->e_machine == EM_X86_64 && header->e_type == ET_EXEC;
}

bool is_multiboot1(std::span<const std::byte> file) {
    for (std::size_t offset = 0; offset + 12 <= std::min(file.size(), multiboot_search); offset += 4) {
        if (read_number<std::uint32_t>(file, offset) != multiboot_magic) continue;
        const std::uint32_t flags = *read_number<std::uint32_t>(file, offset + 4);
        const std::uint32_t checksum = *read_number<std::uint32_t>(file, offset + 8);
        if (multiboot_magic + flags + checksum == 0) return true;
    }
    return false;
}

std::unexpected<Error> bad(std::string_view what) {
    return fail(ExitStatus::input_file, std::string{what});
}

std::size_t round_up_to_page(std::size_t size) {
    return (size + page - 1) / page * page;
}

}  // namespace

std::optional<KernelKind> kernel_kind(std::span<const std::byte> file) {
    if (is_bzimage(file)) return KernelKind::linux_bzimage;
    if (is_multiboot1(file)) return KernelKind::multiboot1;
    if (is_elf64(file)) return KernelKind::linux_elf64;
    return std::nullopt;
}

Result<std::span<const std::byte>> bzimage_payload(std::span<const std::byte> file) {
    if (!is_bzimage(file)) return bad("not a Linux bzImage: no setup header");
    const std::uint16_t version = *read_number<std::uint16_t>(file, version_at);
    if (version < payload_since_version) {
        return bad(fmt::format("the bzImage has boot protocol {}.{:02}: the payload is known from 2.08 on",
                               version >> 8, version & 0xFF));
    }
    const auto setup_sectors = std::to_integer<std::size_t>(file[setup_sectors_at]);
    const std::size_t protected_mode_at =
        ((setup_sectors == 0 ? default_setup_sectors : setup_sectors) + 1) * sector;
    const std::size_t offset = protected_mode_at + *read_number<std::uint32_t>(file, payload_offset_at);
    const std::size_t length = *read_number<std::uint32_t>(file, payload_length_at);
    if (length == 0 || offset > file.size() || length > file.size() - offset) {
        return bad("the bzImage's payload lies outside the file");
    }
    return file.subspan(offset, length);
}

Result<Bytes> uncompressed_kernel(std::span<const std::byte> bzimage) {
    auto payload = TRY(bzimage_payload(bzimage));
    // Except after gzip, which ends with the size itself, the kernel's build appends the unpacked size.
    const bool gzip = read_number<std::uint16_t>(payload, 0) == gzip_magic;
    std::optional<std::uint32_t> size;
    if (!gzip && payload.size() > sizeof *size) {
        size = read_number<std::uint32_t>(payload, payload.size() - sizeof *size);
        payload = payload.first(payload.size() - sizeof *size);
    }
    Bytes kernel = TRY(decompress(payload, most_kernel_bytes));
    if (size && *size != kernel.size())
        return bad("the bzImage's payload has not the size that stands behind it");
    if (!is_elf64(kernel)) return bad("the bzImage's payload is not an ELF64 kernel");
    return kernel;
}

Result<Bytes> compact_elf64(std::span<const std::byte> elf) {
    if (!is_elf64(elf)) return bad("not an ELF64 kernel");
    auto header = *read_number<Elf64_Ehdr>(elf, 0);
    std::vector<Elf64_Phdr> originals;
    for (std::size_t index = 0; index < header.e_phnum; ++index) {
        const auto segment = header.e_phoff > elf.size()
                                 ? std::nullopt
                                 : read_number<Elf64_Phdr>(elf, header.e_phoff + index * sizeof(Elf64_Phdr));
        if (!segment) return bad("the ELF64 kernel's program headers lie outside the file");
        originals.push_back(*segment);
    }
    std::vector<Elf64_Phdr> segments;
    Bytes contents;
    const std::size_t contents_at = page;
    for (const Elf64_Phdr& segment : originals) {
        if (segment.p_type != PT_LOAD) continue;
        if (segment.p_offset > elf.size() || segment.p_filesz > elf.size() - segment.p_offset ||
            segment.p_filesz > segment.p_memsz) {
            return bad("a segment of the ELF64 kernel lies outside the file");
        }
        auto bytes = elf.subspan(segment.p_offset, segment.p_filesz);
        while (!bytes.empty() && bytes.back() == std::byte{0}) bytes = bytes.first(bytes.size() - 1);
        Elf64_Phdr compact = segment;
        compact.p_offset = contents_at + contents.size();
        compact.p_filesz = bytes.size();
        compact.p_align = page;
        segments.push_back(compact);
        contents.insert(contents.end(), bytes.begin(), bytes.end());
        // The notes name the entry for PVH loaders such as QEMU's. They are part of a segment that is loaded.
        for (Elf64_Phdr note : originals) {
            if (note.p_type != PT_NOTE || note.p_offset < segment.p_offset) continue;
            const std::uint64_t at = note.p_offset - segment.p_offset;
            if (at > bytes.size() || note.p_filesz > bytes.size() - at) continue;
            note.p_offset = compact.p_offset + at;
            segments.push_back(note);
        }
        contents.resize(round_up_to_page(contents.size()));
    }
    if (segments.empty()) return bad("the ELF64 kernel has no segment to load");
    if (sizeof header + segments.size() * sizeof(Elf64_Phdr) > contents_at) {
        return bad("the ELF64 kernel has too many segments");
    }
    header.e_phoff = sizeof header;
    header.e_phnum = static_cast<Elf64_Half>(segments.size());
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_shoff = 0;
    header.e_shnum = 0;
    header.e_shstrndx = SHN_UNDEF;

    Bytes result(contents_at);
    std::memcpy(result.data(), &header, sizeof header);
    std::memcpy(result.data() + sizeof header, segments.data(), segments.size() * sizeof(Elf64_Phdr));
    result.insert(result.end(), contents.begin(), contents.end());
    return result;
}

}  // namespace flatback::tools
