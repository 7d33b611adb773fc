// PAE paging uses the four PDPTEs that the processor has loaded, whatever memory says by now. SDM 3A 4.4.1.

#include "guests/bare32/check.hpp"
#include "guests/bare32/checks.hpp"
#include "guests/bare32/cpu.hpp"
#include "guests/bare32/vmcs.hpp"

namespace flatback::guests::bare32 {
namespace {

Page pages[2];

// The VMCS whose address stands in the page that VMPTRLD finds at the second gigabyte.
std::uint64_t pointer_of(unsigned which) {
    return physical(&vmcs_region(1 + which));
}

void expect(Check& check, std::string_view when, unsigned which) {
    std::uint32_t plain = 0;
    asm volatile("movl (%1), %0" : "=r"(plain) : "r"(second_gigabyte + 8) : "memory");
    check.equal(when, plain, which);
    std::uint64_t current = 0;
    check.outcome("VMPTRLD", try_vmptrld(second_gigabyte), vm_succeed);
    check.outcome("VMPTRST", try_vmptrst(physical(&current)), vm_succeed);
    check.equal(when, current, pointer_of(which));
    pages[which].words[4] = 0;
    pages[1 - which].words[4] = 0;
    check.outcome("VMREAD", try_vmread_to(field::guest_rip.encoding, second_gigabyte + 16), vm_succeed);
    check.holds("VMREAD went to the same page", pages[1 - which].words[4] == 0);
}

}  // namespace

void check_loaded_pdptes() {
    for (unsigned which = 0; which < 2; ++which) {
        start_vmcs(1 + which, {});
        write(field::guest_rip, 0x1234);
        pages[which].words[0] = static_cast<std::uint32_t>(pointer_of(which));
        pages[which].words[1] = 0;
        pages[which].words[2] = which;
        fill_second_gigabyte(which, physical(&pages[which]));
    }
    name_second_gigabyte(0);
    write_cr3(read_cr3());
    {
        Check check{"operands-are-found-by-the-pdptes-that-are-loaded"};
        expect(check, "as CR3 was loaded", 0);
        name_second_gigabyte(1);
        invalidate_page(second_gigabyte);
        expect(check, "after a change in memory", 0);
        write_cr3(read_cr3());
        expect(check, "after MOV to CR3", 1);
        name_second_gigabyte(0);
        invalidate_page(second_gigabyte);
        expect(check, "after one more change", 1);
    }
    {
        // SDM 3A 4.4.1: MOV to CR4 that changes one of PGE, PSE, PAE, SMEP loads them too.
        Check check{"mov-to-cr4-that-changes-paging-loads-the-pdptes"};
        constexpr std::uint32_t cr4_pge = 1U << 7;
        write_cr4(read_cr4() | cr4_pge);
        expect(check, "after PGE was set", 0);
        name_second_gigabyte(1);
        write_cr4(read_cr4() & ~cr4_pge);
        expect(check, "after PGE was cleared", 1);
    }
    name_second_gigabyte(0);
    write_cr3(read_cr3());
}

}  // namespace flatback::guests::bare32
