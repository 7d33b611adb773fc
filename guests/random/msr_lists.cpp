#include "guests/random/msr_lists.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/log.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

// MSR areas (SDM 3C table 25-14): index in bits 31:0, value in the second quadword.
struct Entry {
    std::uint64_t index;
    std::uint64_t value;
};

Entry good_entry(Random& random) {
    const std::uint64_t address = random.one_in(2) ? random.bits() >> 17 : random.bits() | 0xFFFF800000000000;
    switch (random.below(7)) {
        case 0:
            return {msr_sysenter_cs, random.bits() & 0xFFFFFFFF};
        case 1:
            return {msr_sysenter_esp, address};
        case 2:
            return {msr_sysenter_eip, address};
        case 3:
            return {msr_pat, usual_pat};
        case 4:
            return {msr_star, random.bits()};
        case 5:
            return {msr_lstar, address};
        default:
            return {msr_kernel_gs_base, address};
    }
}

Entry bad_entry(Random& random) {
    switch (random.below(6)) {
        case 0:
            return {msr_fs_base, 0};  // SDM 3C 27.4: never by a list
        case 1:
            return {msr_gs_base, 0};
        case 2:
            return {0x808, 0};  // an x2APIC register
        case 3:
            return {msr_pat, 0x0206060606060606};
        case 4:
            return {msr_sysenter_esp, 0x800000000000};
        default:
            return {msr_star | 1ULL << (32 + random.below(32)), 0};
    }
}

Entry* entries(Page* page) {
    return reinterpret_cast<Entry*>(page->words);
}

}  // namespace

void draw_lists(Random& random, Line& line) {
    const std::uint64_t loads = random.below(4);
    for (unsigned i = 0; i < loads; ++i) {
        Entry& entry = entries(world.entry_load)[i];
        entry = random.one_in(8) ? bad_entry(random) : good_entry(random);
        if (random.one_in(6)) entry = {msr_efer, read(field::guest_ia32_efer) ^ random.some_of(0x801)};
        put(line, "load", entry.index);
    }
    write(field::vm_entry_msr_load_count, loads);
    const std::uint64_t stores = random.below(3);
    for (unsigned i = 0; i < stores; ++i) entries(world.exit_store)[i] = {good_entry(random).index, 0};
    write(field::vm_exit_msr_store_count, stores);
    // A bad one is a VMX abort (SDM 3C 28.7), which ends the machine.
    const std::uint64_t exit_loads = random.below(3);
    for (unsigned i = 0; i < exit_loads; ++i) {
        entries(world.exit_load)[i] = good_entry(random);
        if (random.one_in(4)) entries(world.exit_load)[i] = {msr_efer, usual_efer ^ random.some_of(0x801)};
    }
    write(field::vm_exit_msr_load_count, exit_loads);
    put(line, "lists", loads << 8 | stores << 4 | exit_loads);
}

void draw_entry_list(Random& random, std::uint64_t count) {
    for (unsigned i = 0; i < count; ++i) entries(world.entry_load)[i] = good_entry(random);
}

void spoil_entry_list(Random& random, std::uint64_t entry) {
    entries(world.entry_load)[entry] = bad_entry(random);
}

}  // namespace flatback::guests
