#include "metal/ground/entry_window.hpp"

#include <cstdint>

#include "metal/ground/vmx_instructions.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

extern "C" {
// metal/l0/entry.S, in the order of their addresses.
// metal/processors/other_processors.S: the way from the look to the halt.
extern const char halt_until_started[], halted_until_started[];
extern const char enter_guest[], entry_tests_flag[], entry_resumes[], entry_launches[], entry_looks_again[],
    entry_has_looked[];
}

namespace flatback::metal {
namespace {

std::uint64_t address(const char* label) {
    return reinterpret_cast<std::uint64_t>(label);
}

}  // namespace

void look_again(InterruptFrame& frame) {
    const std::uint64_t at = frame.rip;
    const bool behind_look = (at > address(enter_guest) && at <= address(entry_resumes)) ||
                             at == address(entry_launches) ||
                             (at > address(entry_looks_again) && at < address(entry_has_looked));
    if (at > address(halt_until_started) && at < address(halted_until_started)) {
        frame.rip = address(halt_until_started);
        return;
    }
    if (!behind_look) return;
    if (at > address(entry_tests_flag) && at <= address(entry_launches))
        frame.rax = (frame.rflags & x86::rflags::zero) == 0 ? 1 : 0;
    // HOST_RSP is the end of the exit frame's registers, where the top of L0's stack stands.
    frame.rsp = *reinterpret_cast<const std::uint64_t*>(get(vmx::field::host_rsp));
    frame.rip = address(enter_guest);
}

}  // namespace flatback::metal
