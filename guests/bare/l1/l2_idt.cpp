#include "guests/bare/l1/l2_idt.hpp"

#include "guests/bare/l1/pages.hpp"

extern "C" {
extern char l2_idt_stubs[];
extern char l2_iret[];
}

// Each stub has 16 bytes.
asm(R"(
.pushsection .text
.balign 16
l2_idt_stubs:
.set l2_vector, 0
.rept 256
    .balign 16
    movq $l2_vector, %rax
    vmcall
    .set l2_vector, l2_vector + 1
.endr
    .balign 16
l2_iret:
    iretq
.popsection
)");

namespace flatback::guests {
namespace {

alignas(page_size) std::uint64_t table[512];

bool has_error_code(std::uint64_t vector) {
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

}  // namespace

std::uint64_t l2_handler(std::uint8_t vector) {
    return physical(l2_idt_stubs) + vector * std::uint64_t{16};
}

std::uint64_t l2_idt() {
    for (std::uint64_t vector = 0; vector < 256; ++vector) {
        const std::uint64_t stub = l2_handler(static_cast<std::uint8_t>(vector));
        // A present 64-bit interrupt gate to CS 08H.
        table[vector * 2] = (stub & 0xFFFF) | 0x08U << 16 | 0x8E00ULL << 32 | (stub >> 16 & 0xFFFF) << 48;
        table[vector * 2 + 1] = stub >> 32;
    }
    return physical(table);
}

void use_l2_idt(std::uint64_t stack_top) {
    write(field::guest_idtr_base, l2_idt());
    write(field::guest_idtr_limit, l2_idt_size - 1);
    write(field::guest_rsp, stack_top);
}

L2Frame l2_frame(const L2& l2) {
    const auto* stack = reinterpret_cast<const volatile std::uint64_t*>(read(field::guest_rsp));
    L2Frame frame{};
    frame.vector = l2.registers.rax;
    if (has_error_code(frame.vector)) frame.error_code = *stack++;
    frame.rip = stack[0];
    frame.cs = stack[1];
    frame.rflags = stack[2];
    frame.rsp = stack[3];
    frame.ss = stack[4];
    return frame;
}

void return_from_l2_event(const L2Frame& frame) {
    if (has_error_code(frame.vector)) write(field::guest_rsp, read(field::guest_rsp) + 8);
    write(field::guest_rip, physical(l2_iret));
}

}  // namespace flatback::guests
