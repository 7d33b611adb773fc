// Entering and leaving VMX operation: VMXON, VMXOFF. SDM 3C 31.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

const Outcome undefined = fault(vector_invalid_opcode);

void check_outside_vmx_operation() {
    const RuleScope rule{{"3C 31.3", "outside VMX operation: undefined"}};
    const std::uint64_t address = physical(vmxon_region());
    const InvalidationDescriptor descriptor{1, 0};
    std::uint64_t value = 0;
    {
        Check check{"outside-vmx-operation-every-vmx-instruction-but-vmxon-is-undefined"};
        check.outcome("VMXOFF", try_vmxoff(), undefined);
        check.outcome("VMCLEAR", try_vmclear(&address), undefined);
        check.outcome("VMPTRLD", try_vmptrld(&address), undefined);
        check.outcome("VMPTRST", try_vmptrst(&value), undefined);
        check.outcome("VMREAD", try_vmread(field::guest_rip.encoding, value), undefined);
        check.outcome("VMWRITE", try_vmwrite(field::guest_rip.encoding, 0), undefined);
        check.outcome("VMLAUNCH", try_enter(true), undefined);
        check.outcome("VMRESUME", try_enter(false), undefined);
        check.outcome("VMCALL", try_vmcall(), undefined);
        check.outcome("VMFUNC", try_vmfunc(), undefined);
        check.outcome("INVEPT", try_invept(invept_type::all_contexts, &descriptor), undefined);
        check.outcome("INVVPID", try_invvpid(invvpid_type::all_contexts, &descriptor), undefined);
    }
    write_cr4(read_cr4() & ~cr4_vmxe);
    Check{"vmxon-with-cr4-vmxe-clear-is-undefined"}.outcome("VMXON", try_vmxon(&address), undefined);
    write_cr4(read_cr4() | cr4_vmxe);
}

void check_vmxon_operands() {
    const RuleScope rule{{"3C 31.3 VMXON", "a region that does not hold is VMfailInvalid"}};
    Page* const region = new_vmcs_region();
    std::uint64_t address = physical(region) + 8;
    Check{"vmxon-of-a-misaligned-address-fails-invalid"}.outcome("VMXON", try_vmxon(&address),
                                                                 vm_fail_invalid);

    address = physical(region) | 1ULL << (cpuid(0x80000008).eax & 0xFF);
    Check{"vmxon-beyond-the-physical-address-width-fails-invalid"}.outcome("VMXON", try_vmxon(&address),
                                                                           vm_fail_invalid);
    address = physical(region);
    region->words[0] = capabilities.revision() + 1;
    Check{"vmxon-with-a-wrong-revision-fails-invalid"}.outcome("VMXON", try_vmxon(&address), vm_fail_invalid);
    region->words[0] = capabilities.revision() | 0x80000000;
    Check{"vmxon-with-revision-bit-31-set-fails-invalid"}.outcome("VMXON", try_vmxon(&address),
                                                                  vm_fail_invalid);

    map_linear(0, 0);
    Check{"vmxon-with-its-operand-on-an-unmapped-page-faults"}.outcome("VMXON", try_vmxon(window_address(0)),
                                                                       page_fault(linear_window, 0));

    write_cr0(read_cr0() & ~0x20ULL);  // NE, which VMX operation fixes to 1
    {
        address = physical(vmxon_region());
        Check check{"vmxon-with-cr0-ne-clear-is-a-general-protection-fault"};
        check.holds("NE is fixed to 1", (capabilities.cr0_fixed0 & 0x20) != 0);
        const Outcome outcome = try_vmxon(&address);
        check.outcome("VMXON", outcome, fault(vector_general_protection));
        // What follows is not to be this one's.
        if (outcome == vm_succeed) try_vmxoff();
    }
    write_cr0(read_cr0() | 0x20);
}

void check_in_vmx_operation() {
    const RuleScope rule{{"3C 31.3 VMXON", "VMXON in VMX operation fails"}};
    const std::uint64_t address = physical(vmxon_region());
    std::uint64_t current = 0;
    {
        Check check{"vmxon-leaves-no-current-vmcs"};
        check.outcome("VMPTRST", try_vmptrst(&current), vm_succeed);
        check.equal("current-VMCS pointer", current, ~std::uint64_t{0});
    }
    Check{"vmxon-twice-without-a-current-vmcs-fails-invalid"}.outcome("VMXON", try_vmxon(&address),
                                                                      vm_fail_invalid);
    const std::uint64_t vmcs = physical(new_vmcs_region());
    try_vmclear(&vmcs);
    try_vmptrld(&vmcs);
    Check{"vmxon-twice-with-a-current-vmcs-fails-with-error-15"}.outcome("VMXON", try_vmxon(&address),
                                                                         vm_fail_valid(15));
    try_vmclear(&vmcs);

    const std::uint64_t cr4 = read_cr4();
    last_fault.taken = false;
    asm volatile("1: movq %0, %%cr4\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"
                 :
                 : "r"(cr4 & ~cr4_vmxe)
                 : "memory");
    Check check{"cr4-vmxe-cannot-be-cleared-in-vmx-operation"};
    check.outcome("MOV to CR4", outcome_of(0), fault(vector_general_protection));
    check.equal("CR4 afterwards", read_cr4(), cr4);
    write_cr4(cr4);
}

}  // namespace

void check_vmx_operation() {
    const RuleScope rule{{"3C 31.3 VMXON, VMXOFF", "VMX operation is entered and left"}};
    const PageScope scope;
    const std::uint64_t address = physical(vmxon_region());
    Check{"vmxoff-succeeds"}.outcome("VMXOFF", try_vmxoff(), vm_succeed);
    check_outside_vmx_operation();
    check_vmxon_operands();
    Check{"vmxon-succeeds"}.outcome("VMXON", try_vmxon(&address), vm_succeed);
    check_in_vmx_operation();
    Check check{"vmxoff-and-vmxon-can-be-repeated"};
    for (unsigned i = 0; i < 3; ++i) {
        check.outcome("VMXOFF", try_vmxoff(), vm_succeed);
        check.outcome("VMXON", try_vmxon(&address), vm_succeed);
    }
}

}  // namespace flatback::guests
