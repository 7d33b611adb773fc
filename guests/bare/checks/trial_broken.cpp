// This guest's own tables made unusable, and then an exception: the processor shuts down (SDM 3A 6.15, double
// fault). An L0 must see that too, also where it is L0 that raises the exception, and neither try for ever
// nor die of it.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/pages.hpp"
#include "guests/bare/l1/reserved_memory.hpp"
#include "guests/bare/l1/watchdog.hpp"

extern "C" {
extern std::uint64_t boot_pml4[];
extern std::uint64_t boot_gdt[];
}

namespace flatback::guests {
namespace {

// Between the memory of this guest's machines and the devices below 4 GB there is nothing.
constexpr std::uint64_t no_memory = 0xB0000000;
constexpr std::uint64_t local_apic = 0xFEE00000;
// Linear and physical: beyond what most machines have, within the physical width.
constexpr std::uint64_t beyond_all_memory = 1ULL << 39;
constexpr std::uint64_t unmapped = 6ULL << 30;
constexpr std::uint64_t not_canonical = 0x8000'0000'1000;

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

enum class Raised : std::uint8_t { by_the_processor, by_l0 };

// Under an L0 the second is an exit, and L0's to complete with a fault; directly both are the processor's.
void raise(Raised raised) {
    if (raised == Raised::by_the_processor) asm volatile("ud2");
    write_msr(msr_feature_control, 0);  // which is locked
}

[[noreturn]] void survived() {
    leave_part("the exception was delivered");
}

std::uint64_t l0s_memory() {
    const MemoryHole hole = top_reserved_range();
    return hole.end > hole.begin ? (hole.begin + (hole.end - hole.begin) / 2) & ~(page_size - 1) : no_memory;
}

void map_beyond_all_memory() {
    constexpr std::uint64_t large = 1U << 7;
    Page* const pointers = allocate_page();
    pointers->words[0] = beyond_all_memory | linear_page::present | linear_page::writable | large;
    boot_pml4[beyond_all_memory >> 39] = physical(pointers) | linear_page::present | linear_page::writable;
    write_cr3(read_cr3());
}

void load_idt(std::uint64_t base, std::uint16_t limit) {
    const TablePointer pointer{limit, base};
    asm volatile("lidt %0" : : "m"(pointer));
}

void load_gdt(std::uint64_t base, std::uint16_t limit) {
    const TablePointer pointer{limit, base};
    asm volatile("lgdt %0" : : "m"(pointer));
}

// The double fault has a stack of its own, which would be good still.
void break_double_faults_stack() {
    constexpr std::uint64_t first_of_the_stack_table = 0x24;  // SDM 3A figure 7-11
    const std::uint64_t task_state =
        (boot_gdt[3] >> 16 & 0xFFFFFF) | (boot_gdt[3] >> 56 << 24) | (boot_gdt[4] << 32);
    asm volatile("movq %0, (%1)" : : "r"(unmapped), "r"(task_state + first_of_the_stack_table) : "memory");
}

template <std::uint64_t (*Base)(), Raised By>
void break_idt() {
    watchdog::stop();
    if (Base() == beyond_all_memory) map_beyond_all_memory();
    load_idt(Base(), 0xFFF);
    raise(By);
    survived();
}

template <Raised By>
void break_idt_limit() {
    watchdog::stop();
    load_idt(0, 0);
    raise(By);
    survived();
}

template <std::uint64_t Stack, Raised By>
void break_stack() {
    watchdog::stop();
    break_double_faults_stack();
    if (By == Raised::by_the_processor) {
        asm volatile("movq %0, %%rsp\n\tud2" : : "r"(Stack) : "memory");
    } else {
        asm volatile("movq %0, %%rsp\n\twrmsr"
                     :
                     : "r"(Stack), "c"(msr_feature_control), "a"(0), "d"(0)
                     : "memory");
    }
    __builtin_unreachable();
}

template <std::uint64_t (*Root)()>
void break_paging() {
    watchdog::stop();
    write_cr3(Root());
    survived();
}

template <std::uint64_t (*Base)(), std::uint16_t Limit, Raised By>
void break_gdt() {
    watchdog::stop();
    load_gdt(Base(), Limit);
    raise(By);
    survived();
}

std::uint64_t nowhere() {
    return no_memory;
}
std::uint64_t beyond() {
    return beyond_all_memory;
}
std::uint64_t apic() {
    return local_apic;
}

constexpr Raised processor = Raised::by_the_processor;
constexpr Raised l0 = Raised::by_l0;

constexpr Part parts[] = {
    {"broken-idt-without-memory", break_idt<nowhere, processor>},
    {"broken-idt-without-memory-l0", break_idt<nowhere, l0>},
    {"broken-idt-beyond-all-memory", break_idt<beyond, processor>},
    {"broken-idt-beyond-all-memory-l0", break_idt<beyond, l0>},
    {"broken-idt-in-l0s-memory", break_idt<l0s_memory, processor>},
    {"broken-idt-in-l0s-memory-l0", break_idt<l0s_memory, l0>},
    {"broken-idt-in-the-local-apic", break_idt<apic, processor>},
    {"broken-idt-in-the-local-apic-l0", break_idt<apic, l0>},
    {"broken-idt-of-no-length", break_idt_limit<processor>},
    {"broken-idt-of-no-length-l0", break_idt_limit<l0>},
    {"broken-stack-not-canonical", break_stack<not_canonical, processor>},
    {"broken-stack-not-canonical-l0", break_stack<not_canonical, l0>},
    {"broken-stack-unmapped", break_stack<unmapped, processor>},
    {"broken-stack-unmapped-l0", break_stack<unmapped, l0>},
    {"broken-paging-without-memory", break_paging<nowhere>},
    {"broken-paging-beyond-all-memory", break_paging<beyond>},
    {"broken-paging-in-l0s-memory", break_paging<l0s_memory>},
    {"broken-paging-in-the-local-apic", break_paging<apic>},
    {"broken-gdt-without-memory", break_gdt<nowhere, 0xFFFF, processor>},
    {"broken-gdt-without-memory-l0", break_gdt<nowhere, 0xFFFF, l0>},
    {"broken-gdt-of-no-length", break_gdt<nowhere, 0, processor>},
    {"broken-gdt-of-no-length-l0", break_gdt<nowhere, 0, l0>},
};

}  // namespace

std::span<const Part> broken_parts() {
    return parts;
}

}  // namespace flatback::guests
