// Step 2: one virtual CPU. L1 runs under vmcs01 until the engine makes another VMCS current; an exit goes to
// the engine if it is L2's or of a VMX instruction, and is this host's own otherwise.
#pragma once

#include <flatback/nested/vcpu.hpp>
#include <string>

#include "port.hpp"

namespace minimal_host {

class Host final {
public:
    explicit Host(machine::Machine& processor);

    // What became of an instruction, as the guest that executed it sees it.
    enum class Ended { done, raised_exception, exited_to_l1 };

    // The guest whose turn it is executes an instruction. (A real processor does this by itself: its
    // hypervisor only has what follows an exit.)
    Ended execute(const machine::Instruction& instruction);

    [[nodiscard]] nested::NestedVcpu<Port>& vcpu() { return vcpu_; }
    // L1's memory, for who loads L1.
    [[nodiscard]] std::uint64_t* l1_page(std::uint64_t address);
    // What guests of any depth have written to this host's console.
    [[nodiscard]] const std::string& console() const { return devices_.console; }
    // Interrupts of this host's timer, which no guest saw.
    [[nodiscard]] unsigned ticks() const { return ticks_; }

    // This host's devices. L1's timer: a write sets it to so many ticks, and then interrupt timer_vector
    // comes.
    static constexpr std::uint16_t timer_port = 0x40, console_port = 0xe9;
    static constexpr std::uint8_t timer_vector = 0x20;

    // For ../snapshot. The guest that runs exits, and how it is to be entered again; then it is.
    [[nodiscard]] nested::Entry take_processor() {
        return handle_exit(processor_.take_from_guest(0).exit_reason);
    }
    void give_processor(nested::Entry how) { enter(how); }
    struct Devices {
        unsigned l1_timer = 0;  // ticks until its interrupt; 0: not set
        std::string console{};
    };
    [[nodiscard]] Devices& devices() { return devices_; }
    [[nodiscard]] Port& port() { return port_; }
    [[nodiscard]] x86::Hpa vmcs01() const { return vmcs01_; }

private:
    void set_up_vmcs01();
    nested::Entry handle_exit(vmx::ExitReasonField reason);
    nested::Entry handle_l1_exit(vmx::ExitReason reason);
    nested::Entry handle_demanded_exit(vmx::ExitReason reason);
    void tick();
    void write_port();
    machine::Completion enter(nested::Entry how);

    std::uint64_t get(auto field) { return port_.vmread(field.encoding); }

    machine::Machine& processor_;
    // The engine keeps references to these: they live as long as it does.
    nested::Capabilities promised_;
    Port port_;
    flatback::tag::VpidPool vpids_;
    x86::Hpa vmcs01_;
    nested::NestedVcpu<Port> vcpu_;
    unsigned instructions_ = 0;
    unsigned ticks_ = 0;
    Devices devices_{};
};

}  // namespace minimal_host
