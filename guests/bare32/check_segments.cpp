// Memory operands through segments: limits, types, and where addresses wrap. SDM 3A 5.3 to 5.5.

#include "guests/bare32/check.hpp"
#include "guests/bare32/checks.hpp"
#include "guests/bare32/cpu.hpp"
#include "guests/bare32/interrupts.hpp"
#include "guests/bare32/segmented.hpp"
#include "guests/bare32/vmcs.hpp"

namespace flatback::guests::bare32 {
namespace {

// Access rights as in the VMCS: present, 32-bit; limits in bytes.
constexpr std::uint32_t writable_data = 0x4093;
constexpr std::uint32_t read_only_data = 0x4091;
constexpr std::uint32_t expand_down_data = 0x4097;
constexpr std::uint32_t readable_code = 0x409B;
constexpr std::uint32_t execute_only_code = 0x4099;
constexpr std::uint32_t in_pages = 0x8000;
constexpr std::uint32_t whole = 0xFFFFF;  // with in_pages

const Outcome protection = fault(vector_general_protection);

alignas(16) std::uint64_t memory[16];

std::uint64_t segment(std::uint32_t limit, std::uint32_t rights) {
    return descriptor(physical(memory), limit, rights);
}

// What VMPTRST must have left there.
std::uint64_t current() {
    return physical(&vmcs_region(0));
}

void check_limits() {
    Check check{"an-operand-beyond-its-segments-limit-is-a-general-protection-fault"};
    load_described_fs(segment(0x27, writable_data));
    memory[4] = 0;
    check.outcome("VMPTRST at the limit", try_vmptrst_fs(0x20), vm_succeed);
    check.equal("stored", memory[4], current());
    check.outcome("VMPTRST one byte beyond", try_vmptrst_fs(0x21), protection);
    check.outcome("VMPTRST far beyond", try_vmptrst_fs(0x1000), protection);
    check.outcome("VMPTRLD at the limit", try_vmptrld_fs(0x20), vm_succeed);
    check.outcome("VMPTRLD beyond", try_vmptrld_fs(0x21), protection);
    check.outcome("VMREAD, four bytes at the limit", try_vmread_to_fs(field::guest_rip.encoding, 0x24),
                  vm_succeed);
    check.outcome("VMREAD beyond", try_vmread_to_fs(field::guest_rip.encoding, 0x25), protection);
    check.outcome("VMWRITE at the limit", try_vmwrite_from_fs(field::guest_rip.encoding, 0x24), vm_succeed);
    check.outcome("VMWRITE beyond", try_vmwrite_from_fs(field::guest_rip.encoding, 0x25), protection);
    check.outcome("VMCLEAR beyond", try_vmclear_fs(0x21), protection);
    if (capabilities.offers_ept()) {
        check.outcome("INVEPT, sixteen bytes beyond", try_invept_fs(2, 0x19), protection);
    }
}

void check_types() {
    memory[0] = current();
    {
        Check check{"an-operand-in-the-null-segment-is-a-general-protection-fault"};
        load_null_fs();
        check.outcome("VMPTRST", try_vmptrst_fs(physical(memory)), protection);
        check.outcome("VMPTRLD", try_vmptrld_fs(physical(memory)), protection);
    }
    {
        Check check{"a-read-only-segment-is-read-and-not-written"};
        load_described_fs(segment(0xFF, read_only_data));
        check.outcome("VMPTRLD", try_vmptrld_fs(0), vm_succeed);
        check.outcome("VMWRITE", try_vmwrite_from_fs(field::guest_rip.encoding, 0), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst_fs(8), protection);
        check.outcome("VMREAD", try_vmread_to_fs(field::guest_rip.encoding, 8), protection);
    }
    {
        Check check{"a-code-segment-is-read-only-where-it-is-readable"};
        load_described_fs(segment(0xFF, readable_code));
        check.outcome("VMPTRLD", try_vmptrld_fs(0), vm_succeed);
        check.outcome("VMPTRST", try_vmptrst_fs(8), protection);
    }
    {
        Check check{"an-expand-down-segment-begins-behind-its-limit"};
        load_described_fs(segment(0x0F, expand_down_data));
        check.outcome("VMPTRST below", try_vmptrst_fs(0x0F), protection);
        check.outcome("VMPTRST above", try_vmptrst_fs(0x10), vm_succeed);
    }
    Check check{"an-operand-beyond-the-stack-segments-limit-is-a-stack-fault"};
    constexpr std::uint32_t pages_of_64_mb = 0x3FFF;
    check.outcome(
        "VMPTRST within",
        try_vmptrst_ss(descriptor(0, pages_of_64_mb, writable_data | in_pages), physical(&memory[6])),
        vm_succeed);
    check.equal("stored", memory[6], current());
    check.outcome("VMPTRST beyond",
                  try_vmptrst_ss(descriptor(0, pages_of_64_mb, writable_data | in_pages), linear_window),
                  fault(vector_stack_fault));
}

// SDM 3A 3.4.5: L is reserved outside IA-32e mode, where a processor takes no notice of it.
void check_long_bit() {
    Check check{"the-l-bit-of-a-code-segment-means-nothing-outside-ia-32e-mode"};
    load_cs(long_bit_selector);
    load_described_fs(segment(0x27, writable_data));
    memory[4] = 0;
    const Outcome at_the_limit = try_vmptrst_fs(0x20);
    const Outcome beyond = try_vmptrst_fs(0x21);
    const Outcome four_bytes = try_vmread_to_fs(field::guest_rip.encoding, 0x24);
    load_cs(code_selector);
    check.outcome("VMPTRST at the limit", at_the_limit, vm_succeed);
    check.outcome("VMPTRST one byte beyond", beyond, protection);
    check.outcome("VMREAD, four bytes at the limit", four_bytes, vm_succeed);
}

}  // namespace

void check_segments() {
    start_vmcs(0, {});
    check_limits();
    check_types();
    check_long_bit();
    load_null_fs();
}

void check_wrapping() {
    start_vmcs(0, {});
    {
        Check check{"base-and-offset-wrap-at-4-gb"};
        load_described_fs(descriptor(0xFFFFF000, whole, writable_data | in_pages));
        memory[2] = 0;
        check.outcome("VMPTRST", try_vmptrst_fs(physical(&memory[2]) + 0x1000), vm_succeed);
        check.equal("stored", memory[2], current());
        memory[2] = current();
        check.outcome("VMPTRLD", try_vmptrld_fs(physical(&memory[2]) + 0x1000), vm_succeed);
    }
    {
        Check check{"a-16-bit-address-wraps-at-64-kb"};
        load_described_fs(segment(0xFFFF, writable_data));
        memory[3] = 0;
        check.outcome("VMPTRST", try_vmptrst_fs_16(0xFFF8, 0x20), vm_succeed);
        check.equal("stored", memory[3], current());
    }
    {
        // Eight bytes of which the last four are behind 4 GB: linear addresses are of 32 bits. Whether an
        // access that is within a limit of FFFFFFFFH only by wrapping faults is the processor's choice (SDM
        // 3A 5.3).
        Check check{"an-operand-across-4-gb-goes-on-at-linear-address-0-or-is-a-general-protection-fault"};
        static Page page;
        map_linear(last_page, physical(&page) | page_entry::present | page_entry::writable);
        auto* volatile const first = reinterpret_cast<volatile std::uint32_t*>(0);
        page.words[1023] = 0;
        const Outcome got = try_vmptrst(0xFFFFFFFC);
        check.holds("stored, or refused", got == vm_succeed || got == protection);
        if (got == vm_succeed) {
            check.equal("low half", page.words[1023], static_cast<std::uint32_t>(current()));
            std::uint32_t high = 1;
            asm volatile("movl (%1), %0" : "=r"(high) : "r"(first) : "memory");
            check.equal("high half", high, 0);
        }
        map_linear(last_page, 0);
    }
    load_null_fs();
}

}  // namespace flatback::guests::bare32
