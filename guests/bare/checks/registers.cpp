#include "guests/bare/checks/registers.hpp"

#include <initializer_list>
#include <optional>

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

#define FLATBACK_RECOVERED "\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"

namespace flatback::guests {
namespace {

constexpr std::uint64_t bit(unsigned number) {
    return std::uint64_t{1} << number;
}

std::optional<std::uint64_t> try_read_msr(std::uint32_t index) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    last_fault.taken = false;
    asm volatile("1: rdmsr" FLATBACK_RECOVERED : "+a"(low), "+d"(high) : "c"(index) : "memory");
    if (last_fault.taken) return std::nullopt;
    return std::uint64_t{high} << 32 | low;
}

bool try_write_msr(std::uint32_t index, std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: wrmsr" FLATBACK_RECOVERED
                 :
                 : "c"(index), "a"(static_cast<std::uint32_t>(value)),
                   "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
    return !last_fault.taken;
}

bool try_write_cr0(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: movq %0, %%cr0" FLATBACK_RECOVERED : : "r"(value) : "memory");
    return !last_fault.taken;
}
bool try_write_cr3(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: movq %0, %%cr3" FLATBACK_RECOVERED : : "r"(value) : "memory");
    return !last_fault.taken;
}
bool try_write_cr4(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: movq %0, %%cr4" FLATBACK_RECOVERED : : "r"(value) : "memory");
    return !last_fault.taken;
}
bool try_write_cr8(std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: movq %0, %%cr8" FLATBACK_RECOVERED : : "r"(value) : "memory");
    return !last_fault.taken;
}
std::uint64_t read_cr8() {
    std::uint64_t value;
    asm volatile("movq %%cr8, %0" : "=r"(value));
    return value;
}

bool try_xsetbv(std::uint32_t index, std::uint64_t value) {
    last_fault.taken = false;
    asm volatile("1: xsetbv" FLATBACK_RECOVERED
                 :
                 : "c"(index), "a"(static_cast<std::uint32_t>(value)),
                   "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
    return !last_fault.taken;
}
std::uint64_t read_xcr0() {
    std::uint32_t low;
    std::uint32_t high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
}

void print(std::string_view name, std::string_view suffix, const Line& line) {
    Line key;
    key << "registers." << name << suffix;
    report_text(key.text(), line.text());
}

// read: absent on a fault. write: false on a fault. tried: the bits to change, one at a time.
void record(std::string_view name, std::uint64_t tried, auto&& read, auto&& write) {
    const std::optional<std::uint64_t> start = read();
    std::uint64_t faults = 0;
    std::uint64_t kept = 0;
    std::uint64_t odd = 0;
    std::uint64_t stuck = 0;
    for (unsigned number = 0; number < 64; ++number) {
        if ((tried & bit(number)) == 0) continue;
        const std::uint64_t changed = start.value_or(0) ^ bit(number);
        const bool taken = write(changed);
        const std::optional<std::uint64_t> now = read();
        if (!taken) faults |= bit(number);
        if (start && now == changed) kept |= bit(number);
        if (start && now != changed && now != start) odd |= bit(number);
        if (start && now != start && (!write(*start) || read() != start)) stuck |= bit(number);
    }
    Line line;
    if (start) {
        line << "value=";
        line.hexadecimal(*start);
    } else {
        line << "unreadable";
    }
    line << " faults=";
    line.hexadecimal(faults) << " kept=";
    line.hexadecimal(kept) << " odd=";
    line.hexadecimal(odd) << " stuck=";
    line.hexadecimal(stuck);
    print(name, "", line);
}

// Each value is written over the one that was there at first.
void record_values(std::string_view name, std::initializer_list<std::uint64_t> values, auto&& read,
                   auto&& write) {
    const std::optional<std::uint64_t> start = read();
    Line line;
    for (const std::uint64_t value : values) {
        line.hexadecimal(value) << ":";
        if (write(value)) {
            line.hexadecimal(read().value_or(0)) << " ";
        } else {
            line << "fault ";
        }
        if (start) write(*start);
    }
    print(name, ".values", line);
}

// The names of MSRs that this guest knows no better.
struct MsrName {
    Line line;
    explicit MsrName(std::uint32_t index) {
        line << "msr-";
        line.hexadecimal(index);
    }
};

void record_msr(std::uint32_t index, std::uint64_t tried = ~std::uint64_t{0}) {
    record(
        MsrName{index}.line.text(), tried, [=] { return try_read_msr(index); },
        [=](std::uint64_t value) { return try_write_msr(index, value); });
}
void record_msr_values(std::uint32_t index, std::initializer_list<std::uint64_t> values) {
    record_values(
        MsrName{index}.line.text(), values, [=] { return try_read_msr(index); },
        [=](std::uint64_t value) { return try_write_msr(index, value); });
}

void record_control_registers(bool in_vmx_operation) {
    const auto get_cr0 = [] { return std::optional{read_cr0()}; };
    const auto get_cr4 = [] { return std::optional{read_cr4()}; };
    record(in_vmx_operation ? "cr0-in-vmx-operation" : "cr0", ~std::uint64_t{0}, get_cr0, try_write_cr0);
    record(in_vmx_operation ? "cr4-in-vmx-operation" : "cr4", ~std::uint64_t{0}, get_cr4, try_write_cr4);
    if (in_vmx_operation) return;

    constexpr std::uint64_t ne = bit(5);
    constexpr std::uint64_t cd = bit(30);
    constexpr std::uint64_t nw = bit(29);
    const std::uint64_t cr0 = read_cr0();
    record_values("cr0",
                  {cr0 ^ cd, cr0 ^ cd ^ nw, cr0 ^ ne ^ cd, cr0 ^ ne ^ cd ^ nw, cr0 ^ ne ^ nw,
                   cr0 ^ ne ^ 0x1ffaffc0, cr0 ^ ne ^ bit(4), cr0 ^ ne ^ bit(16), cr0 ^ ne ^ bit(31),
                   cr0 ^ ne ^ bit(31) ^ bit(0), cr0 ^ ne ^ bit(0), cr0 ^ ne ^ bit(32)},
                  get_cr0, try_write_cr0);
    const std::uint64_t cr4 = read_cr4() & ~cr4_vmxe;
    write_cr4(cr4);
    record_values(
        "cr4",
        {cr4 | cr4_vmxe, cr4 | cr4_vmxe | bit(17), cr4 ^ cr4_vmxe ^ bit(5), cr4 | cr4_vmxe | bit(12),
         cr4 | cr4_vmxe | bit(14), cr4 | cr4_vmxe | bit(7) | bit(18), cr4 | cr4_vmxe | bit(32)},
        get_cr4, try_write_cr4);
    // With bit 3 or 4 (PWT, PCD) no PCID of 0 is there to be switched on with.
    const std::uint64_t cr3 = read_cr3();
    write_cr3(cr3 | 8);
    record_values("cr4-with-a-pcid", {cr4 | bit(17), cr4 | cr4_vmxe | bit(17)}, get_cr4, try_write_cr4);
    write_cr3(cr3);
    // The address is not to be changed while it is in use.
    record(
        "cr3", 0xfff0'0000'0000'0018, [] { return std::optional{read_cr3()}; }, try_write_cr3);
    record(
        "cr8", ~std::uint64_t{0}, [] { return std::optional{read_cr8()}; }, try_write_cr8);
}

void record_extended_state() {
    constexpr std::uint64_t osxsave = bit(18);
    if ((cpuid(1).ecx >> 26 & 1) == 0) return;
    write_cr4(read_cr4() | osxsave);
    const auto read = [] { return std::optional{read_xcr0()}; };
    const auto write = [](std::uint64_t value) { return try_xsetbv(0, value); };
    record("xcr0", ~std::uint64_t{0}, read, write);
    record_values("xcr0", {0, 1, 3, 5, 7, 0xf, 0x18, 0x1b, 0x23, 0xe3, 0xe7, 0x207, 0x101}, read, write);
    record(
        "xcr1", 1, [] { return std::optional<std::uint64_t>{}; },
        [](std::uint64_t value) { return try_xsetbv(1, value); });
    write_cr4(read_cr4() & ~osxsave);
}

void record_memory_type_registers() {
    for (std::uint32_t index = 0x200; index < 0x220; ++index) record_msr(index);
    for (std::uint32_t index = 0x250; index < 0x270; ++index) record_msr(index);
    record_msr(0x2ff);
    record_msr_values(0x200, {0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0xff, 0x106, 0x806, 0x1006});
    record_msr_values(0x2ff, {0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0xff, 0xc06, 0xd06, 0x1c06});
    record_msr_values(0x250, {0, 0x0606060606060606, 0x0106040500060106, 0x0206060606060606,
                              0x0306060606060606, 0x0706060606060606, 0x0606060607060606, 0x86});
}

void record_x2apic_registers() {
    constexpr std::uint32_t first = 0x800;
    for (std::uint32_t index = first; index < 0x900; ++index) {
        switch (index - first) {
            case 0x30:
                // Not by what would be sent: the reserved bits, delivery status and the destination.
                record_msr(index, 0xffff'ffff'fff3'3000);
                break;
            case 0x3f:
                record_msr(index, ~std::uint64_t{0xff});
                break;
            default:
                record_msr(index);
        }
    }
}

// The memory-mapped registers of the local APIC, or what lies there while they do not.
std::uint32_t read_apic_page(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(std::uintptr_t{0xfee00000} + offset);
}

void record_local_apic() {
    constexpr std::uint32_t base = 0x1b;
    constexpr std::uint64_t extd = bit(10);
    constexpr std::uint64_t en = bit(11);
    // EN and EXTD are not tried here: there are processors on which EN = 0 is for good.
    record_msr(base, ~(extd | en));
    record(
        "x2apic-in-xapic-mode", 0xf, [] { return try_read_msr(0x803); },
        [](std::uint64_t value) { return try_write_msr(0x808, value); });
    const std::uint64_t start = read_msr(base);
    record_values(
        "apic-base", {(start & ~en) | extd}, [] { return try_read_msr(base); },
        [](std::uint64_t value) { return try_write_msr(base, value); });
    const bool entered = try_write_msr(base, start | extd);
    Line line;
    line << (entered ? "taken" : "fault") << " base=";
    line.hexadecimal(read_msr(base)) << " page-version=";
    line.hexadecimal(read_apic_page(0x30)) << " cpuid-apic=" << (cpuid(1).edx >> 9 & 1);
    print("x2apic-mode", "", line);
    if (!entered) return;
    record_x2apic_registers();
    record_values(
        "apic-base-in-x2apic-mode", {start, (start & ~en) | extd}, [] { return try_read_msr(base); },
        [](std::uint64_t value) { return try_write_msr(base, value); });
}

// Read only: whether there is one, and whether a write of what is there is taken.
void record_presence(std::uint32_t first, std::uint32_t last) {
    Line line;
    for (std::uint32_t index = first; index <= last; ++index) {
        const auto value = try_read_msr(index);
        line << (value ? *value == 0 ? "0" : "1" : "-");
    }
    print(MsrName{first}.line.text(), ".present", line);
}

}  // namespace

void record_registers() {
    record_cpuid();
    record_control_registers(true);
    try_vmxoff();
    record_control_registers(false);
    record_extended_state();
    record_msr(msr_efer);
    record_msr_values(msr_efer, {0x501, 0x100, 0x400, 0x900, 0xd00, 0xd01, 0});
    for (const std::uint32_t index :
         {0x3aU,       0x3bU,       0x79U,       0x8bU,       0x9bU,       0x9eU,       0xfeU,
          0x174U,      0x175U,      0x176U,      0x179U,      0x17aU,      0x1a0U,      0x1d9U,
          0x277U,      0x3f1U,      0x600U,      0x6a0U,      0x6a2U,      0x6a4U,      0x6e1U,
          0x985U,      0xd90U,      0xda0U,      0x48U,       0x49U,       0x1c4U,      0xc0000081U,
          0xc0000082U, 0xc0000083U, 0xc0000084U, 0xc0000100U, 0xc0000101U, 0xc0000102U, 0xc0000103U,
          0x1234U,     0x2000U,     0x40000000U, 0xc0002000U}) {
        record_msr(index);
    }
    record_msr_values(msr_pat,
                      {0x0706050401000706, 0x0706050401000702, 0x0306050401000706, 0x0806050401000706});
    for (std::uint32_t index = 0x480; index <= 0x493; ++index) record_msr(index);
    for (std::uint32_t index = 0x560; index <= 0x571; ++index) record_msr(index);
    record_memory_type_registers();
    record_presence(0x300, 0x3ff);
    record_local_apic();
    report_pass("registers-recorded");
}

}  // namespace flatback::guests
