// Two VMs on one processor, which they have by turns. The first has the machine's devices: an interrupt that
// comes in the second one's turn ends it, and goes to the first as it would without the other.
#pragma once

#include <cstdint>

#include "metal/boot/boot_result.hpp"
#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// With boot.second_vm. The first VM's vmcs01 is current and set up; its first turn begins with its first
// entry.
void set_up_turns(Cpu& first, BootResult& boot, tag::VpidPool& pool, const nested::Capabilities& promised,
                  tag::Policy policy);

}  // namespace flatback::metal
