#include "tools/direct_kernel.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tools/guest_kernel.hpp"

namespace flatback::tools {
namespace {

// guests/peer/entry.S knows these two as well.
constexpr std::uint64_t kernel_address = 0x1000000;
constexpr std::uint64_t entry_room = 0x10000;
constexpr unsigned entry_alignment_bits = 16;
// More than any kernel needs: a damaged header does not fill this machine's memory.
constexpr std::uint64_t most_kernel_bytes = std::uint64_t{512} << 20;

// Linux boot protocol (Documentation/arch/x86/boot.rst): offsets in the file.
constexpr std::size_t setup_sectors_at = 0x1F1;
constexpr std::size_t system_size_at = 0x1F4;  // of what follows the setup part, in units of 16 bytes
constexpr std::size_t version_at = 0x206;
constexpr std::size_t kernel_alignment_at = 0x230;
constexpr std::size_t relocatable_at = 0x234;
constexpr std::size_t least_alignment_at = 0x235;  // as a power of 2
constexpr std::size_t extended_load_flags_at = 0x236;
constexpr std::size_t payload_offset_at = 0x248;
constexpr std::size_t payload_length_at = 0x24C;
constexpr std::size_t preferred_address_at = 0x258;
constexpr std::size_t memory_size_at = 0x260;
constexpr std::size_t header_end = 0x264;
constexpr std::uint16_t memory_size_since_version = 0x20A;
constexpr std::uint16_t has_64_bit_entry = 1;
constexpr std::size_t sector = 512;

template <typename T>
T get(std::span<const std::byte> bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

template <typename T>
void put(Bytes& bytes, std::size_t offset, T value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

struct FlatKernel {
    Bytes contents;                  // from kernel_address on
    std::uint64_t memory_bytes = 0;  // what it takes when it runs, from there
};

// `kernel` as compact_elf64 has checked and made it.
Result<FlatKernel> flatten(std::span<const std::byte> kernel) {
    FlatKernel flat;
    const auto header = get<Elf64_Ehdr>(kernel, 0);
    if (header.e_entry != kernel_address) {
        return fail(ExitStatus::input_file, fmt::format("the ELF64 kernel's entry is {:#x}, not {:#x}",
                                                        header.e_entry, kernel_address));
    }
    for (std::size_t index = 0; index < header.e_phnum; ++index) {
        const auto segment = get<Elf64_Phdr>(kernel, header.e_phoff + index * sizeof(Elf64_Phdr));
        if (segment.p_type != PT_LOAD) continue;
        if (segment.p_paddr < kernel_address || segment.p_paddr - kernel_address > most_kernel_bytes ||
            segment.p_memsz > most_kernel_bytes) {
            return fail(ExitStatus::input_file,
                        fmt::format("a segment of the ELF64 kernel wants to be at {:#x}", segment.p_paddr));
        }
        const std::size_t at = segment.p_paddr - kernel_address;
        flat.contents.resize(std::max(flat.contents.size(), at + segment.p_filesz));
        std::ranges::copy(kernel.subspan(segment.p_offset, segment.p_filesz),
                          flat.contents.begin() + static_cast<std::ptrdiff_t>(at));
        flat.memory_bytes = std::max<std::uint64_t>(flat.memory_bytes, at + segment.p_memsz);
    }
    return flat;
}

}  // namespace

Result<Bytes> uncompressed_bzimage(std::span<const std::byte> bzimage, std::span<const std::byte> kernel,
                                   std::span<const std::byte> entry) {
    if (kernel_kind(bzimage) != KernelKind::linux_bzimage || bzimage.size() < header_end ||
        get<std::uint16_t>(bzimage, version_at) < memory_size_since_version) {
        return fail(ExitStatus::input_file, "not a Linux bzImage of boot protocol 2.10 or later");
    }
    const std::size_t setup_bytes = (std::to_integer<std::size_t>(bzimage[setup_sectors_at]) + 1) * sector;
    if (setup_bytes < header_end || setup_bytes > bzimage.size()) {
        return fail(ExitStatus::input_file, "the bzImage's setup part lies outside the file");
    }
    if (entry.size() > entry_room / 2)
        return fail(ExitStatus::input_file, "the entry code leaves no room for its page tables");
    const Bytes checked = TRY(compact_elf64(kernel));
    const FlatKernel flat = TRY(flatten(checked));

    Bytes image{bzimage.begin(), bzimage.begin() + static_cast<std::ptrdiff_t>(setup_bytes)};
    image.insert(image.end(), entry.begin(), entry.end());
    image.resize(setup_bytes + entry_room);
    image.insert(image.end(), flat.contents.begin(), flat.contents.end());
    constexpr std::size_t unit = 16;
    image.resize((image.size() + unit - 1) / unit * unit);

    put(image, system_size_at, static_cast<std::uint32_t>((image.size() - setup_bytes) / unit));
    put(image, kernel_alignment_at, static_cast<std::uint32_t>(entry_room));
    put(image, relocatable_at, std::uint8_t{1});
    put(image, least_alignment_at, static_cast<std::uint8_t>(entry_alignment_bits));
    const auto flags = get<std::uint16_t>(image, extended_load_flags_at);
    put(image, extended_load_flags_at, static_cast<std::uint16_t>(flags & ~has_64_bit_entry));
    put(image, payload_offset_at, std::uint32_t{0});
    put(image, payload_length_at, std::uint32_t{0});
    put(image, preferred_address_at, kernel_address - entry_room);
    put(image, memory_size_at, static_cast<std::uint32_t>(flat.memory_bytes + entry_room));
    return image;
}

}  // namespace flatback::tools
