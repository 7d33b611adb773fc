#include "metal/panic.hpp"

#include <cstdint>
#include <string_view>

#include "metal/instructions.hpp"
#include "metal/interrupts.hpp"
#include "metal/serial.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {
namespace {

using PanicReport = void (*)();
constinit PanicReport panic_report = nullptr;
constinit bool panicking = false;

// Bochs and QEMU's shutdown convention (the isa-debug port of Bochs' BIOS): the word ends the emulation.
[[noreturn]] void shut_down() {
    serial::drain();
    for (const char character : std::string_view{"Shutdown"}) {
        write_port_8(0x8900, static_cast<std::uint8_t>(character));
    }
    halt_forever();
}

void print_registers(const InterruptFrame& frame) {
    using log::hex;
    constexpr unsigned wide = 16;
    log::line("[L0] rip ", hex(frame.rip, wide), " rflags ", hex(frame.rflags), " cs ", hex(frame.cs), " ss ",
              hex(frame.ss));
    log::line("[L0] rax ", hex(frame.rax, wide), " rcx ", hex(frame.rcx, wide), " rdx ",
              hex(frame.rdx, wide));
    log::line("[L0] rbx ", hex(frame.rbx, wide), " rsp ", hex(frame.rsp, wide), " rbp ",
              hex(frame.rbp, wide));
    log::line("[L0] rsi ", hex(frame.rsi, wide), " rdi ", hex(frame.rdi, wide), " r8  ", hex(frame.r8, wide));
    log::line("[L0] r9  ", hex(frame.r9, wide), " r10 ", hex(frame.r10, wide), " r11 ", hex(frame.r11, wide));
    log::line("[L0] r12 ", hex(frame.r12, wide), " r13 ", hex(frame.r13, wide), " r14 ",
              hex(frame.r14, wide));
    log::line("[L0] r15 ", hex(frame.r15, wide));
}

// Return addresses by the text section alone: L0 is built without frame pointers, so these are candidates.
extern "C" const char image_start[], image_rodata[];
extern "C" const char boot_stack_bottom[], boot_stack_top[];

void print_stack(std::uint64_t stack_pointer) {
    const auto bottom = reinterpret_cast<std::uint64_t>(boot_stack_bottom);
    const auto top = reinterpret_cast<std::uint64_t>(boot_stack_top);
    if (stack_pointer < bottom || stack_pointer >= top) return;
    unsigned printed = 0;
    log::write("[L0] code addresses on the stack:");
    for (std::uint64_t at = stack_pointer & ~7ULL; at < top && printed < 24; at += 8) {
        const std::uint64_t word = *reinterpret_cast<const std::uint64_t*>(at);
        if (word < reinterpret_cast<std::uint64_t>(image_start)) continue;
        if (word >= reinterpret_cast<std::uint64_t>(image_rodata)) continue;
        log::write(" ");
        log::write(log::hex(word));
        ++printed;
    }
    log::write("\n");
}

// VMREAD needs CR4.VMXE and VMX operation: outside of it, it is #UD, which the fixup turns into "no value".
bool try_vmread(std::uint64_t encoding, std::uint64_t& value) {
    bool failed;
    asm volatile(
        "1: vmread %2, %1\n"
        "setbe %0\n"
        "jmp 3f\n"
        "2: movb $1, %0\n"
        "3:\n"
        ".pushsection .fault_fixups, \"a\"\n"
        ".quad 1b, 2b\n"
        ".popsection"
        : "=&r"(failed), "=&r"(value)
        : "r"(encoding)
        : "cc", "memory");
    return !failed;
}

void print_vmcs() {
    if ((read_cr4() & x86::cr4::vmx_enable) == 0) return;
    // First of all: every VMREAD of a field that this processor lacks overwrites it (SDM 3C 31.2).
    constexpr auto error_field = vmx::field::vm_instruction_error;
    std::uint64_t error = 0;
    if (!try_vmread(error_field.encoding, error)) {
        log::line("[L0] no current VMCS");
        return;
    }
    log::line("[L0] the current VMCS, fields that are not 0:");
    if (error != 0) log::line("[L0]   ", "vm_instruction_error", " ", error);
    for (const vmx::NamedField& named : vmx::all_fields) {
        std::uint64_t value = 0;
        if (named.encoding == error_field.encoding || !try_vmread(named.encoding, value) || value == 0)
            continue;
        log::line("[L0]   ", named.name, " ", log::hex(value));
    }
}

}  // namespace

void set_panic_report(void (*report)()) {
    panic_report = report;
}

void panic_begin() {
    if (panicking) {
        serial::write("\nFLATBACK error L0: a second failure while the first was printed\n");
        shut_down();
    }
    panicking = true;
    serial::write("FLATBACK error L0: ");
}

void panic_finish(const InterruptFrame* frame) {
    if (frame != nullptr) {
        print_registers(*frame);
        print_stack(frame->rsp);
    } else {
        const auto here = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
        log::line("[L0] called from ", log::hex(reinterpret_cast<std::uint64_t>(__builtin_return_address(0))),
                  " rsp ", log::hex(here));
        print_stack(here);
    }
    log::line("[L0] cr0 ", log::hex(read_cr0()), " cr2 ", log::hex(read_cr2()), " cr3 ", log::hex(read_cr3()),
              " cr4 ", log::hex(read_cr4()));
    if (panic_report != nullptr) panic_report();
    print_vmcs();
    shut_down();
}

void refuse_finish() {
    shut_down();
}

}  // namespace flatback::metal
