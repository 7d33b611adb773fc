#include "metal/firmware/sleep_states.hpp"

#include "metal/firmware/acpi_tables.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint32_t fadt_signature = 0x5043'4146;  // "FACP"
constexpr std::uint32_t dsdt_signature = 0x5444'5344;  // "DSDT"
constexpr std::uint32_t ssdt_signature = 0x5444'5353;  // "SSDT"
constexpr std::uint32_t name_s2 = 0x5F32'535F;         // "_S2_"
constexpr std::uint32_t name_s3 = 0x5F33'535F;         // "_S3_"
constexpr std::byte other_first_letter{'X'};

// Of the FADT (ACPI 6.5, table 5.9).
constexpr std::uint64_t dsdt_offset = 40;
constexpr std::uint64_t s4bios_request_offset = 54;
constexpr std::uint64_t long_dsdt_offset = 140;

// A name in AML is four letters, wherever it is defined or used.
bool rename(AcpiTable table) {
    bool changed = false;
    for (std::uint64_t at = acpi_header_size; at + 4 <= table.size(); ++at) {
        const std::uint32_t name = *read<std::uint32_t>(table, at);
        if (name != name_s2 && name != name_s3) continue;
        table[at] = other_first_letter;
        changed = true;
    }
    if (changed) mend_acpi_checksum(table);
    return changed;
}

// The FADT, and the DSDT that it alone leads to.
unsigned change_fadt(AcpiMemory memory, AcpiTable fadt) {
    unsigned changed = 0;
    if (read<std::uint8_t>(fadt, s4bios_request_offset).value_or(0) != 0) {
        fadt[s4bios_request_offset] = std::byte{0};
        mend_acpi_checksum(fadt);
        ++changed;
    }
    for (const std::uint64_t address : {std::uint64_t{read<std::uint32_t>(fadt, dsdt_offset).value_or(0)},
                                        read<std::uint64_t>(fadt, long_dsdt_offset).value_or(0)}) {
        const auto dsdt = acpi_table_at(memory, address);
        if (dsdt && acpi_signature(*dsdt) == dsdt_signature && rename(*dsdt)) ++changed;
    }
    return changed;
}

}  // namespace

std::expected<unsigned, BootError> hide_sleep_states(std::byte* physical, std::uint64_t physical_size,
                                                     Bytes rsdp) {
    if (rsdp.empty()) return 0;
    const auto roots = acpi_roots(rsdp);
    if (!roots) return std::unexpected(roots.error());
    const AcpiMemory memory{physical, physical_size};
    unsigned changed = 0;
    const auto visit = [&](AcpiTable table, std::uint64_t) {
        if (acpi_signature(table) == fadt_signature) changed += change_fadt(memory, table);
        if (acpi_signature(table) == ssdt_signature && rename(table)) ++changed;
    };
    if (const auto by_rsdt = for_each_acpi_table(memory, roots->rsdt, 4, visit); !by_rsdt)
        return std::unexpected(by_rsdt.error());
    if (const auto by_xsdt = for_each_acpi_table(memory, roots->xsdt, 8, visit); !by_xsdt)
        return std::unexpected(by_xsdt.error());
    return changed;
}

}  // namespace flatback::metal
