#include "guests/bare/l1/l2.hpp"

#include "guests/bare/l1/part.hpp"

namespace flatback::guests {

L2::L2(const VmcsPlan& plan) : vmcs_address_{physical(new_vmcs_region())} {
    try_vmclear(&vmcs_address_);
    make_current();
    fill_vmcs(plan);
}

L2::~L2() {
    try_vmclear(&vmcs_address_);
}

void L2::make_current() {
    if (try_vmptrld(&vmcs_address_) != vm_succeed) leave_part("VMPTRLD of a good VMCS failed");
}

void L2::clear() {
    try_vmclear(&vmcs_address_);
    launched_ = false;
}

std::uint32_t L2::run() {
    last_fault.taken = false;
    const std::uint64_t flags = enter_l2(&registers, !launched_);
    if (flags != 0) {
        failure = outcome_of(flags);
        return no_exit;
    }
    const std::uint32_t reason = read(field::exit_reason);
    if ((reason & 0x80000000) == 0) launched_ = true;
    return reason;
}

void L2::skip_instruction() {
    write(field::guest_rip, read(field::guest_rip) + read(field::vm_exit_instruction_length));
}

bool L2::run_to(std::uint32_t reason, Line& why) {
    const std::uint32_t got = run();
    if (got == reason) return true;
    leave_part_if_time_is_up();
    if (got == no_exit) {
        why << "no entry: " << failure;
    } else {
        why << "exit reason " << std::uint64_t{got & 0xFFFF} << ((got >> 31) != 0 ? " (entry failure)" : "");
        why << ", qualification ";
        why.hexadecimal(read(field::exit_qualification)) << " guest rip ";
        why.hexadecimal(read(field::guest_rip)) << " interruption ";
        why.hexadecimal(read(field::vm_exit_interruption_information));
    }
    return false;
}

}  // namespace flatback::guests
