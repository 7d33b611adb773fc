#include "guests/linux/linux_image.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/linux_boot.hpp"
#include "guests/linux/kernel_segments.hpp"

namespace flatback::guests {
namespace {

using formats::Bytes;
using formats::put;
using namespace formats::linux_boot;

constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t large_page_size = std::uint64_t{2} << 20;

// Where things lie below 640 KB. Nothing else is there yet.
namespace address {
constexpr std::uint64_t boot_parameters = 0x10000;
constexpr std::uint64_t command_line = 0x11000;
constexpr std::uint64_t gdt = 0x12000;
constexpr std::uint64_t pml4 = 0x13000;
constexpr std::uint64_t pdpt = 0x14000;
constexpr std::uint64_t page_directories = 0x15000;  // four: 4 GB by 2 MB pages
constexpr std::uint64_t low_memory_end = 0x9FC00;
constexpr std::uint64_t high_memory = 0x100000;
}  // namespace address

constexpr std::uint64_t table_entry = 0x3;        // present, writable
constexpr std::uint64_t large_page_entry = 0x83;  // and a page
constexpr std::uint32_t usable_memory = 1;        // in the e820 table

/// Not memcpy: the library's uses REP MOVSB for large blocks, of which every byte is an instruction to an
/// emulator. 64 bytes a turn are moved by vector instructions.
void copy_block(std::span<std::byte> to, Bytes from) {
    constexpr std::size_t block = 64;
    std::size_t done = 0;
    for (; from.size() - done >= block; done += block) {
        std::array<std::uint64_t, block / sizeof(std::uint64_t)> words;
        __builtin_memcpy(words.data(), from.data() + done, block);
        __builtin_memcpy(to.data() + done, words.data(), block);
        asm volatile("" : : : "memory");  // or the compiler makes a memcpy of the loop
    }
    for (; done < from.size(); ++done) {
        to[done] = from[done];
    }
}

struct LoadedKernel {
    std::uint64_t entry;
    std::uint64_t end;  ///< of its memory
};

[[nodiscard]] Expected<LoadedKernel> load_segments(std::span<std::byte> memory, Bytes file) {
    LoadedKernel loaded{0, 0};
    const auto entry = place_kernel(
        file, "a segment of the kernel does not fit into L2's memory", [&](const KernelSegment& segment) {
            if (segment.physical < address::high_memory || segment.physical > memory.size() ||
                segment.memory_size > memory.size() - segment.physical) {
                return false;
            }
            copy_block(memory.subspan(segment.physical, segment.contents.size()), segment.contents);
            loaded.end = std::max(loaded.end, segment.physical + segment.memory_size);
            return true;
        });
    if (!entry) {
        return std::unexpected(entry.error());
    }
    loaded.entry = *entry;
    return loaded;
}

void write_page_tables(std::span<std::byte> memory) {
    constexpr std::uint64_t entries = 512;
    constexpr std::uint64_t directories = 4;
    put(memory, address::pml4, address::pdpt | table_entry);
    for (std::uint64_t directory = 0; directory < directories; ++directory) {
        put(memory, address::pdpt + 8 * directory,
            (address::page_directories + directory * page_size) | table_entry);
    }
    for (std::uint64_t page = 0; page < directories * entries; ++page) {
        put(memory, address::page_directories + 8 * page, page * large_page_size | large_page_entry);
    }
}

void write_memory_map(std::span<std::byte> memory) {
    const std::array<std::array<std::uint64_t, 2>, 2> ranges{
        {{0, address::low_memory_end}, {address::high_memory, memory.size()}}};
    std::uint64_t at = address::boot_parameters + offset::e820_table;
    for (const auto& [start, end] : ranges) {
        put(memory, at, start);
        put(memory, at + 8, end - start);
        put(memory, at + 16, usable_memory);
        at += e820_entry_size;
    }
    put(memory, address::boot_parameters + offset::e820_count, static_cast<std::uint8_t>(ranges.size()));
}

void write_setup_header(std::span<std::byte> memory) {
    const std::uint64_t base = address::boot_parameters;
    put(memory, base + offset::boot_flag, boot_flag_value);
    put(memory, base + offset::magic, header_magic);
    put(memory, base + offset::version, with_64_bit_entry);
    put(memory, base + offset::loader_type, undefined_loader);
    put(memory, base + offset::load_flags, loaded_high);
    put(memory, base + offset::command_line, static_cast<std::uint32_t>(address::command_line));
}

}  // namespace

Expected<LinuxEntry> load_linux(std::span<std::byte> memory, const LinuxFiles& files) {
    if (memory.size() <= address::high_memory || memory.size() > std::uint64_t{3} << 30) {
        return std::unexpected("L2's memory must be more than 1 MB and at most 3 GB");
    }
    if (files.command_line.size() > command_line_limit) {
        return std::unexpected("the command line of L2 is longer than " + std::to_string(command_line_limit));
    }
    const auto kernel = load_segments(memory, files.kernel);
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    if (files.initramfs.size() > memory.size() - kernel->end) {
        return std::unexpected("kernel and initramfs do not fit into L2's memory");
    }
    write_setup_header(memory);
    if (!files.initramfs.empty()) {
        const std::uint64_t start = (memory.size() - files.initramfs.size()) & ~(page_size - 1);
        if (start < kernel->end) {
            return std::unexpected("kernel and initramfs do not fit into L2's memory");
        }
        copy_block(memory.subspan(start, files.initramfs.size()), files.initramfs);
        put(memory, address::boot_parameters + offset::ramdisk, static_cast<std::uint32_t>(start));
        put(memory, address::boot_parameters + offset::ramdisk_size,
            static_cast<std::uint32_t>(files.initramfs.size()));
    }
    std::memcpy(memory.subspan(address::command_line).data(), files.command_line.data(),
                files.command_line.size());
    write_memory_map(memory);
    write_page_tables(memory);
    std::memcpy(memory.subspan(address::gdt).data(), descriptors.data(), sizeof descriptors);
    return LinuxEntry{kernel->entry, address::boot_parameters, address::pml4, address::gdt,
                      sizeof descriptors - 1};
}

}  // namespace flatback::guests
