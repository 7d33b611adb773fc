// L1 while it runs: what the other headers of this folder work on, over the engine, the host's Port and its
// processor. Holds nothing itself, so that one is made for an exit and forgotten. vmcs01 is current.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../nested/l1/complete_instruction.hpp"
#include "../nested/vcpu.hpp"
#include "../nested/vmcs/current_vmcs.hpp"
#include "control_register_access.hpp"
#include "outcome.hpp"
#include "processor.hpp"

namespace flatback::host {

template <nested::Port P, Processor M>
class L1 final : public nested::CurrentVmcs<P> {
public:
    L1(nested::NestedVcpu<P>& vcpu, P& port, M& processor)
        : nested::CurrentVmcs<P>(port), vcpu_(vcpu), processor_(processor) {}

    [[nodiscard]] const nested::Capabilities& capabilities() const { return vcpu_.capabilities(); }
    [[nodiscard]] bool in_vmx_operation() const { return vcpu_.in_vmx_operation(); }
    [[nodiscard]] std::uint64_t& general_register(unsigned number) {
        return this->port_.general_register(number);
    }
    [[nodiscard]] const std::byte* l1_page(x86::Gpa<x86::L1> address) { return this->port_.l1_page(address); }
    void translations_changed() { vcpu_.l1_translations_changed(); }
    void efer_changed() { vcpu_.l1_msr_changed(); }

    [[nodiscard]] CpuidRegisters cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
        return processor_.cpuid(leaf, subleaf);
    }
    [[nodiscard]] CpuidRegisters hypervisor_leaf(std::uint32_t leaf, std::uint32_t subleaf) {
        return processor_.hypervisor_leaf(leaf, subleaf);
    }
    [[nodiscard]] bool apic_enabled() { return processor_.apic_enabled(); }
    void set_cache_control(std::uint64_t bits) { processor_.set_cache_control(bits); }
    [[nodiscard]] bool write_xcr0(std::uint64_t value) { return processor_.write_xcr0(value); }
    void write_back_caches() { processor_.write_back_caches(); }

    [[nodiscard]] P& port() { return this->port_; }
    [[nodiscard]] nested::NestedVcpu<P>& vcpu() { return vcpu_; }

    // The instruction is over: RIP moves on and what goes with it, or L1 gets its fault.
    [[gnu::always_inline]] void conclude(Outcome outcome) {
        if (outcome == Outcome::done) [[likely]] {
            complete();
        } else {
            vcpu_.inject(fault_of(outcome));
        }
    }

    [[gnu::always_inline]] void complete() {
        nested::complete_instruction([this](auto what) { return this->get(what); },
                                     [this](auto what, auto value) { this->put(what, value); },
                                     this->get(vmx::field::guest_rflags));
    }

private:
    nested::NestedVcpu<P>& vcpu_;
    M& processor_;
};

}  // namespace flatback::host
