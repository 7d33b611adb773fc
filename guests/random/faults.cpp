#include "guests/random/faults.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/random/code.hpp"
#include "guests/random/log.hpp"
#include "guests/random/world.hpp"

extern "C" {
extern char vector_stubs[];
extern char run_code_end[];
extern std::uint64_t run_code_stack;
extern const std::uint64_t recovery_begin[];
extern const std::uint64_t recovery_end[];
void run_code(void* registers, const void* code);
}

namespace flatback::guests {

volatile Fault last_fault;
volatile std::uint64_t nmi_count;
volatile std::uint64_t external_count;
volatile std::uint64_t last_external_vector;

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
    std::uint8_t io_map[8192 + 1];
};
static_assert(sizeof(TaskState) == whole_tss + 1);

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

alignas(16) Gate idt[256];
alignas(4096) TaskState task_state;
alignas(16) char fault_stack[8192];
alignas(16) char user_stack[8192];  // for exceptions of user mode
alignas(16) std::uint64_t gdt[9];

constexpr std::uint64_t trap_flag = 0x100;

// Code made at run time is running: its exceptions are its result.
volatile bool code_runs = false;
CodeEnd code_end;

[[noreturn]] void die(const InterruptFrame& frame) {
    Line line;
    line << "exception";
    put(line, "vector", frame.vector);
    put(line, "error", frame.error_code);
    put(line, "rip", frame.rip);
    put(line, "cr2", read_cr2());
    log_line(line);
    report_error("random", line.text());
    power_off();
}

void leave_code(InterruptFrame& frame) {
    code_runs = false;
    code_end.vector = frame.vector;
    code_end.error_code = frame.error_code;
    code_end.offset = frame.rip & 0xFFF;
    code_end.rflags = frame.rflags;
    code_end.cs = frame.cs;
    if (frame.vector == vector_page_fault) code_end.cr2 = read_cr2();
    if (frame.vector == 1) asm volatile("movq %%dr6, %0" : "=r"(code_end.dr6));
    frame.rip = reinterpret_cast<std::uint64_t>(run_code_end);
    frame.cs = selector::code64;
    frame.ss = selector::data;
    frame.rsp = run_code_stack;
    frame.rflags = 2;
}

}  // namespace

void set_drawn_descriptor(std::uint64_t descriptor) {
    gdt[selector::drawn / 8] = descriptor;
}

std::uint64_t gdt_base() {
    return reinterpret_cast<std::uint64_t>(gdt);
}
std::uint64_t idt_base() {
    return reinterpret_cast<std::uint64_t>(idt);
}
std::uint64_t tss_base() {
    return reinterpret_cast<std::uint64_t>(&task_state);
}

void load_descriptor_tables(std::uint32_t tss_limit) {
    task_state.rsp[0] = reinterpret_cast<std::uint64_t>(user_stack + sizeof user_stack);
    task_state.ist[0] = reinterpret_cast<std::uint64_t>(fault_stack + sizeof fault_stack);
    task_state.io_map_base = 0x68;
    gdt[1] = 0x00AF9B000000FFFF;
    gdt[2] = 0x00CF93000000FFFF;
    const std::uint64_t base = tss_base();
    gdt[3] = (tss_limit & 0xFFFF) | ((base & 0xFFFFFF) << 16) | (std::uint64_t{0x89} << 40) |
             ((base >> 24 & 0xFF) << 56);
    gdt[4] = base >> 32;
    gdt[5] = 0x00CF9B000000FFFF;
    gdt[6] = 0x00CFF3000000FFFF;
    gdt[7] = 0x00AFFB000000FFFF;
    gdt[8] = 0;
    for (unsigned vector = 0; vector < 256; ++vector) {
        const auto stub = reinterpret_cast<std::uint64_t>(vector_stubs) + std::uint64_t{vector} * 16;
        // Double fault on a stack of its own: the stack may be what was wrong.
        const std::uint16_t stack = vector == 8 ? 1 : 0;
        const std::uint16_t level = vector == vector_end_of_user ? 0x6000 : 0;
        idt[vector] = {static_cast<std::uint16_t>(stub),
                       selector::code64,
                       static_cast<std::uint16_t>(0x8E00 | level | stack),
                       static_cast<std::uint16_t>(stub >> 16),
                       static_cast<std::uint32_t>(stub >> 32),
                       0};
    }
    const TablePointer gdt_pointer{sizeof gdt - 1, gdt_base()};
    const TablePointer idt_pointer{sizeof idt - 1, idt_base()};
    asm volatile("lgdt %0" : : "m"(gdt_pointer));
    asm volatile("lidt %0" : : "m"(idt_pointer));
    asm volatile("ltr %w0" : : "r"(selector::tss));
    asm volatile("lldt %w0" : : "r"(0));
}

extern "C" void handle_interrupt(InterruptFrame* frame) {
    if (frame->vector == vector_nmi) {
        nmi_count = nmi_count + 1;
        return;
    }
    if (frame->vector < 32) {
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
    if (code_runs && (frame->vector < 32 || frame->vector == vector_end_of_user)) {
        leave_code(*frame);
        return;
    }
    if (frame->vector < 32) die(*frame);
    if (frame->vector < first_external_vector) return;
    external_count = external_count + 1;
    last_external_vector = frame->vector;
    end_of_interrupt();
}

std::uint8_t* code_memory() {
    return reinterpret_cast<std::uint8_t*>(world.code);
}

CodeEnd run(Emitter& code, CodeRegisters& registers) {
    // mov r11, run_code_end; jmp r11 would change a register: an indirect jump through the bytes behind it.
    code.with_immediate({0xFF, 0x25, 0, 0, 0, 0}, reinterpret_cast<std::uint64_t>(run_code_end), 8);
    code_end = {};
    registers.rflags = (registers.rflags & ~(trap_flag | 0x200)) | 2;
    code_runs = true;
    run_code(&registers, code_memory());
    code_runs = false;
    return code_end;
}

}  // namespace flatback::guests
