// INS and OUTS at ports that the host keeps (SDM 2A "INS", 2B "OUTS"): of L1's here, of L2's in
// nested/vcpu/l2_string_io.hpp.
//
// One element an exit: a repeated instruction comes again for the next one, so that no exit's time depends on
// its count, and interrupts and traps come between the elements as on the processor.
#pragma once

#include <cstdint>

#include "../../vmx/exit_qualification.hpp"
#include "../../vmx/instruction_information.hpp"
#include "../l1/complete_instruction.hpp"
#include "instructions.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

namespace detail {
template <typename P>
concept MovesStrings = requires(P& port, vmx::IoAccess access) {
    port.output(access, port.input(access));
};

// What a register holds after a part of it, as wide as the address size, was written (SDM 1 3.4.1.1).
constexpr std::uint64_t merge_address(std::uint64_t before, std::uint64_t value, unsigned address_bits) {
    if (address_bits == 16) return (before & ~std::uint64_t{0xffff}) | (value & 0xffff);
    return address_bits == 32 ? value & 0xffffffff : value;
}
}  // namespace detail

template <Port P>
bool NestedVcpu<P>::string_io() {
    if constexpr (detail::MovesStrings<P>) {
        if (!capabilities_.promised.basic.reports_ins_outs_information()) return false;
        const auto done = string_step([this](const L1PagingState& state, std::uint64_t linear, unsigned size,
                                             bool write) { return locate_l1(state, linear, size, write); });
        if (!done) inject(done.error());
        return true;
    }
    return false;
}

// One element, or the end, of an INS or OUTS of the guest whose VMCS is current, where memory is found by
// locate(state, linear, size, write). The privilege level and the task's permission bitmap the processor has
// looked at before the exit, the memory operand not (SDM 3C 26.1.1).
template <Port P>
template <typename Locate>
typename NestedVcpu<P>::Checked NestedVcpu<P>::string_step(Locate&& locate) {
    const auto access = vmx::IoAccess::decode(get(vmx::field::exit_qualification));
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const unsigned bits = information.address_bits();
    const std::uint64_t rflags = get(vmx::field::guest_rflags) & ~x86::rflags::resume;
    std::uint64_t& count = port_.general_register(1);
    if (access.has_rep && detail::merge_address(0, count, bits) == 0) {
        finish_string(rflags, true);
        return {};
    }
    std::uint64_t& index = port_.general_register(access.is_in ? 7 : 6);  // RDI, RSI
    const auto done = string_element(access, access.is_in ? x86::SegmentRegister::es : information.segment(),
                                     detail::merge_address(0, index, bits), rflags, locate);
    if (!done) return done;
    const bool downwards = (rflags & x86::rflags::direction) != 0;
    index = detail::merge_address(index, downwards ? index - access.size : index + access.size, bits);
    if (access.has_rep) count = detail::merge_address(count, count - 1, bits);
    finish_string(rflags, !access.has_rep || detail::merge_address(0, count, bits) == 0);
    return {};
}

// Between memory and the ports. Where memory faults the ports are not touched.
template <Port P>
template <typename Locate>
typename NestedVcpu<P>::Checked NestedVcpu<P>::string_element(vmx::IoAccess access,
                                                              x86::SegmentRegister segment,
                                                              std::uint64_t offset, std::uint64_t rflags,
                                                              Locate&& locate) {
    const bool is_64_bit = x86::is_64_bit_mode(get(vmx::field::guest_ia32_efer),
                                               x86::AccessRights{get(vmx::field::guest_cs_access_rights)});
    const auto linear = segmented_address(segment, offset, is_64_bit, access.size, access.is_in);
    if (!linear) return Unexpected{linear.error()};
    L1PagingState state = l1_paging_state();
    state.user_mode = x86::AccessRights{get(vmx::field::guest_ss_access_rights)}.privilege_level() == 3;
    const bool aligned = (state.cr0 & x86::cr0::alignment_mask) == 0 ||
                         (rflags & x86::rflags::alignment_check) == 0 || *linear % access.size == 0;
    if (state.user_mode && !aligned) return Unexpected{detail::with_code(x86::Vector::alignment_check)};
    const auto found = locate(state, *linear, access.size, access.is_in);
    if (!found) return Unexpected{found.error()};
    std::uint32_t value = 0;
    if (access.is_in) {
        value = port_.input(access);
        copy_l1(*found, &value, access.size, true);
    } else {
        copy_l1(*found, &value, access.size, false);
        port_.output(access, value);
    }
    note_breakpoints(*linear, access.size, access.is_in);
    return {};
}

// last: else the instruction is interrupted before its next element, where RF is 1 (SDM 3C 28.3.3).
template <Port P>
void NestedVcpu<P>::finish_string(std::uint64_t rflags, bool last) {
    put(vmx::field::guest_rflags, last ? rflags : rflags | x86::rflags::resume);
    complete_instruction(
        [this, last](auto what) {
            using Value = typename decltype(what)::Value;
            const bool length = what.encoding == vmx::field::vm_exit_instruction_length.encoding;
            return length && !last ? Value{0} : static_cast<Value>(get(what));
        },
        [this](auto what, auto word) { put(what, static_cast<typename decltype(what)::Value>(word)); },
        rflags);
}

}  // namespace flatback::nested
