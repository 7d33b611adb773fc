#include "metal/processors/other_processors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <span>

#include "metal/ground/bytes.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/given_processors.hpp"
#include "metal/processors/processor_features.hpp"
#include "metal/processors/smm_base.hpp"
#include "x86/control_registers.hpp"
#include "x86/cpuid.hpp"
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

constinit volatile std::uint32_t in_place = 0;  // in VMX operation
constinit std::array<std::uint32_t, most_places> apic_ids{};
constinit vmx::Capabilities capabilities{};
constinit ProcessorFeatures features{};  // of the first one

void allow_vmxon() {
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
}

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
    for (unsigned milliseconds = 0; milliseconds < 100 && in_place < expected; ++milliseconds)
        wait_microseconds(1000);
}

// One that L1 gets, on its own stack: in VMX operation, where INIT is blocked, until L0 is ready for it.
void run_given_processor(ProcessorLocal& here) {
    load_descriptor_tables(here);
    allow_vmxon();
    here.differs = difference(features, own_features());
    if (try_vmxon(here.vmxon_region)) {
        here.arrived.store(true);
        __atomic_fetch_add(&in_place, 1, __ATOMIC_SEQ_CST);
    }
    for (;;) {
        if (auto* const enter = here.enter.load()) enter(here);
        asm volatile("pause" ::: "memory");
    }
}

}  // namespace

// On the other processor, with a small stack of its own. place: from 0 on.
extern "C" [[noreturn]] void park_this_processor(std::uint32_t place) {
    apic_ids[place] = own_apic_id();
    if (ProcessorLocal* const given = find_processor(apic_ids[place]);
        given != nullptr && given->number != 0) {
        asm volatile(
            "movq %0, %%rsp\n\t"
            "xorl %%ebp, %%ebp\n\t"
            "call *%1"
            :
            : "r"(given->exit_stack.data() + given->exit_stack.size() - 64), "r"(&run_given_processor),
              "D"(given)
            : "memory");
        __builtin_unreachable();
    }
    load_parked_descriptor_tables();
    allow_vmxon();
    std::byte* region = other_processors_memory + place * place_size;
    const std::uint32_t revision = capabilities.basic.revision();
    std::memcpy(region, &revision, sizeof revision);
    if (try_vmxon(physical_of(region))) __atomic_fetch_add(&in_place, 1, __ATOMIC_SEQ_CST);
    halt_forever();
}

namespace {

// Their objects, before they start.
void prepare_given(std::span<const std::uint32_t> apic_ids_given, PagePool& pages) {
    features = own_features();
    first_processor.apic_id = own_apic_id();
    const std::uint32_t revision = capabilities.basic.revision();
    for (const std::uint32_t apic_id : apic_ids_given) {
        if (apic_id == first_processor.apic_id) continue;
        constexpr std::size_t pages_of_one = (sizeof(ProcessorLocal) + page_size - 1) / page_size;
        void* const memory = pages.allocate_contiguous(pages_of_one);
        if (memory == nullptr) {
            log::info("warning: there is no memory for all processors; L1 gets ", given_processors().size());
            return;
        }
        auto& local = *new (memory) ProcessorLocal;
        local.apic_id = apic_id;
        void* const region = pages.allocate_page_or_panic("a VMXON region");
        std::memcpy(region, &revision, sizeof revision);
        local.vmxon_region = physical_of(region);
        if (!add_processor(local)) return;
    }
}

// Those that did not come, or are not as the first one is.
void judge_given() {
    for (std::size_t number = given_processors().size() - 1; number > 0; --number) {
        ProcessorLocal& each = *given_processors()[number];
        if (!each.arrived.load()) {
            log::info("warning: the processor with APIC identifier ", each.apic_id,
                      " did not start, or not enter VMX operation: L1 does not get it");
            remove_processor(each);
        } else if (each.differs != nullptr) {
            refuse("the processor with APIC identifier ", each.apic_id, " is not as the first one, ",
                   first_processor.apic_id, ", in ", each.differs, "; boot with cpus=1");
        }
    }
}

}  // namespace

void start_other_processors(unsigned expected, std::span<const std::uint32_t> given,
                            const Processor& processor, PagePool& pages, const MemoryMap& memory,
                            std::span<const PhysicalRange> occupied) {
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
    prepare_given(given, pages);
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
    if (in_place < expected) apic.send_to_all_others(command_init);
    std::memcpy(low, before, page_size);
    pages.free_page(before);
    const auto arrived = std::min<std::uint32_t>(std::uint32_t{other_processors_arrived}, places);
    static_cast<void>(move_system_management_bases(apic, std::span{apic_ids}.first(arrived), pages));

    judge_given();
    const std::uint32_t seen = std::max<std::uint32_t>(expected, std::uint32_t{other_processors_arrived});
    const auto others = static_cast<std::uint32_t>(given_processors().size() - 1);
    if (others != 0) log::info("processors of L1: ", others + 1);
    if (in_place > others)
        log::info("other processors parked in VMX operation, where L1 cannot start them: ",
                  in_place - others);
    if (in_place < seen) {
        log::info(
            "warning: ", seen - in_place,
            " of the other processors did not start, or not enter VMX operation; an L1 that starts them, "
            "runs them outside of L0");
    }
}

}  // namespace flatback::metal
