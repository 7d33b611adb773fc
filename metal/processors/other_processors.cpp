#include "metal/processors/other_processors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "metal/ground/bytes.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/log.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/smm_base.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"
#include "x86/paging.hpp"

// metal/processors/other_processors.S
extern "C" {
extern const std::byte trampoline_start[], trampoline_words[], trampoline_end[];

// Written before the others start; the first by them.
constinit volatile std::uint32_t other_processors_arrived = 0;
constinit std::uint32_t other_processors_places = 0;
constinit std::uint64_t other_processors_cr3 = 0;
constinit std::byte* other_processors_memory = nullptr;
}

namespace flatback::metal {
namespace {

constexpr std::uint64_t page_size = x86::page_size_4k;
constexpr std::uint64_t place_size = 2 * page_size;  // in metal/processors/other_processors.S too
constexpr std::uint32_t most_places = 255;

constexpr std::uint32_t command_init = 0x4500;  // INIT, assert (SDM 3A 11.6.1)
constexpr std::uint32_t command_start = 0x4600;

constinit volatile std::uint32_t parked = 0;
constinit std::array<std::uint32_t, most_places> apic_ids{};
constinit vmx::Capabilities capabilities{};

bool try_vmxon(x86::Hpa region) {
    const std::uint64_t address = region.value();
    bool failed = false;
    bool faulted = false;
    asm volatile(
        "1: vmxon %2\n"
        "setna %0\n"
        "jmp 3f\n"
        "2: movb $1, %1\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "+r"(failed), "+r"(faulted)
        : "m"(address)
        : "memory", "cc");
    return !failed && !faulted;
}

// In a table of its own, L0's address space and the first 2 MB as they are: the trampoline lives in both.
std::uint64_t make_first_tables(PagePool& pages) {
    namespace bit = x86::page_entry;
    constexpr std::uint64_t table_bits = bit::present | bit::writable;
    auto* pml4 =
        static_cast<std::uint64_t*>(pages.allocate_page_or_panic("the other processors' page tables"));
    auto* pdpt =
        static_cast<std::uint64_t*>(pages.allocate_page_or_panic("the other processors' page tables"));
    auto* directory =
        static_cast<std::uint64_t*>(pages.allocate_page_or_panic("the other processors' page tables"));
    std::memcpy(pml4, direct_map(x86::Hpa{read_cr3() & bit::address_mask}), page_size);
    pml4[0] = physical_of(pdpt).value() | table_bits;
    pdpt[0] = physical_of(directory).value() | table_bits;
    directory[0] = table_bits | bit::page_size;
    return physical_of(pml4).value();
}

void put_trampoline(std::span<std::byte> page, std::uint64_t address, std::uint64_t cr3) {
    const auto size = static_cast<std::size_t>(trampoline_end - trampoline_start);
    const auto words = static_cast<std::size_t>(trampoline_words - trampoline_start);
    copy_bytes(page.data(), trampoline_start, size);
    const auto add = [&](std::size_t at, std::uint64_t value) {
        const std::uint32_t before = *read<std::uint32_t>(page, words + at);
        static_cast<void>(write(page, words + at, static_cast<std::uint32_t>(before + value)));
    };
    add(0, cr3);
    add(4, address);
    add(18, address);
}

// Waits, 100 ms at most, until so many have come that no more is expected.
void wait_for_all(unsigned expected) {
    for (unsigned milliseconds = 0; milliseconds < 100 && parked < expected; ++milliseconds)
        wait_microseconds(1000);
}

}  // namespace

// On the other processor, with a stack of its own. place: from 0 on.
extern "C" [[noreturn]] void park_this_processor(std::uint32_t place) {
    load_parked_descriptor_tables();
    // SDM 3C 24.7; where the firmware has locked it, VMXON tells.
    if (const auto control = try_read_msr(x86::msr::ia32_feature_control);
        control && (*control & x86::feature_control::locked) == 0) {
        static_cast<void>(
            try_write_msr(x86::msr::ia32_feature_control,
                          *control | x86::feature_control::locked | x86::feature_control::vmx_outside_smx));
    }
    const std::uint64_t cr0 = (read_cr0() | capabilities.cr0.fixed0) & capabilities.cr0.fixed1;
    const std::uint64_t cr4 =
        (read_cr4() | x86::cr4::machine_check_enable | capabilities.cr4.fixed0 | x86::cr4::vmx_enable) &
        capabilities.cr4.fixed1;
    asm volatile("mov %0, %%cr0; mov %1, %%cr4" ::"r"(cr0), "r"(cr4) : "memory");
    std::byte* region = other_processors_memory + place * place_size;
    const std::uint32_t revision = capabilities.basic.revision();
    std::memcpy(region, &revision, sizeof revision);
    apic_ids[place] = own_apic_id();
    if (try_vmxon(physical_of(region))) __atomic_fetch_add(&parked, 1, __ATOMIC_SEQ_CST);
    halt_forever();
}

void park_other_processors(unsigned expected, const Processor& processor, PagePool& pages,
                           const MemoryMap& memory, std::span<const PhysicalRange> occupied) {
    const BootApic apic;
    if (!apic.is_enabled()) {
        log::info(
            "warning: the local APIC is off, so that L0 cannot start the other processors; an L1 that does, "
            "runs them outside of L0");
        return;
    }
    constexpr PhysicalRange below_1m{page_size, 0xA0000};
    const auto page = memory.find_highest(page_size, page_size, below_1m, occupied);
    // More than expected may be there: those that the firmware's table leaves out.
    const std::uint32_t places = std::min<std::uint32_t>(2 * expected + 8, most_places);
    auto* place_memory = static_cast<std::byte*>(pages.allocate_contiguous(places * place_size / page_size));
    if (!page || place_memory == nullptr) {
        log::info(
            "warning: there is no memory to start the other processors in; an L1 that starts them, runs them "
            "outside of L0");
        return;
    }
    capabilities = processor.capabilities;
    other_processors_places = places;
    other_processors_memory = place_memory;
    other_processors_cr3 = read_cr3();

    std::byte* const low = direct_map_as<std::byte>(x86::Hpa{page->start});
    std::byte* const before = static_cast<std::byte*>(pages.allocate_page_or_panic("what lay below 1 MB"));
    std::memcpy(before, low, page_size);
    put_trampoline({low, page_size}, page->start, make_first_tables(pages));

    // SDM 3A 9.4.4.1.
    const std::uint32_t start = command_start | static_cast<std::uint32_t>(page->start / page_size);
    apic.send_to_all_others(command_init);
    wait_microseconds(10'000);
    apic.send_to_all_others(start);
    wait_microseconds(200);
    if (other_processors_arrived < expected) apic.send_to_all_others(start);
    wait_for_all(expected);
    // Whoever comes only now is stopped again: what it would run is gone. The others do not take INIT any
    // more.
    if (parked < expected) apic.send_to_all_others(command_init);
    std::memcpy(low, before, page_size);
    pages.free_page(before);
    const auto arrived = std::min<std::uint32_t>(std::uint32_t{other_processors_arrived}, places);
    static_cast<void>(move_system_management_bases(apic, std::span{apic_ids}.first(arrived), pages));

    const std::uint32_t in_place = parked;
    const std::uint32_t seen = std::max<std::uint32_t>(expected, std::uint32_t{other_processors_arrived});
    if (in_place != 0)
        log::info("other processors parked in VMX operation, where L1 cannot start them: ", in_place);
    if (in_place < seen) {
        log::info(
            "warning: ", seen - in_place,
            " of the other processors did not start, or not enter VMX operation; an L1 that starts them, "
            "runs them outside of L0");
    }
}

}  // namespace flatback::metal
