#include "guests/bare/l1/interrupts.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/part.hpp"
#include "guests/bare/l1/report.hpp"

extern "C" {
extern char vector_stubs[];
extern std::uint64_t boot_gdt[];
extern const std::uint64_t recovery_begin[];
extern const std::uint64_t recovery_end[];
}

namespace flatback::guests {

volatile Fault last_fault;
volatile std::uint64_t interrupt_count[256];
volatile std::uint64_t interrupted_rip;

namespace {

struct [[gnu::packed]] Gate {
    std::uint16_t offset_low, selector, type, offset_middle;
    std::uint32_t offset_high, reserved;
};

struct [[gnu::packed]] TaskState {
    std::uint32_t reserved;
    std::uint64_t rsp[3], unused, ist[7];
    std::uint64_t reserved2;
    std::uint16_t reserved3, io_map_base;
};

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

alignas(16) Gate idt[256];
TaskState task_state;
alignas(16) char fault_stack[8192];
bool counted[256];

void set_tss() {
    constexpr std::uint64_t limit = sizeof task_state - 1;
    const auto base = reinterpret_cast<std::uint64_t>(&task_state);
    task_state.ist[0] = reinterpret_cast<std::uint64_t>(fault_stack + sizeof fault_stack);
    task_state.io_map_base = sizeof task_state;
    boot_gdt[3] =
        limit | ((base & 0xFFFFFF) << 16) | (std::uint64_t{0x89} << 40) | ((base >> 24 & 0xFF) << 56);
    boot_gdt[4] = base >> 32;
    const TablePointer pointer{6 * 8 - 1, reinterpret_cast<std::uint64_t>(boot_gdt)};
    asm volatile("lgdt %0" : : "m"(pointer));
    asm volatile("ltr %w0" : : "r"(0x18));
}

[[noreturn]] void die(const InterruptFrame& frame) {
    Line line;
    line << "exception vector " << frame.vector << " error code ";
    line.hexadecimal(frame.error_code) << " rip ";
    line.hexadecimal(frame.rip) << " rsp ";
    line.hexadecimal(frame.rsp) << " cr2 ";
    line.hexadecimal(read_cr2()) << " rax ";
    line.hexadecimal(frame.rax) << " rcx ";
    line.hexadecimal(frame.rcx);
    leave_part(line.text());
}

}  // namespace

void count_interrupts(std::uint8_t vector) {
    counted[vector] = true;
}

void unblock_nmi() {
    asm volatile(
        "movq %%rsp, %%rax\n\t"
        "pushq $0x10\n\tpushq %%rax\n\tpushfq\n\tpushq $0x08\n\tpushq $1f\n\tiretq\n1:"
        :
        :
        : "rax", "cc", "memory");
}

void start_interrupts() {
    set_tss();
    for (unsigned vector = 0; vector < 256; ++vector) {
        const auto stub = reinterpret_cast<std::uint64_t>(vector_stubs) + std::uint64_t{vector} * 16;
        // Double fault on a stack of its own: the stack may be what was wrong.
        const std::uint16_t stack = vector == 8 ? 1 : 0;
        idt[vector] = {static_cast<std::uint16_t>(stub),           0x08,
                       static_cast<std::uint16_t>(0x8E00 | stack), static_cast<std::uint16_t>(stub >> 16),
                       static_cast<std::uint32_t>(stub >> 32),     0};
    }
    load_interrupt_table();
}

void load_interrupt_table() {
    const TablePointer pointer{sizeof idt - 1, reinterpret_cast<std::uint64_t>(idt)};
    asm volatile("lidt %0" : : "m"(pointer));
}

extern "C" void handle_interrupt(InterruptFrame* frame) {
    if (frame->vector == vector_nmi) {
        if (time_is_up(*frame)) return;
    } else if (frame->vector < 32) {
        for (const std::uint64_t* entry = recovery_begin; entry < recovery_end; entry += 2) {
            if (entry[0] != frame->rip) continue;
            last_fault.taken = true;
            last_fault.vector = static_cast<std::uint8_t>(frame->vector);
            last_fault.error_code = static_cast<std::uint32_t>(frame->error_code);
            last_fault.cr2 = read_cr2();
            frame->rip = entry[1];
            return;
        }
    }
    if (!counted[frame->vector]) die(*frame);
    interrupt_count[frame->vector] = interrupt_count[frame->vector] + 1;
    interrupted_rip = frame->rip;
    if (frame->vector >= 32) end_of_interrupt();
}

}  // namespace flatback::guests
