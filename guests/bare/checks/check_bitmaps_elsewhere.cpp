// MSR and I/O bitmaps that another processor writes, by its own stores and by VMX instructions, between two
// entries of the L2 that uses them. SDM 3C 25.6.4, 25.6.9.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"

extern "C" {
extern char l2_reads_lstar[];
extern char l2_writes_port_80[];
}

asm(R"(
.pushsection .text
.globl l2_reads_lstar, l2_writes_port_80
l2_reads_lstar:
    rdmsr
    vmcall
l2_writes_port_80:
    outb %al, $0x80
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_lstar = 0xC0000082;
constexpr unsigned lstar_byte = 1024 + 0x82 / 8;
constexpr std::uint8_t lstar_bit = 1U << (0x82 % 8);
constexpr unsigned port_80_byte = 0x80 / 8;
constexpr std::uint8_t port_80_bit = 1;

Page* vmxon_page = nullptr;
std::uint8_t* msr_bitmaps = nullptr;
std::uint8_t* io_bitmap = nullptr;
volatile bool second_did_it = false;

void second_enters_vmx_operation() {
    write_cr0((read_cr0() | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4((read_cr4() | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1);
    const std::uint64_t address = physical(vmxon_page);
    second_did_it = try_vmxon(&address) == vm_succeed;
}
void second_leaves_vmx_operation() {
    second_did_it = try_vmxoff() == vm_succeed;
}

void second_sets_msr_bit() {
    msr_bitmaps[lstar_byte] |= lstar_bit;
}
void second_clears_msr_bit() {
    msr_bitmaps[lstar_byte] &= static_cast<std::uint8_t>(~lstar_bit);
}
// What VMPTRST stores are zeros there: a page's address.
void second_clears_msr_bit_by_vmptrst() {
    L2 l2{usual_plan(physical(l2_reads_lstar), usual_ept().pointer())};
    std::uint64_t* const words = reinterpret_cast<std::uint64_t*>(msr_bitmaps);
    second_did_it = try_vmptrst(&words[lstar_byte / 8]) == vm_succeed;
    l2.clear();
}
void second_sets_io_bit() {
    io_bitmap[port_80_byte] |= port_80_bit;
}
void second_clears_io_bit() {
    io_bitmap[port_80_byte] &= static_cast<std::uint8_t>(~port_80_bit);
}

// As often as L0 may need to see that nobody writes.
constexpr unsigned quiet_entries = 6;
constexpr unsigned rounds = 24;

bool runs_to(L2& l2, const char* program, std::uint32_t why) {
    write(field::guest_rip, physical(program));
    l2.registers.rcx = msr_lstar;
    return l2.run() == why;
}

void check_msr_bitmaps() {
    const RuleScope rule{{"3C 25.6.9", "an entry goes by what the MSR bitmaps have, whoever wrote it"}};
    VmcsPlan plan = usual_plan(0, usual_ept().pointer());
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(msr_bitmaps);
    L2 l2{plan};
    Check check{"an-entry-goes-by-msr-bitmaps-that-another-processor-has-just-written"};
    for (unsigned round = 0; round < rounds; ++round) {
        for (unsigned entry = 0; entry < quiet_entries * (round % 5); ++entry)
            check.holds("no exit before", runs_to(l2, l2_reads_lstar, reason::vmcall));
        check.holds("it comes to an end", do_on_second(second_sets_msr_bit));
        check.holds("an exit once the bit is set", runs_to(l2, l2_reads_lstar, reason::rdmsr));
        for (unsigned entry = 0; entry < quiet_entries; ++entry)
            check.holds("and from then on", runs_to(l2, l2_reads_lstar, reason::rdmsr));
        const bool by_instruction = round % 2 != 0;
        second_did_it = false;
        check.holds("it comes to an end",
                    do_on_second(by_instruction ? second_clears_msr_bit_by_vmptrst : second_clears_msr_bit));
        if (by_instruction) check.holds("VMPTRST", second_did_it);
        check.holds("no exit once it is clear", runs_to(l2, l2_reads_lstar, reason::vmcall));
        // And by this processor itself.
        msr_bitmaps[lstar_byte] |= lstar_bit;
        check.holds("an exit by an own write", runs_to(l2, l2_reads_lstar, reason::rdmsr));
        second_clears_msr_bit();
        check.holds("no exit by an own write", runs_to(l2, l2_reads_lstar, reason::vmcall));
    }
}

void check_io_bitmaps(bool with_msr_bitmaps) {
    const RuleScope rule{{"3C 25.6.4", "an entry goes by what the I/O bitmaps have, whoever wrote it"}};
    VmcsPlan plan = usual_plan(0, usual_ept().pointer());
    plan.primary |= primary::use_io_bitmaps;
    if (with_msr_bitmaps) {
        plan.primary |= primary::use_msr_bitmaps;
        plan.msr_bitmaps = physical(msr_bitmaps);
    }
    L2 l2{plan};
    write(field::address_of_io_bitmap_a, physical(io_bitmap));
    write(field::address_of_io_bitmap_b, physical(allocate_page()));
    Check check{with_msr_bitmaps
                    ? "an-entry-goes-by-io-bitmaps-that-another-processor-has-just-written-with-msr-bitmaps"
                    : "an-entry-goes-by-io-bitmaps-that-another-processor-has-just-written"};
    for (unsigned round = 0; round < rounds; ++round) {
        for (unsigned entry = 0; entry < quiet_entries * (round % 5); ++entry)
            check.holds("no exit before", runs_to(l2, l2_writes_port_80, reason::vmcall));
        check.holds("it comes to an end", do_on_second(second_sets_io_bit));
        check.holds("an exit once the bit is set", runs_to(l2, l2_writes_port_80, reason::io_instruction));
        for (unsigned entry = 0; entry < quiet_entries; ++entry)
            check.holds("and from then on", runs_to(l2, l2_writes_port_80, reason::io_instruction));
        check.holds("it comes to an end", do_on_second(second_clears_io_bit));
        check.holds("no exit once it is clear", runs_to(l2, l2_writes_port_80, reason::vmcall));
    }
}

}  // namespace

void check_bitmaps_elsewhere() {
    if (!start_second_processor()) return report_text("bare_l1.not_offered", "a second processor");
    const PageScope scope;
    vmxon_page = new_vmcs_region();
    msr_bitmaps = reinterpret_cast<std::uint8_t*>(allocate_page());
    io_bitmap = reinterpret_cast<std::uint8_t*>(allocate_page());
    if (!do_on_second(second_enters_vmx_operation) || !second_did_it) {
        Check{"another-processor-enters-vmx-operation-for-its-bitmaps"}.holds("VMXON", false);
        return;
    }
    check_msr_bitmaps();
    check_io_bitmaps(false);
    check_io_bitmaps(true);
    static_cast<void>(do_on_second(second_leaves_vmx_operation));
}

}  // namespace flatback::guests
