// A second VM beside the one that has the machine: memory, a serial port and a clock of its own, nested VMX,
// and the processor by turns (metal/l0/turns.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/cpuid.hpp"
#include "metal/l0/cpu.hpp"
#include "metal/l0/processor_state.hpp"
#include "metal/l0/second_devices.hpp"
#include "metal/l0/second_memory.hpp"
#include "metal/l0/second_port.hpp"
#include "nested/vcpu.hpp"

namespace flatback::metal {

struct SecondVm {
    ExitFrame frame;  // without a Cpu
    SecondMemory memory;
    SecondPort port;
    nested::Capabilities capabilities;
    NestedVpid mode;
    x86::Hpa vmcs01;
    nested::NestedVcpu<SecondPort> vcpu;
    SecondDevices devices;
    ProcessorState state;
    std::uint8_t task_priority = 0;  // CR8
    bool ended = false;

    // vmcs01_page: the current VMCS, cleared.
    SecondVm(BootResult& boot, PhysicalRange place, tag::VpidPool& pool, x86::Hpa vmcs01_page,
             const nested::Capabilities& promised, const nested::Configuration& configuration)
        : memory(*boot.pages, place),
          port(frame.registers, boot, memory),
          capabilities(promised),
          mode(boot.options.nested_vpid),
          vmcs01(vmcs01_page),
          vcpu(port, capabilities, pool, vmcs01_page, configuration),
          state(*boot.pages) {
        port.set_promise(&capabilities.promised);
    }
};

// What the host does of an exit; `over` where the VM's turn is.
struct HandledExit {
    nested::Entry entry = nested::Entry::vmresume;
    bool over = false;
};
[[nodiscard]] HandledExit handle_second_exit(SecondVm& vm);

[[nodiscard]] host::CpuidRegisters information_leaf(SecondVm& vm, std::uint32_t leaf, std::uint32_t index);

// Its vmcs01, which is current, as it starts.
void set_up_second_vmcs01(SecondVm& vm, const BootResult& boot, const L1Start& start);
// The controls by which L0 has the processor back, in the VMCS of L1 and as demands of its L2s.
[[nodiscard]] nested::Demands second_demands(const SecondVm& vm, std::uint64_t turn_ends);

}  // namespace flatback::metal
