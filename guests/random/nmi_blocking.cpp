// The emulator keeps the virtual-NMI blocking of an earlier guest (deviations.hpp), so that a case would
// depend on those before it. A guest's IRET ends it.
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/guest_state.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {

void end_virtual_nmi_blocking() {
    if (!capabilities.pin.may_set(pin::virtual_nmis)) return;
    const std::uint64_t address = physical(world.vmcs[0]);
    vmptrld(address);
    constexpr L2Mode mode = L2Mode::long64;
    Random always_the_same{0};
    write_controls(always_the_same, mode);
    write_host_state(always_the_same);
    write_guest_state(always_the_same, mode);
    write(field::pin_based_vm_execution_controls,
          capabilities.pin.adjust(pin::nmi_exiting | pin::virtual_nmis));
    write(field::exception_bitmap, 0);
    // iretq; vmcall
    auto* const code = sandbox_bytes(l2_memory::code);
    const std::uint8_t program[] = {0x48, 0xCF, 0x0F, 0x01, 0xC1};
    for (unsigned i = 0; i < sizeof program; ++i) code[i] = program[i];
    // RIP, CS, RFLAGS, RSP, SS
    const std::uint64_t frame[] = {l2_memory::code + 2, 0x08, 2, l2_memory::stack, 0x10};
    constexpr std::uint64_t top = l2_memory::stack - sizeof frame;
    for (unsigned i = 0; i < 5; ++i) *reinterpret_cast<std::uint64_t*>(sandbox_bytes(top + i * 8)) = frame[i];
    write(field::guest_rsp, top);
    GuestRegisters registers{};
    if (enter_l2(&registers, true) == 0 && (read(field::guest_interruptibility_state) & 8) == 0) return;
    Line line;
    line << "virtual NMIs are still blocked";
    put(line, "reason", read(field::exit_reason));
    log_line(line);
}

}  // namespace flatback::guests
