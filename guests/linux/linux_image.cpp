#include "guests/linux/linux_image.hpp"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace flatback::guests {
namespace {

using Bytes = std::span<const std::byte>;

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

// Offsets in boot_params.
namespace offset {
constexpr std::uint64_t e820_count = 0x1E8;
constexpr std::uint64_t boot_flag = 0x1FE;
constexpr std::uint64_t magic = 0x202;
constexpr std::uint64_t version = 0x206;
constexpr std::uint64_t loader_type = 0x210;
constexpr std::uint64_t load_flags = 0x211;
constexpr std::uint64_t ramdisk = 0x218;
constexpr std::uint64_t ramdisk_size = 0x21C;
constexpr std::uint64_t command_line = 0x228;
constexpr std::uint64_t e820_table = 0x2D0;
}  // namespace offset

constexpr std::size_t command_line_limit = 2047;  // COMMAND_LINE_SIZE of x86, less the NUL
constexpr std::uint64_t table_entry = 0x3;        // present, writable
constexpr std::uint64_t large_page_entry = 0x83;  // and a page
constexpr std::uint32_t usable_memory = 1;        // in the e820 table
// The descriptors the protocol names: flat 64-bit code at 0x10, flat data at 0x18.
constexpr std::array<std::uint64_t, 4> descriptors{0, 0, 0x00AF'9B00'0000'FFFF, 0x00CF'9300'0000'FFFF};

template <typename T>
void put(std::span<std::byte> memory, std::uint64_t at, T value) {
    std::memcpy(memory.subspan(at, sizeof value).data(), &value, sizeof value);
}

/// A copy of the T at `at`, where the file is long enough.
template <typename T>
[[nodiscard]] std::optional<T> take(Bytes file, std::uint64_t at) {
    if (at > file.size() || file.size() - at < sizeof(T)) {
        return std::nullopt;
    }
    T value;
    std::memcpy(&value, file.data() + at, sizeof value);
    return value;
}

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
    const auto header = take<Elf64_Ehdr>(file, 0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64 ||
        header->e_phentsize != sizeof(Elf64_Phdr)) {
        return std::unexpected("the kernel is no ELF64 file for x86-64 (an uncompressed vmlinux)");
    }
    LoadedKernel loaded{0, 0};
    for (std::uint64_t i = 0; i < header->e_phnum; ++i) {
        const auto segment = take<Elf64_Phdr>(file, header->e_phoff + i * sizeof(Elf64_Phdr));
        if (!segment) {
            return std::unexpected("the kernel's file is cut short");
        }
        if (segment->p_type != PT_LOAD) {
            continue;
        }
        if (segment->p_offset > file.size() || segment->p_filesz > file.size() - segment->p_offset) {
            return std::unexpected("the kernel's file is cut short");
        }
        if (segment->p_filesz > segment->p_memsz || segment->p_paddr < address::high_memory ||
            segment->p_paddr > memory.size() || segment->p_memsz > memory.size() - segment->p_paddr) {
            return std::unexpected("a segment of the kernel does not fit into L2's memory");
        }
        copy_block(memory.subspan(segment->p_paddr, segment->p_filesz),
                   file.subspan(segment->p_offset, segment->p_filesz));
        loaded.end = std::max(loaded.end, segment->p_paddr + segment->p_memsz);
        // The entry is linear in some kernels' files, physical in Linux's own.
        if (header->e_entry >= segment->p_vaddr && header->e_entry - segment->p_vaddr < segment->p_memsz) {
            loaded.entry = header->e_entry - segment->p_vaddr + segment->p_paddr;
        } else if (header->e_entry >= segment->p_paddr &&
                   header->e_entry - segment->p_paddr < segment->p_memsz) {
            loaded.entry = header->e_entry;
        }
    }
    if (loaded.entry == 0) {
        return std::unexpected("the kernel's entry lies outside of its segments");
    }
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
        at += 20;
    }
    put(memory, address::boot_parameters + offset::e820_count, static_cast<std::uint8_t>(ranges.size()));
}

void write_setup_header(std::span<std::byte> memory) {
    const std::uint64_t base = address::boot_parameters;
    put(memory, base + offset::boot_flag, std::uint16_t{0xAA55});
    put(memory, base + offset::magic, std::uint32_t{0x5372'6448});  // "HdrS"
    put(memory, base + offset::version, std::uint16_t{0x020C});
    put(memory, base + offset::loader_type, std::uint8_t{0xFF});  // none that is registered
    put(memory, base + offset::load_flags, std::uint8_t{1});      // loaded high
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
