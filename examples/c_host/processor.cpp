#include "processor.h"

#include <cstdio>
#include <flatback/machine/cpu/machine.hpp>
#include <string>

#include "../minimal_host/l1.hpp"

using flatback::machine::Completion;
using flatback::machine::Instruction;
using flatback::machine::Machine;

struct processor {
    Machine machine{{}};
};

extern "C" {

processor* processor_create() {
    static processor only;
    return &only;
}

std::uint64_t* processor_page(processor* it, std::uint64_t host_physical) {
    return it->machine.memory().direct_page(host_physical);
}
std::uint64_t* processor_register(processor* it, unsigned number) {
    return &it->machine.cpu(0).registers.general[number];
}
void processor_set_cr2(processor* it, std::uint64_t value) {
    it->machine.cpu(0).registers.cr2 = value;
}
unsigned processor_physical_address_width(const processor* it) {
    return it->machine.model().physical_address_bits;
}
std::uint64_t processor_read_capability_msr(const processor* it, std::uint32_t msr) {
    return it->machine.model().vmx.read(msr).value_or(0);
}

void processor_vmxon(processor* it, std::uint64_t region) {
    it->machine.start_vmx_operation(0, region);
}
std::uint64_t processor_vmread(processor* it, std::uint32_t encoding) {
    return it->machine.current_vmcs(0)->read(encoding);
}
void processor_vmwrite(processor* it, std::uint32_t encoding, std::uint64_t value) {
    it->machine.current_vmcs(0)->write(encoding, value);
}
bool processor_vmclear(processor* it, std::uint64_t vmcs) {
    it->machine.memory().note_direct_writes();
    return !it->machine.clear_vmcs(0, vmcs);
}
bool processor_vmptrld(processor* it, std::uint64_t vmcs) {
    return !it->machine.load_vmcs(0, vmcs);
}
bool processor_invvpid(processor* it, std::uint32_t type, std::uint16_t vpid, std::uint64_t linear_address) {
    return !it->machine.invalidate_vpid(0, type, {vpid, linear_address});
}
bool processor_invept(processor* it, std::uint32_t type, std::uint64_t ept_pointer) {
    return !it->machine.invalidate_ept(0, type, {ept_pointer, 0});
}

processor_entered processor_enter(processor* it, bool launch) {
    it->machine.memory().note_direct_writes();
    const Completion entered = it->machine.enter_guest(0, launch);
    if (entered.kind == Completion::Kind::vm_exit) return PROCESSOR_EXITED;
    if (entered.kind != Completion::Kind::vm_entry) return PROCESSOR_VMFAIL;
    return entered.event ? PROCESSOR_ENTERED_WITH_EVENT : PROCESSOR_ENTERED;
}

bool processor_run_guest(processor* it, void* host, std::uint64_t* (*l1_page)(void*, std::uint64_t),
                         processor_ended (*on_exit)(void*)) {
    using minimal_host::VirtualCpu;
    const auto page = [=](std::uint64_t address) { return l1_page(host, address); };
    unsigned instructions = 0;
    const auto execute = [=](const Instruction& instruction) mutable {
        for (;;) {
            // The machine has no interrupt controller: this is the host's timer, between two instructions.
            if (++instructions % 4 == 0) {
                it->machine.take_from_guest(0);
                if (on_exit(host) == ENDED_WITH_EXIT_TO_L1) return VirtualCpu::Ended::exited_to_l1;
            }
            const Completion completion = it->machine.execute(0, instruction);
            if (completion.kind == Completion::Kind::event) return VirtualCpu::Ended::raised_exception;
            if (completion.kind != Completion::Kind::vm_exit) return VirtualCpu::Ended::done;
            const processor_ended ended = on_exit(host);
            if (ended != ENDED_NOT_YET) return static_cast<VirtualCpu::Ended>(ended);
        }
    };
    minimal_host::load_l1(page);
    const bool good = minimal_host::run_l1({it->machine, execute, page});
    for (const std::string& misuse : it->machine.misuse()) std::printf("  misuse: %s\n", misuse.c_str());
    return good && it->machine.misuse().empty();
}

}  // extern "C"
