#include "tools/image/l1_kernel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "formats/bytes.hpp"
#include "formats/elf.hpp"
#include "formats/linux_boot.hpp"
#include "formats/multiboot1.hpp"
#include "formats/multiboot2.hpp"
#include "tools/image/archive.hpp"

namespace flatback::tools {
namespace {

constexpr std::size_t most_unpacked = std::size_t{1} << 30;
constexpr std::uint64_t below_4g = 0x1'0000'0000;

namespace elf = formats::elf;
namespace linux_boot = formats::linux_boot;
using formats::read;

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

Result<> check_bzimage(std::span<const std::byte> file) {
    namespace offset = linux_boot::offset;
    if (file.size() < offset::memory_size + 4)
        return refused("is cut short: not all of the bzImage's header is there");
    const std::uint16_t version = *read<std::uint16_t>(file, offset::version);
    if (version < linux_boot::with_64_bit_entry)
        return refused(
            fmt::format("is a bzImage of boot protocol {}.{:02}; L1 needs 2.12 (Linux 3.8) or later",
                        version >> 8U, version & 0xFFU));
    if ((*read<std::uint16_t>(file, offset::extended_load_flags) & linux_boot::entry_64_bit) == 0)
        return refused("is a bzImage without a 64-bit entry; L1 needs a 64-bit Linux kernel");
    const std::uint64_t kernel_at = linux_boot::kernel_offset(file);
    const std::uint64_t declared =
        *read<std::uint32_t>(file, offset::payload_paragraphs) * linux_boot::paragraph;
    // The size is in units of 16 bytes: it may be up to 15 more than what is there.
    if (kernel_at >= file.size() || declared >= file.size() - kernel_at + linux_boot::paragraph)
        return refused("is a bzImage that is cut short");
    const std::uint64_t alignment = *read<std::uint32_t>(file, offset::alignment);
    const std::uint64_t preferred = *read<std::uint64_t>(file, offset::preferred_address);
    constexpr std::uint64_t page = 4096;
    if (!std::has_single_bit(alignment) || alignment < page || preferred % alignment != 0 ||
        preferred >= below_4g)
        return refused(
            fmt::format("is a bzImage with a damaged header: it wants to be loaded at {:#x}, aligned to "
                        "{:#x}",
                        preferred, alignment));
    return {};
}

Result<> check_elf(std::span<const std::byte> file) {
    constexpr std::size_t most_segments = 32;
    const auto header = elf::read_header(file);
    if (!header || !header->is_for_x86()) return refused("is an ELF file, but not for x86");
    if (header->type != elf::executable)
        return refused("is an ELF file that is not linked to fixed addresses, so it is no kernel");
    std::size_t count = 0;
    bool entered = false;
    for (std::uint64_t index = 0; index < header->segments.count; ++index) {
        const auto segment = elf::read_segment(file, *header, index);
        if (!segment) return refused("is an ELF file that is cut short: its program headers are not there");
        if (segment->type != elf::segment_load || segment->memory_size == 0) continue;
        ++count;
        if (segment->file_size > segment->memory_size ||
            !formats::slice(file, segment->offset, segment->file_size))
            return refused("is an ELF file that is cut short or damaged: a segment lies outside of it");
        entered = entered || header->entry - segment->physical < segment->memory_size ||
                  header->entry - segment->linear < segment->memory_size;
    }
    if (count == 0 || count > most_segments)
        return refused(fmt::format("is an ELF file with {} segments to load; a kernel has 1 to {}", count,
                                   most_segments));
    if (!entered) return refused("is an ELF file whose entry lies outside of its segments");
    return {};
}

Result<> check_multiboot1(std::span<const std::byte> file, const formats::Multiboot1Header& header) {
    if (header.has_unknown_demands())
        return refused(fmt::format(
            "is a Multiboot 1 kernel that demands what L0 does not know: its flags are {:#x}", header.flags));
    if (!header.loads_by_addresses()) {
        if (!elf::is_elf(file))
            return refused("is a Multiboot 1 kernel that is no ELF file and has no addresses in its header");
        return check_elf(file);
    }
    if (!header.loads_from_inside_the_file())
        return refused("is a Multiboot 1 kernel whose header has addresses that do not fit the file");
    if (!formats::multiboot1_piece(header, file))
        return refused("is a Multiboot 1 kernel that is cut short, or has a damaged header");
    return {};
}

Result<> check_multiboot2(std::span<const std::byte> file, const formats::Multiboot2Header& header) {
    if (header.unknown_tag != 0)
        return refused(
            fmt::format("is a Multiboot 2 kernel that demands what L0 does not know: tag {} of its header",
                        header.unknown_tag));
    if (header.loads_by_addresses || !elf::is_elf(file))
        return refused("is a Multiboot 2 kernel, but no ELF file");
    return check_elf(file);
}

}  // namespace

Result<KernelKind> check_l1_kernel(std::span<const std::byte> file) {
    const auto kind = kernel_kind(file);
    if (kind == KernelKind::linux_bzimage) {
        TRY(check_bzimage(file));
        return *kind;
    }
    if (const auto header = formats::find_multiboot1_header(file)) {
        TRY(check_multiboot1(file, *header));
        return KernelKind::multiboot1;
    }
    if (const auto header = formats::find_multiboot2_header(file)) {
        TRY(check_multiboot2(file, *header));
        return KernelKind::multiboot1;
    }
    constexpr std::string_view kinds =
        "L1 can be a Linux bzImage or vmlinux of 64 bits, or a Multiboot kernel, compressed or not";
    if (elf::is_elf(file)) {
        TRY(check_elf(file));
        if (kind == KernelKind::linux_elf64) return *kind;
        return refused(fmt::format("is an ELF file of 32 bits without a Multiboot header: {}", kinds));
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
    const std::span<const std::byte> bytes = kernel.unpacked ? *kernel.unpacked : file;
    kernel.is_multiboot2 = *kind == KernelKind::multiboot1 && !formats::find_multiboot1_header(bytes);
    return kernel;
}

}  // namespace flatback::tools
