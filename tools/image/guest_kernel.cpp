#include "tools/image/guest_kernel.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/bytes.hpp"
#include "formats/elf.hpp"
#include "formats/linux_boot.hpp"
#include "formats/multiboot1.hpp"
#include "tools/image/archive.hpp"

namespace flatback::tools {
namespace {

namespace elf_file = formats::elf;
namespace linux_boot = formats::linux_boot;
using formats::read;

constexpr std::uint16_t gzip_magic = 0x8B1F;

// More than any kernel needs, less than would hurt this machine: a bomb of a payload stops here.
constexpr std::size_t most_kernel_bytes = std::size_t{512} << 20;
constexpr std::size_t page_size = 4096;

// All of the setup header up to where it names the payload.
bool is_bzimage(std::span<const std::byte> file) {
    return linux_boot::is_bzimage(file) && file.size() >= linux_boot::offset::compressed_size + 4;
}

bool is_elf64(std::span<const std::byte> file) {
    const auto header = elf_file::read_header(file);
    return header && header->is_for_x86() && header->is_64_bit() && header->type == elf_file::executable;
}

// A structure of <elf.h>; absent where it would lie outside.
template <typename T>
std::optional<T> copy_of(std::span<const std::byte> file, std::uint64_t offset) {
    const auto bytes = formats::slice(file, offset, sizeof(T));
    if (!bytes) return std::nullopt;
    T value;
    std::memcpy(&value, bytes->data(), sizeof value);
    return value;
}

std::unexpected<Error> bad(std::string_view what) {
    return fail(ExitStatus::input_file, std::string{what});
}

std::size_t round_up_to_page(std::size_t size) {
    return (size + page_size - 1) / page_size * page_size;
}

}  // namespace

std::optional<KernelKind> kernel_kind(std::span<const std::byte> file) {
    if (is_bzimage(file)) return KernelKind::linux_bzimage;
    if (formats::find_multiboot1_header(file)) return KernelKind::multiboot1;
    if (is_elf64(file)) return KernelKind::linux_elf64;
    return std::nullopt;
}

Result<std::span<const std::byte>> bzimage_payload(std::span<const std::byte> file) {
    if (!is_bzimage(file)) return bad("not a Linux bzImage: no setup header");
    const std::uint16_t version = *read<std::uint16_t>(file, linux_boot::offset::version);
    if (version < linux_boot::with_compressed_offset) {
        return bad(fmt::format("the bzImage has boot protocol {}.{:02}: the payload is known from 2.08 on",
                               version >> 8, version & 0xFF));
    }
    const std::uint64_t offset =
        linux_boot::kernel_offset(file) + *read<std::uint32_t>(file, linux_boot::offset::compressed_offset);
    const std::uint32_t length = *read<std::uint32_t>(file, linux_boot::offset::compressed_size);
    const auto payload = formats::slice(file, offset, length);
    if (length == 0 || !payload) return bad("the bzImage's payload lies outside the file");
    return *payload;
}

Result<Bytes> uncompressed_kernel(std::span<const std::byte> bzimage) {
    auto payload = TRY(bzimage_payload(bzimage));
    // Except after gzip, which ends with the size itself, the kernel's build appends the unpacked size.
    const bool gzip = read<std::uint16_t>(payload, 0) == gzip_magic;
    std::optional<std::uint32_t> size;
    if (!gzip && payload.size() > sizeof *size) {
        size = read<std::uint32_t>(payload, payload.size() - sizeof *size);
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
    auto header = *copy_of<Elf64_Ehdr>(elf, 0);
    std::vector<Elf64_Phdr> originals;
    for (std::size_t index = 0; index < header.e_phnum; ++index) {
        const auto segment = header.e_phoff > elf.size()
                                 ? std::nullopt
                                 : copy_of<Elf64_Phdr>(elf, header.e_phoff + index * sizeof(Elf64_Phdr));
        if (!segment) return bad("the ELF64 kernel's program headers lie outside the file");
        originals.push_back(*segment);
    }
    std::vector<Elf64_Phdr> segments;
    Bytes contents;
    const std::size_t contents_at = page_size;
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
        compact.p_align = page_size;
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
