// The current-VMCS pointer, and 64-bit fields by 32-bit operands. SDM 3C 25.11.2, 31.3 (VMREAD, VMWRITE).

#include "guests/bare32/check.hpp"
#include "guests/bare32/checks.hpp"
#include "guests/bare32/cpu.hpp"
#include "guests/bare32/vmcs.hpp"

namespace flatback::guests::bare32 {
namespace {

// Some that an L0 may keep in a shadow VMCS, and some that it may not.
constexpr std::uint32_t fields_64[] = {
    field::tsc_offset.encoding, field::address_of_msr_bitmaps.encoding, field::guest_ia32_debugctl.encoding,
    field::vm_exit_msr_store_address.encoding, field::vmcs_link_pointer.encoding};

constexpr std::uint32_t not_64_bits[] = {field::guest_cs_selector.encoding, field::guest_cs_limit.encoding,
                                         field::exit_reason.encoding, field::guest_rip.encoding,
                                         field::host_cr3.encoding};

const Outcome no_such_field = vm_fail_valid(12);

std::uint32_t memory[4];

}  // namespace

void check_vmcs_pointer() {
    std::uint64_t address = physical(&vmcs_region(0));
    volatile std::uint64_t stored = 0;
    {
        Check check{"without-a-current-vmcs-vmptrst-stores-ones"};
        check.outcome("VMPTRST", try_vmptrst(physical(&stored)), vm_succeed);
        check.equal("pointer", stored, ~std::uint64_t{0});
    }
    {
        Check check{"vmptrld-and-vmptrst-take-eight-bytes"};
        check.outcome("VMCLEAR", try_vmclear(physical(&address)), vm_succeed);
        check.outcome("VMPTRLD", try_vmptrld(physical(&address)), vm_succeed);
        stored = 0x5555'5555'5555'5555;
        check.outcome("VMPTRST", try_vmptrst(physical(&stored)), vm_succeed);
        check.equal("pointer", stored, address);
        address |= 1ULL << 60;
        check.outcome("VMPTRLD beyond the physical width", try_vmptrld(physical(&address)), vm_fail_valid(9));
        check.outcome("VMCLEAR beyond the physical width", try_vmclear(physical(&address)), vm_fail_valid(2));
    }
    address = physical(&vmcs_region(0));
    Check check{"vmclear-of-the-current-vmcs-leaves-none"};
    check.outcome("VMCLEAR", try_vmclear(physical(&address)), vm_succeed);
    check.outcome("VMPTRST", try_vmptrst(physical(&stored)), vm_succeed);
    check.equal("pointer", stored, ~std::uint64_t{0});
    std::uint32_t value = 0;
    check.outcome("VMREAD", try_vmread(field::guest_rip.encoding, value), vm_fail_invalid);
}

void check_field_halves() {
    start_vmcs(0, {});
    {
        Check check{"a-vmwrite-of-a-64-bit-field-clears-its-high-half"};
        for (const std::uint32_t encoding : fields_64) {
            check.outcome("high half", try_vmwrite(high_half(encoding), 0xAAAA'BBBB), vm_succeed);
            check.outcome("whole field", try_vmwrite(encoding, 0x1111'2222), vm_succeed);
            check.equal("low half", read_raw(encoding), 0x1111'2222);
            check.equal("high half", read_raw(high_half(encoding)), 0);
        }
    }
    {
        Check check{"a-vmwrite-of-a-high-half-leaves-the-low-half"};
        for (const std::uint32_t encoding : fields_64) {
            check.outcome("whole field", try_vmwrite(encoding, 0x3333'4444), vm_succeed);
            check.outcome("high half", try_vmwrite(high_half(encoding), 0xCCCC'DDDD), vm_succeed);
            check.equal("low half", read_raw(encoding), 0x3333'4444);
            check.equal("high half", read_raw(high_half(encoding)), 0xCCCC'DDDD);
        }
    }
    {
        Check check{"fields-of-other-widths-have-no-high-half"};
        for (const std::uint32_t encoding : not_64_bits) {
            std::uint32_t value = 0;
            check.outcome("VMREAD", try_vmread(high_half(encoding), value), no_such_field);
            check.outcome("VMWRITE", try_vmwrite(high_half(encoding), 0), no_such_field);
        }
    }
    {
        Check check{"vmread-to-memory-writes-four-bytes"};
        for (const std::uint32_t encoding : fields_64) {
            write_raw(encoding, 0x5555'6666);
            write_raw(high_half(encoding), 0x7777'8888);
            for (std::uint32_t& word : memory) word = 0x1234'5678;
            check.outcome("VMREAD", try_vmread_to(encoding, physical(&memory[1])), vm_succeed);
            check.equal("before", memory[0], 0x1234'5678);
            check.equal("low half", memory[1], 0x5555'6666);
            check.equal("behind", memory[2], 0x1234'5678);
            check.outcome("VMREAD", try_vmread_to(high_half(encoding), physical(&memory[1])), vm_succeed);
            check.equal("high half", memory[1], 0x7777'8888);
        }
        check.outcome("VMREAD of 16 bits",
                      try_vmread_to(field::host_cs_selector.encoding, physical(&memory[1])), vm_succeed);
        check.equal("16 bits with zeroes above", memory[1], read(field::host_cs_selector));
    }
    Check check{"vmwrite-from-memory-takes-four-bytes"};
    memory[1] = 0x9999'AAAA;
    memory[2] = 0xFFFF'FFFF;
    for (const std::uint32_t encoding : fields_64) {
        write_raw(high_half(encoding), 0xBBBB'BBBB);
        check.outcome("VMWRITE", try_vmwrite_from(encoding, physical(&memory[1])), vm_succeed);
        check.equal("low half", read_raw(encoding), 0x9999'AAAA);
        check.equal("high half", read_raw(high_half(encoding)), 0);
        check.outcome("VMWRITE", try_vmwrite_from(high_half(encoding), physical(&memory[1])), vm_succeed);
        check.equal("low half", read_raw(encoding), 0x9999'AAAA);
        check.equal("high half", read_raw(high_half(encoding)), 0x9999'AAAA);
    }
}

}  // namespace flatback::guests::bare32
