#include "metal/firmware/multiprocessor_table.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "metal/firmware/acpi_tables.hpp"
#include "metal/ground/bytes.hpp"

namespace flatback::metal {
namespace {

using Table = std::span<std::byte>;

constexpr std::uint32_t pointer_signature = 0x5F50'4D5F;  // "_MP_"
constexpr std::uint32_t table_signature = 0x504D'4350;    // "PCMP"

// Of the floating pointer structure (4.1).
constexpr std::uint64_t pointer_size = 16;
constexpr std::uint64_t table_address_offset = 4;
constexpr std::uint64_t default_configuration_offset = 11;

// Of the table (4.2, 4.3).
constexpr std::uint64_t header_size = 44;
constexpr std::uint64_t length_offset = 4;
constexpr std::uint64_t checksum_offset = 7;
constexpr std::uint8_t type_processor = 0;
constexpr std::uint64_t processor_size = 20;
constexpr std::uint64_t other_size = 8;
constexpr std::uint64_t apic_id_offset = 1;
constexpr std::uint64_t flags_offset = 3;
constexpr std::uint8_t enabled = 1;
constexpr std::uint8_t boot_processor = 2;

std::optional<Table> part(Table all, std::uint64_t address, std::uint64_t size) {
    if (!slice(all, address, size)) return std::nullopt;
    return all.subspan(address, size);
}

// In each place of 4: the extended BIOS data area's first KB, the last KB of base memory, the firmware. The
// lowest KB is where some systems look too.
std::optional<Table> find_pointer(Table all) {
    constexpr std::uint64_t data_area_segment = 0x40E;
    constexpr std::uint64_t base_memory_kilobytes = 0x413;
    const std::uint64_t data_area = std::uint64_t{read<std::uint16_t>(all, data_area_segment).value_or(0)}
                                    << 4;
    const std::uint64_t base_end = std::uint64_t{read<std::uint16_t>(all, base_memory_kilobytes).value_or(0)}
                                   << 10;
    struct Place {
        std::uint64_t start, size;
    };
    const std::array<Place, 5> places{{{data_area, 0x400},
                                       {base_end - 0x400, base_end >= 0x400 ? 0x400U : 0U},
                                       {0x9FC00, 0x400},
                                       {0xF0000, 0x10000},
                                       {0, 0x400}}};
    for (const auto& [start, size] : places) {
        for (std::uint64_t at = start & ~(pointer_size - 1); at < start + size; at += pointer_size) {
            const auto found = part(all, at, pointer_size);
            if (found && read<std::uint32_t>(*found, 0) == pointer_signature && acpi_sum(*found) == 0)
                return found;
        }
    }
    return std::nullopt;
}

// Calls visit(entry) for each processor; false if the entries are malformed.
template <typename Visit>
bool for_each_processor(Table table, Visit visit) {
    for (std::uint64_t at = header_size; at < table.size();) {
        const bool is_processor = *read<std::uint8_t>(table, at) == type_processor;
        const auto entry = part(table, at, is_processor ? processor_size : other_size);
        if (!entry) return false;
        if (is_processor) visit(*entry);
        at += entry->size();
    }
    return true;
}

std::uint8_t flags_of(Table processor) {
    return read<std::uint8_t>(processor, flags_offset).value_or(0);
}

}  // namespace

MultiprocessorTableChange keep_processors_in_multiprocessor_table(std::byte* physical,
                                                                  std::uint64_t physical_size,
                                                                  std::span<const std::uint32_t> apic_ids) {
    const Table all{physical, physical_size};
    const auto pointer = find_pointer(all);
    if (!pointer) return {};
    const auto is_written = [](Table where, std::uint64_t offset, std::uint8_t value) {
        return write(where, offset, value) && read<std::uint8_t>(where, offset) == value;
    };
    if (read<std::uint8_t>(*pointer, default_configuration_offset) != 0)
        return {.disabled = 1, .read_only = !is_written(*pointer, 0, 0)};

    const std::uint64_t address = read<std::uint32_t>(*pointer, table_address_offset).value_or(0);
    const std::uint16_t length = read<std::uint16_t>(all, address + length_offset).value_or(0);
    const auto table = part(all, address, length);
    if (address == 0 || !table || length < header_size || read<std::uint32_t>(*table, 0) != table_signature ||
        acpi_sum(*table) != 0)
        return {};
    // Where no entry has this processor's identifier, it is the one that the firmware started.
    bool listed = false;
    const auto has_id = [](Table entry, std::uint32_t apic_id) {
        return read<std::uint8_t>(entry, apic_id_offset) == apic_id;
    };
    const auto is_kept = [&](Table entry) {
        return std::ranges::any_of(apic_ids, [&](std::uint32_t apic_id) { return has_id(entry, apic_id); });
    };
    const auto look = [&](Table entry) { listed = listed || has_id(entry, apic_ids.front()); };
    if (!for_each_processor(*table, look)) return {};
    MultiprocessorTableChange change;
    for_each_processor(*table, [&](Table entry) {
        const std::uint8_t flags = flags_of(entry);
        const bool stays = listed ? is_kept(entry) : (flags & boot_processor) != 0;
        if (stays || (flags & enabled) == 0) return;
        ++change.disabled;
        if (!is_written(entry, flags_offset, static_cast<std::uint8_t>(flags & ~enabled)))
            change.read_only = true;
    });
    if (change.disabled == 0) return change;
    const auto old = std::to_integer<std::uint8_t>((*table)[checksum_offset]);
    (*table)[checksum_offset] = static_cast<std::byte>(static_cast<std::uint8_t>(old - acpi_sum(*table)));
    return change;
}

}  // namespace flatback::metal
