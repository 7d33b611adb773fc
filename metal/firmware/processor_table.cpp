#include "metal/firmware/processor_table.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "metal/firmware/acpi_tables.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint32_t madt_signature = 0x4349'5041;  // "APIC"
constexpr std::uint64_t madt_entries = 44;
constexpr std::uint32_t enabled_or_online_capable = 3;

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

ProcessorTableChange change_table(AcpiTable madt, std::span<const std::uint32_t> apic_ids) {
    ProcessorTableChange change;
    for_each_local_apic(madt, [&](LocalApic apic) {
        ++change.listed;
        if ((apic.flags & enabled_or_online_capable) == 0) return;
        ++change.processors;
        if (std::ranges::find(apic_ids, apic.id) != apic_ids.end()) return;
        ++change.disabled;
        static_cast<void>(write(madt, apic.flags_offset, apic.flags & ~enabled_or_online_capable));
    });
    mend_acpi_checksum(madt);
    return change;
}

std::expected<ProcessorTableChange, BootError> change_tables_of(AcpiMemory memory, std::uint64_t root_address,
                                                                std::uint64_t pointer_size,
                                                                std::span<const std::uint32_t> apic_ids) {
    ProcessorTableChange most;
    std::optional<BootError> corrupt;
    const auto visited =
        for_each_acpi_table(memory, root_address, pointer_size, [&](AcpiTable table, std::uint64_t address) {
            if (acpi_signature(table) != madt_signature || corrupt) return;
            if (!for_each_local_apic(table, [](LocalApic) {})) {
                corrupt = BootError{"ACPI's table of processors is corrupt, at", address};
                return;
            }
            const ProcessorTableChange change = change_table(table, apic_ids);
            most.processors = std::max(most.processors, change.processors);
            most.disabled = std::max(most.disabled, change.disabled);
            most.listed = std::max(most.listed, change.listed);
        });
    if (!visited) return std::unexpected(visited.error());
    if (corrupt) return std::unexpected(*corrupt);
    return most;
}

}  // namespace

std::expected<std::size_t, BootError> list_processors(std::byte* physical, std::uint64_t physical_size,
                                                      Bytes rsdp, std::span<std::uint32_t> ids) {
    if (rsdp.empty()) return 0;
    const auto roots = acpi_roots(rsdp);
    if (!roots) return std::unexpected(roots.error());
    std::size_t found = 0;
    const auto take = [&](LocalApic apic) {
        constexpr std::uint32_t enabled = 1;
        if ((apic.flags & enabled) == 0) return;
        const auto known = ids.first(std::min(found, ids.size()));
        if (std::ranges::find(known, apic.id) != known.end()) return;
        if (found < ids.size()) ids[found] = apic.id;
        ++found;
    };
    const AcpiMemory memory{physical, physical_size};
    for (const auto& [root, size] : {std::pair{roots->rsdt, 4}, std::pair{roots->xsdt, 8}}) {
        const auto visited = for_each_acpi_table(memory, root, static_cast<std::uint64_t>(size),
                                                 [&](AcpiTable table, std::uint64_t) {
                                                     if (acpi_signature(table) == madt_signature)
                                                         for_each_local_apic(table, take);
                                                 });
        if (!visited) return std::unexpected(visited.error());
    }
    return found;
}

std::expected<ProcessorTableChange, BootError> keep_processors(std::byte* physical,
                                                               std::uint64_t physical_size, Bytes rsdp,
                                                               std::span<const std::uint32_t> apic_ids) {
    if (rsdp.empty()) return ProcessorTableChange{};
    const auto roots = acpi_roots(rsdp);
    if (!roots) return std::unexpected(roots.error());
    const AcpiMemory memory{physical, physical_size};
    // A table that both lead to is found changed already by the second.
    auto by_rsdt = change_tables_of(memory, roots->rsdt, 4, apic_ids);
    if (!by_rsdt) return by_rsdt;
    auto by_xsdt = change_tables_of(memory, roots->xsdt, 8, apic_ids);
    if (!by_xsdt) return by_xsdt;
    return ProcessorTableChange{std::max(by_rsdt->processors, by_xsdt->processors),
                                std::max(by_rsdt->disabled, by_xsdt->disabled),
                                std::max(by_rsdt->listed, by_xsdt->listed)};
}

}  // namespace flatback::metal
