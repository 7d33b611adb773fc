#include "guests/bare32/segmented.hpp"

#include "guests/bare32/framed.hpp"
#include "guests/bare32/interrupts.hpp"

namespace flatback::guests::bare32 {

void load_described_fs(std::uint64_t descriptor) {
    describe(described_selector, descriptor);
    asm volatile("movl %0, %%fs" : : "r"(std::uint32_t{described_selector}) : "memory");
}

void load_null_fs() {
    asm volatile("movl %0, %%fs" : : "r"(0) : "memory");
}

void load_cs(std::uint16_t selector) {
    asm volatile("pushl %0\n\tpushl $1f\n\tlret\n1:" : : "r"(std::uint32_t{selector}) : "memory");
}

Outcome try_vmptrst_fs(std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmptrst %%fs:(%[offset])")
                 : [flags] "=r"(flags)
                 : [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmptrld_fs(std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmptrld %%fs:(%[offset])")
                 : [flags] "=r"(flags)
                 : [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmclear_fs(std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmclear %%fs:(%[offset])")
                 : [flags] "=r"(flags)
                 : [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmread_to_fs(std::uint32_t encoding, std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmread %[encoding], %%fs:(%[offset])")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmwrite_from_fs(std::uint32_t encoding, std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmwrite %%fs:(%[offset]), %[encoding]")
                 : [flags] "=r"(flags)
                 : [encoding] "r"(encoding), [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_invept_fs(std::uint32_t type, std::uint32_t offset) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("invept %%fs:(%[offset]), %[type]")
                 : [flags] "=r"(flags)
                 : [type] "r"(type), [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmptrst_fs_16(std::uint16_t bx, std::uint16_t si) {
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(FLATBACK_FRAMED("vmptrst %%fs:(%%bx,%%si)")
                 : [flags] "=r"(flags)
                 : "b"(bx), "S"(si), [preset] "i"(arithmetic_flags | 2)
                 : "cc", "memory");
    return outcome_of(flags);
}

Outcome try_vmptrst_ss(std::uint64_t descriptor, std::uint32_t offset) {
    describe(described_selector, descriptor);
    std::uint32_t flags;
    last_fault.taken = false;
    asm volatile(
        "movl %[described], %%ss\n\t"
        "nop\n\t" FLATBACK_FRAMED("vmptrst %%ss:(%[offset])") "\tmovl %[data], %%ss\n\tnop\n"
        : [flags] "=&r"(flags)
        : [described] "r"(std::uint32_t{described_selector}), [data] "r"(std::uint32_t{data_selector}),
          [offset] "r"(offset), [preset] "i"(arithmetic_flags | 2)
        : "cc", "memory");
    return outcome_of(flags);
}

}  // namespace flatback::guests::bare32
