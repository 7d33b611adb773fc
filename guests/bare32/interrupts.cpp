#include "guests/bare32/interrupts.hpp"

#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare32/cpu.hpp"

extern "C" {
extern char exception_stubs[];
extern std::uint64_t boot_gdt[];
extern const std::uint32_t recovery_begin[];
extern const std::uint32_t recovery_end[];
}

namespace flatback::guests {

volatile Fault last_fault;

namespace bare32 {
namespace {

// What vectors.S leaves on the stack.
struct Frame {
    std::uint32_t ds;
    std::uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax;
    std::uint32_t vector, error_code;
    std::uint32_t eip, cs, eflags;
};

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint32_t base;
};

constexpr unsigned exceptions = 32;
alignas(16) std::uint64_t idt[exceptions];
alignas(16) std::uint32_t task_state[26];

}  // namespace

std::uint32_t task_state_base() {
    return physical(task_state);
}

std::uint32_t idt_base() {
    return physical(idt);
}

std::uint64_t descriptor(std::uint32_t base, std::uint32_t limit, std::uint32_t rights) {
    return (limit & 0xFFFF) | (std::uint64_t{base & 0xFFFFFF} << 16) | (std::uint64_t{rights & 0xFF} << 40) |
           (std::uint64_t{limit >> 16 & 0xF} << 48) | (std::uint64_t{rights >> 12 & 0xF} << 52) |
           (std::uint64_t{base >> 24} << 56);
}

void describe(std::uint16_t selector, std::uint64_t descriptor) {
    boot_gdt[selector / 8] = descriptor;
}

void start_interrupts() {
    constexpr std::uint32_t available_task_state = 0x89;
    describe(task_selector, descriptor(task_state_base(), sizeof task_state - 1, available_task_state));
    asm volatile("ltr %w0" : : "r"(task_selector));
    for (unsigned vector = 0; vector < exceptions; ++vector) {
        const std::uint32_t stub = physical(exception_stubs) + vector * 16;
        // A present 32-bit interrupt gate.
        idt[vector] = (stub & 0xFFFF) | (std::uint64_t{code_selector} << 16) | (std::uint64_t{0x8E00} << 32) |
                      (std::uint64_t{stub >> 16} << 48);
    }
    const TablePointer pointer{sizeof idt - 1, idt_base()};
    asm volatile("lidt %0" : : "m"(pointer));
}

extern "C" void handle_exception(Frame* frame) {
    for (const std::uint32_t* entry = recovery_begin; entry < recovery_end; entry += 2) {
        if (entry[0] != frame->eip) continue;
        last_fault.taken = true;
        last_fault.vector = static_cast<std::uint8_t>(frame->vector);
        last_fault.error_code = frame->error_code;
        last_fault.cr2 = read_cr2();
        frame->eip = entry[1];
        return;
    }
    Line line;
    line << "exception vector " << std::uint64_t{frame->vector} << " error code ";
    line.hexadecimal(frame->error_code) << " eip ";
    line.hexadecimal(frame->eip) << " cr2 ";
    line.hexadecimal(read_cr2());
    report_error("bare32-l1", line.text());
    power_off();
}

}  // namespace bare32
}  // namespace flatback::guests
