// The longest that one exit keeps L0 from L1: what L1 and L2 can make it do at once, each at its worst.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"

namespace flatback::guests {
namespace {

// Where L2 has one page in each 2 MB, so that each needs a table of its own.
constexpr std::uint64_t sparse = 512ULL << 30;
constexpr std::uint64_t sparse_pages = 1024;

[[noreturn]] void die(std::string_view what) {
    report_error("bare-l1", what);
    power_off();
}

// L2 touches `count` pages, `stride` apart, and comes back by VMCALL, or by an EPT violation.
std::uint64_t touch(L2& l2, std::uint64_t linear, std::uint64_t count, std::uint32_t expected) {
    l2.registers.rdi = linear;
    l2.registers.rcx = count;
    write(field::guest_rip, physical(l2_touch_sparse_pages));
    const std::uint64_t ticks = ticks_of(1, [&] { enter_l2(&l2.registers, false); });
    if (read(field::exit_reason) != expected) die("longest: an exit of another reason");
    return ticks;
}

// All that L2 filled hangs below one entry of EPT12's root, which L1 takes away without INVEPT.
void bench_violation_at_the_root() {
    const PageScope scope;
    Ept12 hierarchy;
    hierarchy.map_identity(0, 48 << 20, EptLevel::page_4k);
    Page* const target = allocate_page();
    for (std::uint64_t i = 0; i < sparse_pages; ++i) {
        hierarchy.map((1ULL << 30) + i * large_page_size, physical(target), EptLevel::page_4k);
    }
    // L2's linear addresses from `sparse` up are its physical ones from 1 GB up.
    Page* const tables[2] = {allocate_page(), allocate_page()};
    const auto* const root = reinterpret_cast<const Page*>(read_cr3());
    for (unsigned i = 0; i < 512; ++i) tables[0]->words[i] = root->words[i];
    tables[0]->words[sparse >> 39] = physical(tables[1]) | 3;
    for (std::uint64_t i = 0; i < 4; ++i) {
        Page* const directory = allocate_page();
        tables[1]->words[i] = physical(directory) | 3;
        for (std::uint64_t j = 0; j < 512; ++j) directory->words[j] = ((i + 1) << 30 | j << 21) | 0x83;
    }
    VmcsPlan plan = usual_plan(physical(l2_vmcall_loop), hierarchy.pointer());
    plan.cr3 = physical(tables[0]);
    L2 l2{plan};
    run_or_die(l2, reason::vmcall);
    touch(l2, sparse, sparse_pages, reason::vmcall);
    auto* const entry = reinterpret_cast<volatile std::uint64_t*>(hierarchy.pointer() & ~0xFFFULL);
    const std::uint64_t before = *entry;
    *entry = 0;
    // The first page that is not filled.
    const std::uint64_t ticks = touch(l2, sparse + sparse_pages * large_page_size, 1, reason::ept_violation);
    *entry = before;
    report_bench("longest_ept_violation", ticks);
    const InvalidationDescriptor descriptor{hierarchy.pointer(), 0};
    report_bench("longest_invept", ticks_of(1, [&] { invept(invept_type::single_context, descriptor); }));
}

// Another active VMCS has to go for each.
void bench_vmptrld_of_many() {
    const PageScope scope;
    constexpr unsigned count = 40;
    std::uint64_t addresses[count];
    for (std::uint64_t& address : addresses) address = physical(new_vmcs_region());
    for (const std::uint64_t& address : addresses) vmclear(address);
    std::uint64_t most = 0;
    for (unsigned round = 0; round < 2; ++round) {
        for (const std::uint64_t& address : addresses) {
            const std::uint64_t ticks = ticks_of(1, [&] { vmptrld(address); });
            if (ticks > most) most = ticks;
        }
    }
    report_bench("longest_vmptrld", most);
    const std::uint64_t& last = addresses[count - 1];
    report_bench("longest_vmclear", ticks_of(1, [&] { vmclear(last); }));
    // VMXOFF with all of them active: in as many parts as L0 makes of it.
    const std::uint64_t vmxon_address = physical(vmxon_region());
    const std::uint64_t all = ticks_of(1, [] { asm volatile("vmxoff" : : : "cc", "memory"); });
    if (try_vmxon(&vmxon_address) != vm_succeed) die("longest: VMXON failed");
    report_bench("longest_vmxoff_of_32", all);
    for (const std::uint64_t& address : addresses) vmclear(address);
}

// As many entries as every processor allows (SDM 3D A.6), of MSRs that live in no VMCS and of such that do.
void bench_msr_lists() {
    constexpr unsigned count = 512;
    struct MsrEntry {
        std::uint32_t index;
        std::uint32_t reserved;
        std::uint64_t value;
    };
    const auto time = [](std::string_view name, std::uint32_t msr, bool at_exit) {
        const PageScope scope;
        Page* const pages = allocate_page();
        if (allocate_page() != pages + 1) die("longest: two pages that do not follow each other");
        auto* const list = reinterpret_cast<MsrEntry*>(pages);
        for (unsigned i = 0; i < count; ++i) list[i] = {msr, 0, read_msr(msr)};
        L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        run_or_die(l2, reason::vmcall);
        if (at_exit) {
            write(field::vm_exit_msr_store_address, physical(list));
            write(field::vm_exit_msr_store_count, count);
            write(field::vm_exit_msr_load_address, physical(list));
            write(field::vm_exit_msr_load_count, count);
        } else {
            write(field::vm_entry_msr_load_address, physical(list));
            write(field::vm_entry_msr_load_count, count);
        }
        const std::uint64_t ticks = ticks_of(1, [&] { enter_l2(&l2.registers, false); });
        if (read(field::exit_reason) != reason::vmcall) die("longest: an exit of another reason");
        report_bench(name, ticks);
    };
    constexpr std::uint32_t msr_lstar = 0xC0000082;
    constexpr std::uint32_t msr_sysenter_eip = 0x176;
    time("longest_msr_list_at_entry", msr_lstar, false);
    time("longest_msr_list_at_entry_vmcs", msr_sysenter_eip, false);
    time("longest_msr_lists_at_exit", msr_lstar, true);
}

// Each change of the local APIC's mode, the first of each kind too; and then the page moved.
void bench_local_apic() {
    const Deviation one_way{"IA32_APIC_BASE.EN, once 0, is 0 until reset", Deviation::Seen::panic};
    if (shows(one_way) || (cpuid(1).ecx >> 21 & 1) == 0) return;
    constexpr std::uint32_t msr_apic_base = 0x1B;
    constexpr std::uint64_t x2apic_enable = 1U << 10;
    constexpr std::uint64_t global_enable = 1U << 11;
    const std::uint64_t start = read_msr(msr_apic_base);
    const std::uint64_t disabled = start & ~(x2apic_enable | global_enable);
    const std::uint64_t xapic = disabled | global_enable;
    std::uint64_t most = 0;
    for (const std::uint64_t base :
         {xapic | x2apic_enable, disabled, xapic, (xapic & 0xFFF) | 0xFED40000, start}) {
        const std::uint64_t ticks = ticks_of(1, [&] { write_msr(msr_apic_base, base); });
        if (ticks > most) most = ticks;
    }
    report_bench("longest_apic_switch", most);
}

}  // namespace

void bench_longest() {
    bench_local_apic();
    bench_violation_at_the_root();
    bench_msr_lists();
    bench_vmptrld_of_many();
}

}  // namespace flatback::guests
