// What the end of an emulated instruction does to a guest: for the engine and for hosts, which emulate
// others.
#pragma once

#include <cstdint>

#include "../../vmx/field.hpp"
#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/segment.hpp"

namespace flatback::nested {

// RIP moves on, what blocked interrupts for one instruction is over, and a single-stepping guest is due its
// trap. RFLAGS.RF is 0 already: the exit of an instruction saves it so (SDM 3C 28.3.3). read and write reach
// the guest's VMCS; rflags: the guest's, as before the instruction.
template <typename Read, typename Write>
[[gnu::always_inline]] inline void complete_instruction(Read&& read, Write&& write, std::uint64_t rflags) {
    namespace field = vmx::field;
    const std::uint64_t rip = read(field::guest_rip);
    std::uint64_t next = rip + read(field::vm_exit_instruction_length);
    // Outside 64-bit mode RIP wraps at 4 GB.
    if (((next ^ rip) >> 32) != 0) [[unlikely]] {
        const x86::AccessRights code{read(field::guest_cs_access_rights)};
        if (!x86::is_64_bit_mode(read(field::guest_ia32_efer), code)) next &= 0xffffffff;
    }
    write(field::guest_rip, next);
    const std::uint32_t state = read(field::guest_interruptibility_state);
    constexpr std::uint32_t for_one_instruction =
        vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
    if ((state & for_one_instruction) != 0) [[unlikely]] {
        write(field::guest_interruptibility_state, state & ~for_one_instruction);
    }
    // With IA32_DEBUGCTL.BTF only branches trap (SDM 3B 18.4.3).
    if ((rflags & x86::rflags::trap) != 0 &&
        (read(field::guest_ia32_debugctl) & x86::debugctl::branch_single_step) == 0) [[unlikely]] {
        write(field::guest_pending_debug_exceptions,
              read(field::guest_pending_debug_exceptions) | vmx::pending_debug::single_step);
    }
}

}  // namespace flatback::nested
