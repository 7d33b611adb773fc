#include "guests/bare/l1/memory_program.hpp"

asm(R"(
.pushsection .text
.globl l2_load, l2_store, l2_add, l2_jump
l2_load:
    movq (%rdi), %rax
    vmcall
l2_store:
    movq %rbx, (%rdi)
    vmcall
l2_add:
    addq %rbx, (%rdi)
    vmcall
l2_jump:
    jmp *%rdi
.popsection
)");

extern "C" char image_begin[], image_end[];

namespace flatback::guests {

void map_image(Ept12& hierarchy) {
    hierarchy.map_identity(physical(image_begin), physical(image_end), EptLevel::page_4k);
}

void start(L2& l2, const char* program, std::uint64_t address, std::uint64_t value) {
    write(field::guest_rip, physical(program));
    l2.registers.rdi = address;
    l2.registers.rbx = value;
}

}  // namespace flatback::guests
