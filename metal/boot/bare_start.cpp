#include "metal/boot/bare_start.hpp"

#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/serial.hpp"
#include "metal/memory/address_space.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {

void start_without_hypervisor(const BootResult& boot) {
    const L1Start& start = boot.l1;
    // Between two address spaces, code must be in both: L1's first one gets L0's image as well. It lies where
    // no identity map reaches, and a kernel soon leaves these tables.
    constexpr std::uint64_t entry_of_image = (kernel_base >> 39) % x86::entries_per_table;
    auto* const l1_pml4 = direct_map_as<std::uint64_t>(x86::Hpa{start.cr3});
    const auto* const own_pml4 =
        direct_map_as<std::uint64_t>(x86::Hpa{read_cr3() & ~(x86::page_size_4k - 1)});
    l1_pml4[entry_of_image] = own_pml4[entry_of_image];
    log::line("FLATBACK stage l1-entry");
    log::line("FLATBACK value l0.l1_entry_tsc ", read_tsc());
    serial::drain();  // Linux sets the UART up anew, which cuts what is still in it

    struct [[gnu::packed]] {
        std::uint16_t limit;
        std::uint64_t base;
    } const gdt{start.gdt_limit, start.gdt_base};
    asm volatile(
        "lgdt %[gdt]\n\t"
        "mov %[cr3], %%cr3\n\t"
        "mov %[stack], %%rsp\n\t"
        "mov %[data], %%ds\n\t"
        "mov %[data], %%es\n\t"
        "mov %[data], %%ss\n\t"
        "pushq %[code]\n\t"
        "pushq %[entry]\n\t"
        "lretq"
        :
        : [gdt] "m"(gdt), [cr3] "a"(start.cr3), [stack] "c"(start.rsp),
          [data] "d"(std::uint64_t{start.data_selector}), [code] "D"(std::uint64_t{start.code_selector}),
          [entry] "b"(start.rip), "S"(start.rsi)
        : "memory");
    __builtin_unreachable();
}

}  // namespace flatback::metal
