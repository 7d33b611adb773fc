#include "metal/firmware/firmware_memory_calls.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "metal/ground/bytes.hpp"
#include "x86/paging.hpp"

// metal/firmware/firmware_memory_calls.S
extern "C" const std::byte firmware_calls_start[], firmware_calls_data[], firmware_calls_end[];

namespace flatback::metal {
namespace {

constexpr std::uint64_t vector_15 = 0x15 * 4;  // in the real-mode interrupt vector table: offset, segment
constexpr std::uint64_t base_memory_word =
    0x413;                                        // in the BIOS data area: KB below the firmware's own memory
constexpr std::uint16_t least_base_memory = 128;  // KB; real ones are 500 and more
constexpr std::uint16_t most_base_memory = 640;
constexpr std::uint64_t page_size = x86::page_size_4k;

// Offsets in the data behind the code.
constexpr std::uint64_t data_old_vector = 0;
constexpr std::uint64_t data_sizes = 4;
constexpr std::uint64_t data_entry_count = 10;
constexpr std::uint64_t data_entries = 12;
constexpr std::uint64_t entry_size = 20;

// Usable bytes in one piece from `start` on.
std::uint64_t usable_from(const MemoryMap& memory, std::uint64_t start) {
    for (const MemoryEntry& entry : memory.entries()) {
        if (entry.kind == MemoryKind::usable && entry.range.contains(start)) return entry.range.end - start;
    }
    return 0;
}

}  // namespace

MemorySizes memory_sizes(const MemoryMap& memory) {
    constexpr std::uint64_t megabyte = 1 << 20;
    const std::uint64_t from_1m = usable_from(memory, megabyte);
    const std::uint64_t from_16m = from_1m >= 15 * megabyte ? usable_from(memory, 16 * megabyte) : 0;
    return {.kilobytes_below_16m = static_cast<std::uint16_t>(std::min(from_1m, 15 * megabyte) >> 10),
            .pieces_above_16m = static_cast<std::uint16_t>(std::min<std::uint64_t>(from_16m >> 16, 0xFFFF)),
            .kilobytes_88 = static_cast<std::uint16_t>(std::min(from_1m, 63 * megabyte) >> 10)};
}

std::expected<std::optional<PhysicalRange>, BootError> hook_firmware_memory_calls(std::byte* physical,
                                                                                  MemoryMap& memory) {
    const std::span<std::byte> low{physical, 0x100000};
    const std::uint32_t old_vector = *read<std::uint32_t>(low, vector_15);
    const std::uint16_t base_memory = *read<std::uint16_t>(low, base_memory_word);
    if (old_vector == 0 || base_memory < least_base_memory || base_memory > most_base_memory)
        return std::nullopt;

    const std::uint64_t end = std::uint64_t{base_memory} << 10;
    auto page = memory.find_highest(page_size, 1 << 10, {0x8000, end}, {});
    if (!page) {
        return std::unexpected(BootError{
            "there is no free page below the firmware's own memory, which begins at KB", base_memory});
    }
    page->end = end;  // what lies between is no base memory any more
    if (!memory.add(*page, MemoryKind::reserved)) {
        return std::unexpected(BootError{"the memory map has too many ranges", MemoryMap::capacity});
    }
    const auto code_size = static_cast<std::uint64_t>(firmware_calls_data - firmware_calls_start);
    const auto entries = memory.entries();
    if (code_size + data_entries + entry_size * entries.size() > page_size) {
        return std::unexpected(BootError{"the memory map has too many ranges", entries.size()});
    }

    const std::span<std::byte> handler = low.subspan(page->start, page->size());
    std::memset(handler.data(), 0, handler.size());
    copy_bytes(handler.data(), firmware_calls_start, code_size);
    const std::span<std::byte> data = handler.subspan(code_size);
    // All fits, as was just seen.
    const auto put = [data](std::uint64_t at, auto value) { static_cast<void>(write(data, at, value)); };
    const MemorySizes sizes = memory_sizes(memory);
    put(data_old_vector, old_vector);
    put(data_sizes, sizes.kilobytes_below_16m);
    put(data_sizes + 2, sizes.pieces_above_16m);
    put(data_sizes + 4, sizes.kilobytes_88);
    put(data_entry_count, static_cast<std::uint16_t>(entries.size()));
    std::uint64_t at = data_entries;
    for (const MemoryEntry& entry : entries) {
        put(at, entry.range.start);
        put(at + 8, entry.range.size());
        put(at + 16, static_cast<std::uint32_t>(entry.kind));
        at += entry_size;
    }
    static_cast<void>(write(low, base_memory_word, static_cast<std::uint16_t>(page->start >> 10)));
    static_cast<void>(write(low, vector_15, static_cast<std::uint32_t>(page->start >> 4) << 16));
    return page;
}

}  // namespace flatback::metal
