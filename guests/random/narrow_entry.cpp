// VM entries of a 32-bit L1, with 32-bit or PAE paging (SDM 3C 27.2.4: its host is no 64-bit one, its L2 is
// not in IA-32e mode), and what an exit leaves there.
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/exit_record.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/guest_state.hpp"
#include "guests/random/l2_code.hpp"
#include "guests/random/log.hpp"
#include "guests/random/mutations.hpp"
#include "guests/random/narrow_parts.hpp"
#include "guests/random/settle.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t long_mode = 0x500;  // IA32_EFER.LME and LMA

std::uint64_t low(const volatile void* pointer) {
    return physical(pointer) & 0xFFFFFFFF;
}

// Of a 32-bit host: segments that its code needs, tables with its gates.
void write_narrow_host(Random& random, const NarrowScript& script) {
    write_host_state(random);
    write(field::host_cs_selector, selector::code32);
    write(field::host_ds_selector, selector::data);
    // The base of an unusable FS or GS is undefined outside 64-bit mode (SDM 3C 28.5.2).
    write(field::host_fs_selector, selector::data);
    write(field::host_gs_selector, selector::data);
    write(field::host_ia32_efer, read(field::host_ia32_efer) & ~long_mode);
    constexpr std::uint64_t page_size_extensions = 0x10;
    constexpr std::uint64_t pae = 0x20;
    constexpr std::uint64_t process_contexts = 0x20000;
    constexpr std::uint64_t paging = page_size_extensions | pae | process_contexts;
    write(field::host_cr4, (read(field::host_cr4) & ~paging) | (script.cr4 & paging));
    write(field::host_cr3, script.cr3);
    write(field::host_idtr_base, low(&narrow_gates));
    write(field::host_rip, low(reinterpret_cast<const void*>(&narrow_exit)));
    write(field::vm_exit_controls,
          read(field::vm_exit_controls) & ~std::uint64_t{exit_control::host_address_space_size});
}

}  // namespace

void fill_narrow_guest(Random& random, NarrowScript& script, Line& line) {
    const bool with_ept = !random.one_in(5);
    L2Mode mode{};
    do {
        mode = draw_mode(random, with_ept);
    } while (mode <= L2Mode::compatibility);
    write_controls(random, mode, with_ept);
    write_narrow_host(random, script);
    write_guest_state(random, mode, with_ept);
    write_l2_code(random, code_bits(mode));
    put(line, "mode", static_cast<std::uint64_t>(mode));
    if (!with_ept) line << " without EPT";
    Mutations mutations;
    if (random.one_in(3)) mutations.add_to_guest_state(random, line);
    // SDM 3C 27.2.4: both are for an L1 in IA-32e mode.
    if (random.one_in(12)) {
        write(field::vm_entry_controls,
              read(field::vm_entry_controls) | std::uint64_t{entry_control::ia32e_mode_guest});
        line << " ia32e";
    }
    if (random.one_in(12)) {
        write(field::vm_exit_controls,
              read(field::vm_exit_controls) | std::uint64_t{exit_control::host_address_space_size});
        line << " host64";
    }
    world.guest_written[current_vmcs()] = true;
    settle_before_entry(current_vmcs());
    script.entries = static_cast<std::uint32_t>(1 + random.below(NarrowScript::most_entries));
    for (auto& exit : script.exit)
        exit.next_rip = static_cast<std::uint32_t>(slot_rip(mode, random.below(slots)));
}

void put_narrow_exits(const NarrowScript& script) {
    Line line;
    line << "  entries";
    put(line, "exits", script.exits);
    if (script.entry_flags != 0) {
        put(line, "flags", script.entry_flags & arithmetic_flags);
        if ((script.entry_flags & flag_zero) != 0) put(line, "number", read(field::vm_instruction_error));
    }
    for (unsigned i = 0; i < script.exits; ++i) {
        put(line, "reason", script.exit[i].reason);
        // L2 looped, for as many ticks as an L0 left it.
        if (script.exit[i].reason == reason::vmx_preemption_timer_expired) {
            world.case_over = true;
            log_line(line);
            return;
        }
        put(line, "rip", script.exit[i].rip);
    }
    log_line(line);
    if (script.exits == 0) return;
    Line last;
    last << "  last";
    GuestRegisters registers{};
    registers.rax = script.registers[0];
    registers.rbx = script.registers[1];
    registers.rcx = script.registers[2];
    registers.rdx = script.registers[3];
    registers.rsi = script.registers[4];
    registers.rdi = script.registers[5];
    registers.rbp = script.registers[6];
    const std::uint32_t reason = script.exit[script.exits - 1].reason;
    // A VMfail behind it, too, leaves what the exit saved.
    put_exit(last, reason, registers, script.entry_flags == 0 ? Look::whole : Look::brief);
    log_line(last);
    Line state;
    state << "  host";
    for (const std::uint32_t each : script.state) put(state, "is", each);
    log_line(state);
    if ((reason & reason::entry_failure) == 0) note_virtual_nmi_blocking();
    settle_after_failure(reason);
    // An exit due to an NMI blocks them until an IRET.
    asm volatile("int $0x30" : : : "memory");
}

}  // namespace flatback::guests
