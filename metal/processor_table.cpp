#include "metal/processor_table.hpp"

#include <algorithm>
#include <optional>
#include <span>

namespace flatback::metal {
namespace {

constexpr std::uint64_t rsdp_signature = 0x2052'5450'2044'5352;  // "RSD PTR "
constexpr std::uint32_t madt_signature = 0x4349'5041;            // "APIC"
constexpr std::uint64_t rsdp_old_size = 20;
constexpr std::uint64_t table_header_size = 36;
constexpr std::uint64_t checksum_offset = 9;
constexpr std::uint64_t madt_entries = 44;
constexpr std::uint32_t enabled_or_online_capable = 3;

struct Memory {
    std::byte* physical;
    std::uint64_t size;
};
using Table = std::span<std::byte>;

std::uint8_t sum(Bytes bytes) {
    std::uint8_t total = 0;
    for (const std::byte byte : bytes)
        total = static_cast<std::uint8_t>(total + static_cast<std::uint8_t>(byte));
    return total;
}

// The table at a physical address, if it lies in memory and its checksum is right.
std::optional<Table> table_at(Memory memory, std::uint64_t address) {
    const Bytes all{memory.physical, memory.size};
    const auto header = slice(all, address, table_header_size);
    if (!header) return std::nullopt;
    const std::uint32_t length = *read<std::uint32_t>(*header, 4);
    const auto bytes = slice(all, address, length);
    if (!bytes || length < table_header_size || sum(*bytes) != 0) return std::nullopt;
    return Table{memory.physical + address, length};
}

// One entry of the MADT that describes a processor.
struct LocalApic {
    std::uint32_t id;
    std::uint64_t flags_offset;  // in the table
    std::uint32_t flags;
};

// Calls visit(LocalApic) for each; false if the entries are malformed.
template <typename Visit>
bool for_each_local_apic(Bytes madt, Visit visit) {
    constexpr std::uint8_t type_local_apic = 0;
    constexpr std::uint8_t type_local_x2apic = 9;
    for (std::uint64_t at = madt_entries; at < madt.size();) {
        const auto length = read<std::uint8_t>(madt, at + 1);
        if (!length || *length < 2 || !slice(madt, at, *length)) return false;
        const std::uint8_t type = *read<std::uint8_t>(madt, at);
        if (type == type_local_apic && *length >= 8) {
            visit(LocalApic{*read<std::uint8_t>(madt, at + 3), at + 4, *read<std::uint32_t>(madt, at + 4)});
        } else if (type == type_local_x2apic && *length >= 16) {
            visit(LocalApic{*read<std::uint32_t>(madt, at + 4), at + 8, *read<std::uint32_t>(madt, at + 8)});
        }
        at += *length;
    }
    return true;
}

ProcessorTableChange change_table(Table madt, std::uint32_t apic_id) {
    ProcessorTableChange change;
    for_each_local_apic(madt, [&](LocalApic apic) {
        ++change.listed;
        if ((apic.flags & enabled_or_online_capable) == 0) return;
        ++change.processors;
        if (apic.id == apic_id) return;
        ++change.disabled;
        static_cast<void>(write(madt, apic.flags_offset, apic.flags & ~enabled_or_online_capable));
    });
    const auto old = std::to_integer<std::uint8_t>(madt[checksum_offset]);
    madt[checksum_offset] = static_cast<std::byte>(static_cast<std::uint8_t>(old - sum(madt)));
    return change;
}

// Follows a root table's pointers of 4 bytes (RSDT) or 8 (XSDT).
std::expected<ProcessorTableChange, BootError> change_tables_of(Memory memory, std::uint64_t root_address,
                                                                std::uint64_t pointer_size,
                                                                std::uint32_t apic_id) {
    ProcessorTableChange most;
    if (root_address == 0) return most;
    const auto root = table_at(memory, root_address);
    if (!root) return std::unexpected(BootError{"ACPI's root table is corrupt, at", root_address});
    for (std::uint64_t at = table_header_size; at + pointer_size <= root->size(); at += pointer_size) {
        const std::uint64_t address =
            pointer_size == 8 ? *read<std::uint64_t>(*root, at) : *read<std::uint32_t>(*root, at);
        const auto table = table_at(memory, address);
        if (!table || read<std::uint32_t>(*table, 0) != madt_signature) continue;
        if (!for_each_local_apic(*table, [](LocalApic) {})) {
            return std::unexpected(BootError{"ACPI's table of processors is corrupt, at", address});
        }
        const ProcessorTableChange change = change_table(*table, apic_id);
        most.processors = std::max(most.processors, change.processors);
        most.disabled = std::max(most.disabled, change.disabled);
        most.listed = std::max(most.listed, change.listed);
    }
    return most;
}

}  // namespace

std::expected<ProcessorTableChange, BootError> keep_one_processor(std::byte* physical,
                                                                  std::uint64_t physical_size, Bytes rsdp,
                                                                  std::uint32_t apic_id) {
    if (rsdp.empty()) return ProcessorTableChange{};
    const auto old_part = slice(rsdp, 0, rsdp_old_size);
    if (!old_part || read<std::uint64_t>(rsdp, 0) != rsdp_signature || sum(*old_part) != 0) {
        return std::unexpected(BootError{"ACPI's root pointer is corrupt"});
    }
    const Memory memory{physical, physical_size};
    const std::uint64_t rsdt = *read<std::uint32_t>(rsdp, 16);
    // The XSDT exists from revision 2 on. A table that both lead to is found changed already by the second.
    const std::uint64_t xsdt =
        *read<std::uint8_t>(rsdp, 15) >= 2 ? read<std::uint64_t>(rsdp, 24).value_or(0) : 0;
    auto by_rsdt = change_tables_of(memory, rsdt, 4, apic_id);
    if (!by_rsdt) return by_rsdt;
    auto by_xsdt = change_tables_of(memory, xsdt, 8, apic_id);
    if (!by_xsdt) return by_xsdt;
    return ProcessorTableChange{std::max(by_rsdt->processors, by_xsdt->processors),
                                std::max(by_rsdt->disabled, by_xsdt->disabled),
                                std::max(by_rsdt->listed, by_xsdt->listed)};
}

}  // namespace flatback::metal
