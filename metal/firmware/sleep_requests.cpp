#include "metal/firmware/sleep_requests.hpp"

#include <algorithm>
#include <optional>

#include "metal/firmware/acpi_tables.hpp"
#include "metal/ground/pci.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint32_t fadt_signature = 0x5043'4146;  // "FACP"
constexpr std::uint32_t dsdt_signature = 0x5444'5344;  // "DSDT"
constexpr std::uint32_t ssdt_signature = 0x5444'5353;  // "SSDT"
constexpr std::uint32_t mcfg_signature = 0x4746'434D;  // "MCFG" (PCI Firmware Specification 3.3, 4.1.2)

// Of the FADT (ACPI 6.5, table 5.9).
constexpr std::uint64_t dsdt_offset = 40;
constexpr std::uint64_t long_dsdt_offset = 140;
constexpr std::uint64_t pm1_control_offsets[] = {64, 68};         // I/O ports
constexpr std::uint64_t long_pm1_control_offsets[] = {172, 184};  // generic addresses
constexpr std::uint64_t sleep_control_offset = 244;               // the same, of one byte

constexpr std::uint8_t in_memory_space = 0;
constexpr std::uint8_t in_io_space = 1;

// A constant of AML's (ACPI 6.5, section 20.2.3); `at` is moved behind it.
std::optional<std::uint8_t> read_constant(Bytes aml, std::uint64_t& at) {
    const auto first = read<std::uint8_t>(aml, at++);
    if (!first) return std::nullopt;
    constexpr std::uint8_t byte_prefix = 0x0A;
    constexpr std::uint8_t word_prefix = 0x0B;
    constexpr std::uint8_t double_word_prefix = 0x0C;
    if (*first <= 1) return *first;
    if (*first < byte_prefix || *first > double_word_prefix) return std::nullopt;
    const auto value = read<std::uint8_t>(aml, at);
    at += *first == byte_prefix ? 1U : *first == word_prefix ? 2U : 4U;
    return value;
}

// The types of a package that a name begins: PackageOp, PkgLength of one to four bytes, the number of
// elements, the types for PM1a and PM1b.
std::uint8_t types_of_package(Bytes aml, std::uint64_t at) {
    constexpr std::uint8_t package = 0x12;
    if (read<std::uint8_t>(aml, at) != package) return 0;
    const auto length = read<std::uint8_t>(aml, at + 1);
    if (!length) return 0;
    at += 3U + (*length >> 6U);
    std::uint8_t types = 0;
    for (int element = 0; element < 2; ++element) {
        const auto value = read_constant(aml, at);
        if (!value) break;
        types = static_cast<std::uint8_t>(types | 1U << (*value & 7));
    }
    return types;
}

std::uint8_t allowed_types(Bytes aml) {
    constexpr std::uint32_t name_s1 = 0x5F31'535F;  // "_S1_"
    constexpr std::uint32_t name_s4 = 0x5F34'535F;
    constexpr std::uint32_t name_s5 = 0x5F35'535F;
    std::uint8_t types = 0;
    for (std::uint64_t at = acpi_header_size; at + 4 <= aml.size(); ++at) {
        const std::uint32_t name = *read<std::uint32_t>(aml, at);
        if (name == name_s1 || name == name_s4 || name == name_s5)
            types = static_cast<std::uint8_t>(types | types_of_package(aml, at + 4));
    }
    return types;
}

void add_request_byte(SleepControl& control, std::uint64_t address) {
    const auto used = std::span{control.request_bytes}.first(control.request_bytes_used);
    if (used.size() == control.request_bytes.size() || std::ranges::find(used, address) != used.end()) return;
    control.request_bytes[control.request_bytes_used++] = address;
}

// Base, segment, first and last bus. The base is bus 0's, whichever is the first.
void read_mcfg(SleepControl& control, Bytes mcfg) {
    constexpr std::uint64_t first_entry = 44;
    constexpr std::uint64_t entry_size = 16;
    for (std::uint64_t at = first_entry; at + entry_size <= mcfg.size(); at += entry_size) {
        const bool is_bus_0 =
            *read<std::uint16_t>(mcfg, at + 8) == 0 && *read<std::uint8_t>(mcfg, at + 10) == 0;
        if (is_bus_0) control.memory_configuration = *read<std::uint64_t>(mcfg, at);
    }
}

// byte: which of the register has the request.
void add_generic(SleepControl& control, Bytes fadt, std::uint64_t offset, std::uint64_t byte) {
    const auto space = read<std::uint8_t>(fadt, offset);
    const auto address = read<std::uint64_t>(fadt, offset + 4);
    if (!space || !address || *address == 0) return;
    if (*space == in_memory_space) add_request_byte(control, *address + byte);
    if (*space == in_io_space) control.add_request_port(*address + byte);
}

void read_fadt(SleepControl& control, AcpiMemory memory, Bytes fadt) {
    for (const std::uint64_t offset : pm1_control_offsets) {
        if (const auto port = read<std::uint32_t>(fadt, offset); port && *port != 0)
            control.add_request_port(std::uint64_t{*port} + 1);
    }
    for (const std::uint64_t offset : long_pm1_control_offsets) add_generic(control, fadt, offset, 1);
    add_generic(control, fadt, sleep_control_offset, 0);
    for (const std::uint64_t address : {std::uint64_t{read<std::uint32_t>(fadt, dsdt_offset).value_or(0)},
                                        read<std::uint64_t>(fadt, long_dsdt_offset).value_or(0)}) {
        const auto dsdt = acpi_table_at(memory, address);
        if (dsdt && acpi_signature(*dsdt) == dsdt_signature)
            control.allowed_types = static_cast<std::uint8_t>(control.allowed_types | allowed_types(*dsdt));
    }
}

// What an access has for one port; absent where it does not reach it.
std::optional<std::uint8_t> byte_for(std::uint16_t port, vmx::IoAccess access, std::uint32_t value) {
    const unsigned index = static_cast<unsigned>(port) - access.port;
    if (port < access.port || index >= access.size) return std::nullopt;
    return static_cast<std::uint8_t>(value >> (8 * index));
}

}  // namespace

void SleepControl::add_request_port(std::uint64_t port) {
    if (port > 0xFFFF || request_ports_used == request_ports.size()) return;
    const auto number = static_cast<std::uint16_t>(port);
    if (std::ranges::find(requests(), number) == requests().end())
        request_ports[request_ports_used++] = number;
}

SleepControl find_sleep_control(std::byte* physical, std::uint64_t physical_size, Bytes rsdp) {
    SleepControl control;
    const auto roots = acpi_roots(rsdp);
    if (!roots) return control;
    const AcpiMemory memory{physical, physical_size};
    const auto visit = [&](AcpiTable table, std::uint64_t) {
        if (acpi_signature(table) == fadt_signature) read_fadt(control, memory, table);
        if (acpi_signature(table) == mcfg_signature) read_mcfg(control, table);
        if (acpi_signature(table) == ssdt_signature)
            control.allowed_types = static_cast<std::uint8_t>(control.allowed_types | allowed_types(table));
    };
    static_cast<void>(for_each_acpi_table(memory, roots->rsdt, 4, visit));
    static_cast<void>(for_each_acpi_table(memory, roots->xsdt, 8, visit));
    return control;
}

IoAnswer answer_io(const SleepControl& control, vmx::IoAccess access, std::uint32_t value) {
    if (access.is_in) return IoAnswer::let_through;
    for (const std::uint16_t port : control.requests()) {
        const auto byte = byte_for(port, access, value);
        if (byte && control.refuses(*byte)) return IoAnswer::refused;
    }
    return IoAnswer::let_through;
}

bool reaches_fixed(const SleepControl& control, vmx::IoAccess access, std::uint32_t configuration_address) {
    constexpr std::uint32_t selects_nothing = 0x7F00'0003;  // reserved, and below the double word
    return !access.is_in && access.port < pci::data_port + 4 && access.port + access.size > pci::data_port &&
           std::ranges::find(control.fixed(), configuration_address & ~selects_nothing) !=
               control.fixed().end();
}

std::uint32_t without_request(const SleepControl& control, vmx::IoAccess access, std::uint32_t value) {
    for (const std::uint16_t port : control.requests()) {
        if (byte_for(port, access, value))
            value &= ~(std::uint32_t{SleepControl::sleep_enable}
                       << (8 * (static_cast<unsigned>(port) - access.port)));
    }
    return value;
}

}  // namespace flatback::metal
