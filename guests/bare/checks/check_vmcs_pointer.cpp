// VMCLEAR, VMPTRLD, VMPTRST: SDM 3C 31.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t no_vmcs = ~std::uint64_t{0};

std::uint64_t beyond_width(std::uint64_t address) {
    return address | 1ULL << (cpuid(0x80000008).eax & 0xFF);
}

// The errors, in the form they take with this current VMCS or without one.
void check_bad_pointers(std::string_view suffix, bool has_current) {
    const RuleScope rule{{"3C 31.3 VMCLEAR, VMPTRLD", "a pointer that does not hold is an error of its own"}};
    const auto fails = [&](std::uint32_t number) {
        return has_current ? vm_fail_valid(number) : vm_fail_invalid;
    };
    const std::uint64_t misaligned = physical(new_vmcs_region()) + 0x10;
    const std::uint64_t too_wide = beyond_width(physical(new_vmcs_region()));
    const std::uint64_t vmxon = physical(vmxon_region());
    Page* const foreign_page = new_vmcs_region();
    foreign_page->words[0] ^= 1;
    const std::uint64_t foreign = physical(foreign_page);
    const auto named = [&](Line& line, std::string_view name) { return (line << name << suffix).text(); };

    Line n1, n2, n3, n4, n5, n6, n7;
    Check{named(n1, "vmclear-of-a-misaligned-address-")}.outcome("VMCLEAR", try_vmclear(&misaligned),
                                                                 fails(2));
    Check{named(n2, "vmclear-beyond-the-physical-address-width-")}.outcome("VMCLEAR", try_vmclear(&too_wide),
                                                                           fails(2));
    Check{named(n3, "vmclear-of-the-vmxon-pointer-")}.outcome("VMCLEAR", try_vmclear(&vmxon), fails(3));
    Check{named(n4, "vmptrld-of-a-misaligned-address-")}.outcome("VMPTRLD", try_vmptrld(&misaligned),
                                                                 fails(9));
    Check{named(n5, "vmptrld-beyond-the-physical-address-width-")}.outcome("VMPTRLD", try_vmptrld(&too_wide),
                                                                           fails(9));
    Check{named(n6, "vmptrld-of-the-vmxon-pointer-")}.outcome("VMPTRLD", try_vmptrld(&vmxon), fails(10));
    Check{named(n7, "vmptrld-with-a-wrong-revision-")}.outcome("VMPTRLD", try_vmptrld(&foreign), fails(11));
}

void check_faults() {
    const RuleScope rule{{"3C 31.3 VMCLEAR, VMPTRLD, VMPTRST", "the operand is accessed with its faults"}};
    std::uint64_t value = 0;
    map_linear(0, physical(allocate_page()) | linear_page::present);
    map_linear(1, 0);
    const std::uint64_t hole = linear_window + page_size;
    void* const across = window_address(page_size - 4);
    void* const not_canonical = reinterpret_cast<void*>(0x8000'0000'0000ULL);
    {
        Check check{"vmclear-and-vmptrld-with-operands-on-an-unmapped-page-fault-as-reads"};
        check.outcome("VMCLEAR", try_vmclear(across), page_fault(hole, 0));
        check.outcome("VMPTRLD", try_vmptrld(across), page_fault(hole, 0));
        check.outcome("VMCLEAR", try_vmclear(window_address(page_size)), page_fault(hole, 0));
    }
    {
        Check check{"vmptrst-to-an-unmapped-page-faults-as-a-write"};
        check.outcome("VMPTRST", try_vmptrst(window_address(page_size)), page_fault(hole, 2));
    }
    {
        Check check{"vmptrst-to-a-read-only-page-faults-with-the-present-bit"};
        check.outcome("VMPTRST", try_vmptrst(window_address(0)), page_fault(linear_window, 3));
    }
    {
        Check check{"operands-at-noncanonical-addresses-are-general-protection-faults"};
        check.outcome("VMCLEAR", try_vmclear(not_canonical), fault(vector_general_protection));
        check.outcome("VMPTRLD", try_vmptrld(not_canonical), fault(vector_general_protection));
        check.outcome("VMPTRST", try_vmptrst(not_canonical), fault(vector_general_protection));
        check.outcome("VMREAD", try_vmread_to(field::guest_rip.encoding, not_canonical),
                      fault(vector_general_protection));
    }
    static_cast<void>(value);
}

void check_current_pointer(std::uint64_t first, std::uint64_t second) {
    const RuleScope rule{
        {"3C 31.3 VMPTRST", "the current-VMCS pointer is what VMPTRLD loaded until VMCLEAR"}};
    std::uint64_t stored = 0;
    {
        Check check{"vmptrst-stores-the-pointer-that-vmptrld-loaded"};
        check.outcome("VMPTRLD", try_vmptrld(&first), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, first);
        check.outcome("VMPTRLD", try_vmptrld(&second), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, second);
    }
    {
        Check check{"vmptrst-across-two-mapped-pages-stores-all-eight-bytes"};
        Page* const low = allocate_page();
        Page* const high = allocate_page();
        map_linear(0, physical(low) | linear_page::present | linear_page::writable);
        map_linear(1, physical(high) | linear_page::present | linear_page::writable);
        check.outcome("VMPTRST", try_vmptrst(window_address(page_size - 4)), vm_succeed);
        check.equal("pointer", low->words[511] >> 32 | high->words[0] << 32, second);
        check.outcome("VMPTRLD", try_vmptrld(window_address(page_size - 4)), vm_succeed);
    }
    {
        Check check{"vmclear-of-another-vmcs-keeps-the-current-one"};
        check.outcome("VMCLEAR", try_vmclear(&first), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, second);
    }
    {
        Check check{"a-failed-vmptrld-keeps-the-current-vmcs"};
        const std::uint64_t vmxon = physical(vmxon_region());
        check.outcome("VMPTRLD", try_vmptrld(&vmxon), vm_fail_valid(10));
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, second);
    }
    {
        Check check{"vmclear-of-the-current-vmcs-leaves-none"};
        check.outcome("VMCLEAR", try_vmclear(&second), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, no_vmcs);
    }
}

}  // namespace

void check_vmcs_pointer() {
    const RuleScope rule{{"3C 31.3 VMCLEAR, VMPTRLD", "VMCLEAR and VMPTRLD of a good region"}};
    const PageScope scope;
    Page* const first_page = new_vmcs_region();
    const std::uint64_t first = physical(first_page);
    const std::uint64_t second = physical(new_vmcs_region());
    check_bad_pointers("without-a-current-vmcs-fails-invalid", false);
    Check{"vmclear-of-a-fresh-region-succeeds"}.outcome("VMCLEAR", try_vmclear(&first), vm_succeed);
    try_vmclear(&second);
    try_vmptrld(&first);
    check_bad_pointers("with-a-current-vmcs-fails-with-its-number", true);
    if (!capabilities.secondary.may_set(secondary::vmcs_shadowing)) {
        Page* const shadow = new_vmcs_region();
        shadow->words[0] |= 0x80000000;
        const std::uint64_t address = physical(shadow);
        Check{"vmptrld-of-a-shadow-vmcs-fails-with-error-11-where-shadowing-is-not-offered"}.outcome(
            "VMPTRLD", try_vmptrld(&address), vm_fail_valid(11));
    } else {
        report_not_offered("absence of VMCS shadowing");
    }
    check_faults();
    check_current_pointer(first, second);
}

}  // namespace flatback::guests
