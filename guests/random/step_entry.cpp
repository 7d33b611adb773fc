#include <iterator>

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/exit_record.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/guest_state.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/l2_code.hpp"
#include "guests/random/log.hpp"
#include "guests/random/msr_lists.hpp"
#include "guests/random/mutations.hpp"
#include "guests/random/settle.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"
#include "vmx/field_table.hpp"

namespace flatback::guests {
namespace {

struct Guest {
    L2Mode mode;
    bool with_ept;
    GuestRegisters registers;
};
Guest guests[vmcs_regions];

void draw_event(Random& random, Line& line) {
    constexpr std::uint64_t valid = 1U << 31;
    constexpr std::uint64_t deliver_error_code = 1U << 11;
    constexpr std::uint64_t with_error_code =
        1U << 8 | 1U << 10 | 1U << 11 | 1U << 12 | 1U << 13 | 1U << 14 | 1U << 17;
    // Types 1 and 7 are bad ones: see mutations.cpp.
    const std::uint64_t type = random.number({0ULL, 2ULL, 3ULL, 3ULL, 3ULL, 4ULL, 5ULL, 6ULL});
    const std::uint64_t vector = type == 2 ? 2
                                 : type == 3
                                     ? random.number({0ULL, 1ULL, 5ULL, 6ULL, 8ULL, 13ULL, 14ULL, 17ULL})
                                 : type == 5 ? 1
                                 : type == 6 ? random.number({3ULL, 4ULL})
                                             : random.below(256);
    std::uint64_t information = valid | type << 8 | vector;
    bool error_code = type == 3 && (with_error_code >> vector & 1) != 0 && (read(field::guest_cr0) & 1) != 0;
    if (random.one_in(10)) error_code = !error_code;
    if (error_code) information |= deliver_error_code;
    write(field::vm_entry_interruption_information, information);
    write(field::vm_entry_exception_error_code, random.one_in(10) ? random.bits() : random.below(32));
    write(field::vm_entry_instruction_length,
          random.one_in(12) ? random.number({0ULL, 16ULL}) : 1 + random.below(3));
    put(line, "inject", information);
}

// States between instructions that an entry may bring: SDM 3C 27.3.1.4, 27.3.1.5.
void draw_interruptibility(Random& random, Line& line) {
    write(field::guest_interruptibility_state, random.number({1ULL, 2ULL, 8ULL, 3ULL, 4ULL, 0x10ULL}));
    put(line, "blocking", read(field::guest_interruptibility_state));
    if (!random.one_in(2)) return;
    write(field::guest_pending_debug_exceptions, random.number({0x1000ULL, 0x1ULL, 0x1001ULL, 0x2002ULL}));
    put(line, "pending", read(field::guest_pending_debug_exceptions));
}

void draw_debugging(Random& random, Line& line) {
    write(field::guest_rflags, read(field::guest_rflags) | random.some_of(0x10100));
    if (random.one_in(2))
        write(field::guest_dr7, random.number({0x400ULL, 0x401ULL, 0x30401ULL, 0x10401ULL, 0x2400ULL}));
    const std::uint64_t address = l2_memory::code + random.below(slots) * slot_size;
    asm volatile("movq %0, %%dr0" : : "r"(address));
    put(line, "rflags", read(field::guest_rflags));
    put(line, "dr7", read(field::guest_dr7));
}

// After an exit that is not an instruction to be skipped, L2 goes on in its next slot.
void move_on(const Guest& guest, std::uint64_t slot) {
    write(field::guest_rip, slot_rip(guest.mode, slot));
    write(field::guest_interruptibility_state, 0);
    write(field::guest_pending_debug_exceptions, 0);
    // Execution goes on without single steps but for those that are drawn.
    write(field::guest_rflags, read(field::guest_rflags) & ~std::uint64_t{0x10100});
}

void start_anew(Random& random, L2Mode mode, Guest& guest, Line& line) {
    guest.mode = mode;
    std::uint32_t entry = read(field::vm_entry_controls) & ~entry_control::ia32e_mode_guest;
    if (guest.mode <= L2Mode::compatibility) entry |= entry_control::ia32e_mode_guest;
    write(field::vm_entry_controls, entry);
    write_guest_state(random, guest.mode, guest.with_ept);
    guest.registers = {};
    write_l2_code(random, code_bits(guest.mode));
    put(line, "mode", static_cast<std::uint64_t>(guest.mode));
}

// One control, as hypervisors change them between two entries: nothing else is written, and nothing is read
// of what L2 did.
void change_a_control(Random& random, Line& line) {
    struct Toggle {
        std::uint32_t encoding;
        std::uint32_t bit;
        const vmx::ControlCapability& capability;
    };
    const Capabilities& can = capabilities;
    const Toggle toggles[] = {
        {field::pin_based_vm_execution_controls.encoding, pin::external_interrupt_exiting, can.pin},
        {field::primary_processor_based_vm_execution_controls.encoding, primary::invlpg_exiting, can.primary},
        {field::primary_processor_based_vm_execution_controls.encoding, primary::pause_exiting, can.primary},
        {field::secondary_processor_based_vm_execution_controls.encoding, secondary::descriptor_table_exiting,
         can.secondary},
        {field::secondary_processor_based_vm_execution_controls.encoding, secondary::enable_rdtscp,
         can.secondary},
        {field::vm_exit_controls.encoding, exit_control::save_ia32_pat, can.exit},
        {field::vm_exit_controls.encoding, exit_control::load_ia32_efer, can.exit},
    };
    const Toggle& toggle = toggles[random.below(std::size(toggles))];
    if (!toggle.capability.may_set(toggle.bit)) return;
    write_raw(toggle.encoding, read_raw(toggle.encoding) ^ toggle.bit);
    line << " control " << vmx::name_of(toggle.encoding);
    put(line, "bit", toggle.bit);
}

// A PDPTE of the VMCS that is bad, beside a list, is the one rule with a qualification of its own that an L0
// may find in the processor's place.
void prepare_pdpte(Random& random, Guest& guest, Mutations& mutations, Line& line) {
    start_anew(random, L2Mode::pae, guest, line);
    if (random.one_in(2)) draw_lists(random, line);
    mutations.add_pdpte(random, line);
}

// What L1 does before an entry.
void prepare(Random& random, Guest& guest, Mutations& mutations, Line& line) {
    const bool anew = random.one_in(3);
    // From a sequence of its own: whatever else is drawn stays as it was.
    Random aside{Random{random}.bits()};
    if (anew && guest.with_ept && aside.one_in(8)) return prepare_pdpte(random, guest, mutations, line);
    if (anew) start_anew(random, draw_mode(random, guest.with_ept), guest, line);
    if (random.one_in(5)) {
        write_controls(random, guest.mode, guest.with_ept);
        world.guest_written[current_vmcs()] = true;
        line << " controls";
    } else if (random.one_in(4)) {
        change_a_control(random, line);
    }
    if (random.one_in(5)) {
        write_host_state(random);
        line << " host";
    }
    if (random.one_in(3)) draw_lists(random, line);
    bool alone = anew;
    const auto one_in = [&random, &alone](std::uint64_t times) {
        const bool chosen = random.one_in(times);
        if (chosen) alone = false;
        return chosen;
    };
    if (one_in(4)) draw_event(random, line);
    if (one_in(8)) draw_interruptibility(random, line);
    if (one_in(8)) draw_debugging(random, line);
    settle_single_step();
    if (random.one_in(16)) mutations.place_elsewhere(random, line);
    if (random.one_in(3)) return mutations.add_pair(random, alone, line);
    const std::uint64_t count = random.number({0ULL, 0ULL, 0ULL, 1ULL, 1ULL, 2ULL});
    for (unsigned i = 0; i < count; ++i) mutations.add(random, alone, line);
}

// Error 7 and error 8 are one to who compares; a VMREAD that fails leaves its own number behind.
void put_free_error_number(Line& line, const Outcome& outcome) {
    constexpr std::uint32_t bad_controls = 7;
    constexpr std::uint32_t bad_host = 8;
    const bool is_either = outcome == vm_fail_valid(bad_controls) || outcome == vm_fail_valid(bad_host);
    if (is_either)
        line << " VMfailValid 7 or 8";
    else
        line << " " << outcome;
    constexpr std::uint64_t no_field = 0x6FFE;
    std::uint64_t nothing = 0;
    try_vmread(no_field, nothing);
}

// One entry; false where L2 did not run, or cannot again.
bool enter_once(Random& random, Guest& guest, unsigned vmcs, bool launch, const Mutations& mutations,
                Line& line) {
    settle_before_entry(vmcs);
    last_fault.taken = false;
    const std::uint64_t flags = enter_l2(&guest.registers, launch);
    if (flags != 0) {
        if (mutations.is_error_number_free())
            put_free_error_number(line, outcome_of(flags));
        else
            line << " " << outcome_of(flags);
        // An entry that fails so has done nothing, not even loaded an MSR.
        put(line, "l1", l1_checksum());
        log_line(line);
        return false;
    }
    const std::uint32_t reason = read(field::exit_reason);
    if (reason == reason::vmx_preemption_timer_expired) {
        // L2 looped, for as many ticks as L0 left it: nothing of it can be compared.
        line << " reason=34";
        log_line(line);
        world.case_over = true;
        return false;
    }
    const bool whole = random.one_in(3);
    const Look look = log_everything ? Look::all : whole ? Look::whole : Look::brief;
    put_exit(line, reason, guest.registers, look, mutations.is_qualification_free());
    put(line, "l1", l1_checksum());
    put(line, "nmis", nmi_count);
    log_line(line);
    if (look == Look::all) {
        print_all_fields();
        print_l1_state();
    }
    settle_after_failure(reason);
    // The processor clears the valid bit at every exit, failed entries excepted (SDM 3C 28.2.5).
    if ((reason & reason::entry_failure) != 0) return false;
    note_virtual_nmi_blocking();
    world.launched[vmcs] = true;
    world.guest_written[vmcs] = false;
    return reason != reason::triple_fault;
}

// Blocked, so that it enters nothing (SDM 3C 27.1).
Outcome enter_behind_mov_ss(bool launch) {
    std::uint64_t flags = 0;
    std::uint32_t selector = 0;
    last_fault.taken = false;
    asm volatile(
        "movl %%ss, %[selector]\n\t"
        "testl %[launch], %[launch]\n\t"
        "jz 1f\n\t"
        "movl %[selector], %%ss\n\t"
        "vmlaunch\n\t"
        "jmp 2f\n"
        "1:\tmovl %[selector], %%ss\n\t"
        "vmresume\n"
        "2:\tpushfq\n\tpopq %[flags]\n"
        : [flags] "=r"(flags), [selector] "=&r"(selector)
        : [launch] "r"(static_cast<std::uint32_t>(launch))
        : "cc", "memory");
    return outcome_of(flags);
}

// What L1 does after an exit: skips an instruction, or sends L2 on.
void after_exit(Random& random, Guest& guest, std::uint64_t& slot) {
    const std::uint32_t reason = read(field::exit_reason);
    const bool is_instruction = (reason >= 10 && reason <= 31 && reason != reason::vmcall) || reason == 46 ||
                                reason == 47 || reason == 50 || reason == 53 || reason == 54 || reason == 55;
    if (is_instruction && !random.one_in(8)) {
        write(field::guest_rip, read(field::guest_rip) + read(field::vm_exit_instruction_length));
        write(field::guest_interruptibility_state, read(field::guest_interruptibility_state) & ~3ULL);
        return;
    }
    slot = (slot + 1) % slots;
    move_on(guest, slot);
}

}  // namespace

void prepare_guests(Random& random) {
    Line line;
    line << "guests";
    world.favorite_page = static_cast<unsigned>(random.of(
        {writable, no_execute, no_execute, no_execute_read_only, read_only, user, global, uncached}));
    // L2's ports and MSRs: none reaches the machine but these.
    for (Page* page : {world.io_bitmap_a, world.io_bitmap_b, world.msr_bitmap})
        for (std::uint64_t& word : page->words) word = ~std::uint64_t{0};
    world.io_bitmap_a->words[0x80 / 64] &= ~random.some_of(3);
    // SDM 3C 25.6.9: reads low and high, writes low and high, 1 KB each.
    auto* const bitmap = reinterpret_cast<std::uint8_t*>(world.msr_bitmap->words);
    const auto permit = [bitmap, &random](std::uint32_t msr) {
        const std::uint32_t half = msr >= 0xC0000000 ? 1024 : 0;
        const std::uint32_t byte = half + (msr & 0x1FFF) / 8;
        const auto bit = static_cast<std::uint8_t>(~(1U << (msr & 7)));
        if (random.one_in(2)) bitmap[byte] &= bit;
        if (random.one_in(2)) bitmap[2048 + byte] &= bit;
    };
    for (const std::uint32_t msr :
         {msr_efer, msr_pat, msr_sysenter_cs, msr_sysenter_esp, msr_sysenter_eip, msr_star, msr_lstar,
          msr_cstar, msr_fmask, msr_fs_base, msr_gs_base, msr_kernel_gs_base})
        permit(msr);
    for (unsigned i = 0; i < 2; ++i) {
        const std::uint64_t address = physical(world.vmcs[i]);
        vmptrld(address);
        Guest& guest = guests[i];
        guest.with_ept = !random.one_in(5);
        guest.mode = draw_mode(random, guest.with_ept);
        guest.registers = {};
        write_controls(random, guest.mode, guest.with_ept);
        write_host_state(random);
        write_guest_state(random, guest.mode, guest.with_ept);
        put(line, "mode", static_cast<std::uint64_t>(guest.mode));
        if (!guest.with_ept) line << " without EPT";
    }
    write_l2_code(random, code_bits(guests[1].mode));
    log_line(line);
}

void refill_current_guest(Random& random) {
    const unsigned vmcs = current_vmcs();
    Guest& guest = guests[vmcs];
    guest.with_ept = !random.one_in(5);
    guest.mode = draw_mode(random, guest.with_ept);
    guest.registers = {};
    write_controls(random, guest.mode, guest.with_ept);
    write_host_state(random);
    write_guest_state(random, guest.mode, guest.with_ept);
    write_l2_code(random, code_bits(guest.mode));
    world.guest_written[vmcs] = true;
}

void step_entry(Random& random) {
    make_a_guest_current();
    const unsigned vmcs = current_vmcs();
    if (vmcs >= 2) return;
    // An exit may change by which rules L1's addresses are translated (EFER.NXE, CR0.WP, CR4.SMAP).
    const auto use_operand = [] {
        constexpr std::uint64_t place = 0xFF0;
        return try_vmptrst(reinterpret_cast<void*>(window_address_of(world.favorite_page) + place));
    };
    const Outcome operand_before = use_operand();
    Guest& guest = guests[vmcs];
    Mutations mutations;
    Line line;
    line << "entry";
    prepare(random, guest, mutations, line);
    std::uint64_t slot = 0;
    bool launch = !world.launched[vmcs];
    if (random.one_in(25) || mutations.has_other_launch_state()) launch = !launch;
    put(line, "launch", launch ? 1 : 0);
    if (mutations.is_behind_mov_ss()) line << " behind MOV SS " << enter_behind_mov_ss(launch);
    const std::uint64_t exits = 1 + random.below(8);
    for (std::uint64_t exit = 0; exit < exits; ++exit) {
        if (!enter_once(random, guest, vmcs, launch, mutations, line)) break;
        after_exit(random, guest, slot);
        line = Line{};
        line << " again";
        launch = false;
        if (random.one_in(6)) draw_event(random, line);
        if (random.one_in(12)) draw_lists(random, line);
        if (random.one_in(4)) change_a_control(random, line);
        if (random.one_in(12)) draw_debugging(random, line);
        settle_single_step();
    }
    if (world.case_over) return;
    // Sometimes what was wrong stays.
    if (mutations.must_be_undone() || !random.one_in(12)) mutations.undo();
    write(field::vm_entry_interruption_information, 0);
    const Outcome operand_after = use_operand();
    Line sums;
    sums << " operand " << operand_before << " " << operand_after << " memory";
    put(sums, "l2", sandbox_checksum());
    put(sums, "structures", structures_checksum());
    log_line(sums);
    if (log_everything) print_memory_changes();
}

}  // namespace flatback::guests
