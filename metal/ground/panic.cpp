#include "metal/ground/panic.hpp"

#include <cstdint>
#include <string_view>

#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupt_frame.hpp"
#include "metal/ground/serial.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"
#include "x86/cpuid.hpp"

namespace flatback::metal {
namespace {

using PanicReport = void (*)();
constinit PanicReport panic_report = nullptr;
constinit PanicReport panic_stop = nullptr;
constinit bool panicking = false;
constinit std::uint64_t mark = 0;  // 0: not drawn yet
constexpr unsigned mark_digits = 16;

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

// From the processor's generator; 0 where it has none (SDM 1 7.3.17).
std::uint64_t random_number() {
    constexpr std::uint32_t has_rdrand = 1U << 30;
    if ((cpuid(x86::cpuid::leaf_features).ecx & has_rdrand) == 0) return 0;
    std::uint64_t number = 0;
    bool good = false;
    constexpr unsigned most_tries = 10;
    for (unsigned tries = 0; tries < most_tries && !good; ++tries)
        asm volatile("rdrand %0" : "=r"(number), "=@ccc"(good));
    return good ? number : 0;
}

void print_vmcs() {
    if ((read_cr4() & x86::cr4::vmx_enable) == 0) return;
    // First of all: every VMREAD of a field that this processor lacks overwrites it (SDM 3C 31.2).
    constexpr auto error_field = vmx::field::vm_instruction_error;
    const auto error = try_vmread(error_field.encoding);
    if (!error) {
        log::line("[L0] no current VMCS");
        return;
    }
    log::line("[L0] the current VMCS, fields that are not 0:");
    if (*error != 0) log::line("[L0]   ", "vm_instruction_error", " ", *error);
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (named.encoding == error_field.encoding) continue;
        const std::uint64_t value = try_vmread(named.encoding).value_or(0);
        if (value != 0) log::line("[L0]   ", named.name, " ", log::hex(value));
    }
}

}  // namespace

void set_panic_stop(void (*stop)()) {
    panic_stop = stop;
}

void set_panic_report(void (*report)()) {
    panic_report = report;
}

void announce_mark() {
    // Nobody has to keep it secret who is not L1, and L1 sees neither the number nor what was printed.
    mark = random_number() ^ read_tsc();
    if (mark == 0) mark = 1;
    log::line("FLATBACK text l0.mark ", log::digits(mark, mark_digits));
}

void panic_begin(std::string_view whose) {
    log::break_in();
    if (!panicking && panic_stop != nullptr) panic_stop();
    log::end_quiet(whose == "L0");
    // After L1 the UART may be set to anything, and the line half full.
    if (mark != 0) {
        serial::drain();
        serial::initialize();
        serial::write("\n");
    }
    log::write("FLATBACK ");
    if (mark != 0) {
        log::write(log::digits(mark, mark_digits));
        log::write(" ");
    }
    if (panicking) {
        log::line("error L0: a second failure while the first was printed");
        shut_down();
    }
    panicking = true;
    log::write("error ");
    log::write(whose);
    log::write(": ");
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
