#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace flatback::machine {

/// Who makes a step. A step of L1 or L2 is skipped (and seen to be skipped) while the other one runs.
enum class Actor : std::uint8_t {
    l0,  // the world under L1: what no L1 program can see the making of
    l1,
    l2,
    edit,  // a store to L1's physical memory by whoever it may be: no processor's TLB has a part in it
};

enum class StepKind : std::uint8_t {
    // Instructions; the operands are those of `Step`'s comment.
    nop,
    load,        // address, user
    store,       // address, value, user
    fetch,       // address, user
    prefetch,    // address
    mov_to_cr0,  // value
    mov_to_cr3,  // value
    mov_to_cr4,  // value
    mov_from_cr0,
    mov_from_cr3,
    mov_from_cr4,
    invlpg,   // address
    invpcid,  // type, PCID, address
    cpuid,
    hlt,
    pause,
    rdtsc,
    rdmsr,  // number
    wrmsr,  // number, value
    out,    // port
    sti,
    cli,
    mov_to_ss,
    iret,  // address of its frame
    iretq,
    int_n,  // vector
    ud2,
    lidt,  // base, limit
    wbinvd,
    vmxon,  // pointer
    vmxoff,
    vmclear,  // pointer
    vmptrld,  // pointer
    vmptrst,
    vmread,   // encoding
    vmwrite,  // encoding, value
    vmlaunch,
    vmresume,
    vmcall,
    vmfunc,   // function, operand
    invept,   // type, EPTP
    invvpid,  // type, VPID (all 64 bits of the descriptor's first half), address
    /// INVEPT or INVVPID with its descriptor at a linear address of the program's choice.
    invept_at,   // type, address
    invvpid_at,  // type, address
    /// From real-address mode to the 64-bit kernel that L1 starts as, by the instructions that do this.
    boot,
    /// VMCLEAR, VMPTRLD and all VMWRITEs that a 64-bit guest needs, by L1.
    prepare,  // pointer, VPID (0: "enable VPID" = 0), EPT hierarchy + 1 (0: no EPT), page hierarchy
    // Stores to paging structures.
    map,        // page hierarchy, linear address, physical address, flags, page size
    unmap,      // page hierarchy, linear address, page size
    ept_map,    // EPT hierarchy, guest-physical address, physical address, flags, page size
    ept_unmap,  // EPT hierarchy, guest-physical address, page size
    poke,       // physical address, value
    // What the world under L1 does.
    create_vm,  // number of vCPUs; the VM is the step's
    destroy_vm,
    move_vcpu,  // processor
    take_page,  // L1-physical address: L0 gives the page another frame, with the same content
    nmi,        // 0: it comes now; 1: while L0 handles the virtual CPU's next exit, if there is an L0
    interrupt,  // vector; when, as for an NMI
    // Stores to the local APIC, by whoever runs, which nobody intercepts.
    eoi,
    tpr,       // task priority
    init,      // as an NMI
    start_up,  // a start-up IPI, to this page
};

inline constexpr unsigned step_kind_count = static_cast<unsigned>(StepKind::start_up) + 1;

/// An event comes for a virtual CPU, or its local APIC changes what may come.
[[nodiscard]] constexpr bool is_event_step(StepKind kind) {
    return kind >= StepKind::nmi && kind <= StepKind::start_up;
}

/// One step of a program: who, on which virtual CPU of which VM, does what with which operands.
struct Step {
    StepKind kind = StepKind::nop;
    Actor actor = Actor::l1;
    std::uint8_t vm = 0;
    std::uint8_t vcpu = 0;
    std::array<std::uint64_t, 5> operands{};

    friend bool operator==(const Step&, const Step&) = default;
};

/// What an operand is, for the text form and for its limits.
enum class OperandKind : std::uint8_t {
    none,
    number,
    address,
    user,            // the word "user", or nothing
    field,           // a VMCS field by name, or any encoding
    page_hierarchy,  // t0 to t7
    ept_hierarchy,   // e0 to e7
    optional_ept,    // ept=eN or nothing; value N + 1
    page_flags,
    ept_flags,
    page_size,  // 4k, 2m, 1g; value 0, 1, 2
    processor,
    count,
};

/// A kind of step as the text form spells it.
struct StepForm {
    std::string_view name;
    std::array<OperandKind, 5> operands{};
};

[[nodiscard]] const StepForm& form_of(StepKind kind);

}  // namespace flatback::machine
