#include "guests/bare/l1/l2_programs.hpp"

#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/part.hpp"

asm(R"(
.pushsection .text
.globl l2_cpuid_loop, l2_vmcall_loop, l2_touch_pages, l2_touch_sparse_pages
l2_cpuid_loop:
    xorl %eax, %eax
1:  cpuid
    jmp 1b
l2_vmcall_loop:
    vmcall
    jmp l2_vmcall_loop
l2_touch_pages:
    addq $1, (%rdi)
    addq $4096, %rdi
    decq %rcx
    jnz l2_touch_pages
    vmcall
    jmp l2_touch_pages
l2_touch_sparse_pages:
    addq $1, (%rdi)
    addq $0x200000, %rdi
    decq %rcx
    jnz l2_touch_sparse_pages
    vmcall
    jmp l2_touch_sparse_pages
.popsection
)");

namespace flatback::guests {

void run_or_die(L2& l2, std::uint32_t reason) {
    Line why;
    why << "bench: ";
    if (!l2.run_to(reason, why)) leave_part(why.text());
}

void reflect_cpuid(L2& l2) {
    if (read(field::exit_reason) != reason::cpuid) leave_part("an exit of another reason than CPUID");
    L2::skip_instruction();
    enter_l2(&l2.registers, false);
}

}  // namespace flatback::guests
