// All of L0's state of one processor, in one object.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/l1_state.hpp"
#include "metal/l0/hole_write.hpp"
#include "metal/l0/port.hpp"
#include "metal/l0/store_instruction.hpp"
#include "nested/vcpu.hpp"

namespace flatback::metal {

struct Cpu;

// What metal/l0/entry.S works on: an exit pushes the guest's registers into it, from its end downward.
struct ExitFrame {
    GuestRegisters registers{};
    std::uint64_t stack_top = 0;  // of L0's stack; the word there points back to this frame
    // handle_exit, or while something else has to see the exits first, that (metal/l0/exit_handler.hpp).
    nested::Entry (*handler)(ExitFrame&) = nullptr;
    Cpu* cpu = nullptr;
};
static_assert(offsetof(ExitFrame, registers) == 0);
static_assert(offsetof(ExitFrame, stack_top) == 128);
static_assert(offsetof(ExitFrame, handler) == 136);

struct Cpu {
    ExitFrame frame;
    MetalPort port;
    nested::Capabilities capabilities;
    x86::Hpa vmcs01;
    NestedVpid mode = NestedVpid::mapped;
    HoleWrite hole_write;
    RememberedStores apic_stores;
    nested::NestedVcpu<MetalPort> vcpu;

    Cpu(BootResult& boot, tag::VpidPool& pool, x86::Hpa vmcs01_page, const nested::Capabilities& promised,
        const nested::Configuration& configuration)
        : port(frame.registers, boot),
          capabilities(promised),
          vmcs01(vmcs01_page),
          vcpu(port, capabilities, pool, vmcs01_page, configuration) {
        frame.cpu = this;
    }
};

// As its boot protocol has it.
[[nodiscard]] host::L1State state_of_start(const L1Start& start);
// Fills vmcs01, which must be the current VMCS, so that L1 starts as its boot protocol has it.
void set_up_vmcs01(Cpu& cpu, const BootResult& boot);
// The same for a processor that L1 starts by INIT and SIPI with this vector; its general registers too.
void set_up_started_vmcs01(Cpu& cpu, std::uint8_t vector);

}  // namespace flatback::metal
