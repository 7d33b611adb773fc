// VMCS shadowing: a shadow VMCS as L1's current one, and as the one that L2 reaches. SDM 3C 25.10, 31.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_vmread[];
extern char l2_vmwrite[];
}

// RCX names the field, RBX is the value; the low flags come back in EDX. Without a stack.
asm(R"(
.pushsection .text
.globl l2_vmread, l2_vmwrite
l2_vmread:
    vmread %rcx, %rbx
    lahf
    movzbl %ah, %edx
    vmcall
l2_vmwrite:
    vmwrite %rbx, %rcx
    lahf
    movzbl %ah, %edx
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t shadow_indicator = 0x8000'0000;
constexpr std::uint64_t untouched = 0x5555'AAAA'5555'AAAA;
constexpr std::uint64_t all_flags = 0x8D7;     // before the instruction, so that one that stays is seen
constexpr std::uint64_t flags_of_lahf = 0xD5;  // SF, ZF, AF, PF, CF
constexpr std::uint64_t no_vmcs = ~std::uint64_t{0};

constexpr Deviation enters_shadow_vmcs{"a shadow VMCS is looked at as any other by VM entry"};

struct Shadow {
    Page* const page = new_vmcs_region();
    const std::uint64_t address = physical(page);
    Shadow() { page->words[0] |= shadow_indicator; }
};

// L2 with VMCS shadowing; by the bitmaps everything is its own, as yet.
struct Shown {
    explicit Shown(std::uint64_t link) : l2{plan()} {
        write(field::vmread_bitmap_address, physical(read_bitmap));
        write(field::vmwrite_bitmap_address, physical(write_bitmap));
        write(field::vmcs_link_pointer, link);
    }
    static VmcsPlan plan() {
        VmcsPlan plan = usual_plan(physical(l2_vmcall_loop), usual_ept().pointer());
        plan.secondary |= secondary::vmcs_shadowing;
        return plan;
    }
    std::uint32_t run(const char* program, std::uint64_t encoding, std::uint64_t value = untouched) {
        write(field::guest_rip, physical(program));
        write(field::guest_rflags, all_flags);
        l2.registers = {};
        l2.registers.rcx = encoding;
        l2.registers.rbx = value;
        return l2.run();
    }
    // The instruction is done without an exit, and leaves these flags.
    void done(Check& check, std::uint64_t flags) {
        check.equal("exit", read(field::exit_reason), reason::vmcall);
        check.equal("flags", l2.registers.rdx & flags_of_lahf, flags);
    }
    static void forbid(Page* bitmap, std::uint64_t encoding) {
        bitmap->words[encoding / 64] |= std::uint64_t{1} << (encoding % 64);
    }

    Page* const read_bitmap = allocate_page();
    Page* const write_bitmap = allocate_page();
    L2 l2;
};

void check_current() {
    const RuleScope rule{{"3C 25.10", "a shadow VMCS may be made current, read and written"}};
    const Shadow shadow;
    const std::uint64_t ordinary = physical(new_vmcs_region());
    {
        Check check{"a-shadow-vmcs-may-be-made-current-and-has-every-field"};
        try_vmclear(&shadow.address);
        check.outcome("VMPTRLD", try_vmptrld(&shadow.address), vm_succeed);
        std::uint64_t stored = 0;
        check.outcome("VMPTRST", try_vmptrst(&stored), vm_succeed);
        check.equal("pointer", stored, shadow.address);
        constexpr std::uint64_t encodings[] = {field::guest_rip.encoding, field::host_rsp.encoding,
                                               field::exit_qualification.encoding, field::tsc_offset.encoding,
                                               field::vmcs_link_pointer.encoding};
        for (const std::uint64_t encoding : encodings) {
            std::uint64_t value = 0;
            check.outcome("VMWRITE", try_vmwrite(encoding, untouched + encoding), vm_succeed);
            check.outcome("VMREAD", try_vmread(encoding, value), vm_succeed);
            check.equal("value", value, untouched + encoding);
        }
    }
    {
        Check check{"errors-go-to-the-shadow-vmcs-that-is-current"};
        std::uint64_t value = untouched;
        check.outcome("VMREAD of no field", try_vmread(0x7FFE, value), vm_fail_valid(12));
        check.outcome("VMWRITE of no field", try_vmwrite(0x1000, 1), vm_fail_valid(12));
        const std::uint64_t misaligned = shadow.address + 1;
        check.outcome("VMPTRLD", try_vmptrld(&misaligned), vm_fail_valid(9));
    }
    {
        Check check{"vm-entry-with-a-shadow-vmcs-fails-invalid"};
        check.outcome("VMLAUNCH", try_enter(true), vm_fail_invalid).known(enters_shadow_vmcs);
        check.outcome("VMRESUME", try_enter(false), vm_fail_invalid).known(enters_shadow_vmcs);
    }
    {
        Check check{"a-shadow-vmcs-keeps-its-fields-through-vmclear"};
        write(field::guest_rip, 0x1234);
        check.outcome("VMCLEAR", try_vmclear(&shadow.address), vm_succeed);
        std::uint64_t value = untouched;
        check.outcome("VMREAD", try_vmread(field::guest_rip.encoding, value), vm_fail_invalid);
        try_vmclear(&ordinary);
        try_vmptrld(&ordinary);
        write(field::guest_rip, 0x4321);
        check.outcome("VMPTRLD", try_vmptrld(&shadow.address), vm_succeed);
        check.equal("guest RIP", read(field::guest_rip), 0x1234);
        try_vmptrld(&ordinary);
        check.equal("the other's", read(field::guest_rip), 0x4321);
        try_vmclear(&ordinary);
        try_vmclear(&shadow.address);
    }
}

void check_linked() {
    const RuleScope rule{
        {"3C 25.10", "VMREAD and VMWRITE of L2 access the VMCS that the link pointer names"}};
    const Shadow shadow;
    try_vmclear(&shadow.address);
    try_vmptrld(&shadow.address);
    write(field::guest_rip, 0x1234'5678);
    write(field::exit_reason, 0x77);
    Shown shown{shadow.address};
    {
        Check check{"l2-reads-its-shadow-vmcs-without-an-exit"};
        shown.run(l2_vmread, field::guest_rip.encoding);
        shown.done(check, 0);
        check.equal("guest RIP", shown.l2.registers.rbx, 0x1234'5678);
        shown.run(l2_vmread, field::exit_reason.encoding);
        shown.done(check, 0);
        check.equal("exit reason", shown.l2.registers.rbx, 0x77);
    }
    {
        Check check{"l2-writes-its-shadow-vmcs-without-an-exit"};
        shown.run(l2_vmwrite, field::tsc_offset.encoding, 0x1'0000'0002);
        shown.done(check, 0);
        shown.run(l2_vmread, field::tsc_offset.encoding | 1);
        shown.done(check, 0);
        check.equal("high half", shown.l2.registers.rbx, 1);
        check.equal("its own VMCS's", read(field::tsc_offset), 0);
        try_vmptrld(&shadow.address);
        check.equal("as L1 finds it", read(field::tsc_offset), 0x1'0000'0002);
        shown.l2.make_current();
    }
    {
        Check check{"a-field-that-there-is-not-is-error-12-in-the-vmcs-that-l2-runs-under"};
        shown.run(l2_vmread, 0x7FFE);
        shown.done(check, flag_zero);
        check.equal("destination", shown.l2.registers.rbx, untouched);
        check.equal("error", read(field::vm_instruction_error), 12);
        shown.run(l2_vmwrite, 0x1000);
        shown.done(check, flag_zero);
        shown.run(l2_vmread, 0x10000);
        check.equal("exit of what is longer than an encoding", read(field::exit_reason), reason::vmread);
    }
    {
        Check check{"without-a-link-pointer-l2s-vmread-fails-invalid"};
        write(field::vmcs_link_pointer, no_vmcs);
        shown.run(l2_vmread, field::guest_rip.encoding);
        shown.done(check, flag_carry);
        check.equal("destination", shown.l2.registers.rbx, untouched);
        shown.run(l2_vmwrite, field::guest_rip.encoding);
        shown.done(check, flag_carry);
        write(field::vmcs_link_pointer, shadow.address);
    }
    shown.l2.clear();
    try_vmclear(&shadow.address);
}

void check_bitmaps() {
    const RuleScope rule{{"3C 26.1.3", "an access to a field whose bit is 1 exits"}};
    const Shadow shadow;
    try_vmclear(&shadow.address);
    Shown shown{shadow.address};
    Check check{"the-vmread-and-vmwrite-bitmaps-say-what-exits"};
    constexpr std::uint64_t encoding = field::guest_rip.encoding;
    shown.run(l2_vmwrite, encoding, 0x55);
    shown.done(check, 0);
    Shown::forbid(shown.read_bitmap, encoding);
    shown.run(l2_vmread, encoding);
    check.equal("exit", read(field::exit_reason), reason::vmread);
    check.equal("RIP", read(field::guest_rip), physical(l2_vmread));
    check.equal("length", read(field::vm_exit_instruction_length), 3);
    shown.run(l2_vmwrite, encoding, 0x66);
    shown.done(check, 0);
    shown.run(l2_vmread, field::guest_rsp.encoding);
    shown.done(check, 0);
    shown.read_bitmap->words[encoding / 64] = 0;
    Shown::forbid(shown.write_bitmap, encoding);
    shown.run(l2_vmread, encoding);
    shown.done(check, 0);
    check.equal("value", shown.l2.registers.rbx, 0x66);
    shown.run(l2_vmwrite, encoding, 0x77);
    check.equal("exit", read(field::exit_reason), reason::vmwrite);
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) & ~secondary::vmcs_shadowing);
    write(field::vmcs_link_pointer, no_vmcs);
    shown.run(l2_vmread, encoding);
    check.equal("exit without the control", read(field::exit_reason), reason::vmread);
    shown.l2.clear();
    try_vmclear(&shadow.address);
}

void check_link_pointer() {
    const RuleScope rule{
        {"3C 27.3.1.5", "with VMCS shadowing the link pointer names a shadow VMCS, else an ordinary one"}};
    const Shadow shadow;
    const Shadow other;
    const std::uint64_t ordinary = physical(new_vmcs_region());
    try_vmclear(&shadow.address);
    try_vmclear(&other.address);
    Shown shown{shadow.address};
    Check check{"entry-looks-at-the-vmcs-that-the-link-pointer-names"};
    const auto refused = [&](std::string_view what, std::uint64_t link) {
        write(field::vmcs_link_pointer, link);
        check.equal(what, shown.run(l2_vmread, field::guest_rip.encoding) & 0xFFFF,
                    reason::entry_failure_guest_state);
        check.equal("qualification", read(field::exit_qualification), 4);
        write(field::vmcs_link_pointer, shadow.address);
        shown.run(l2_vmread, field::guest_rip.encoding);
        shown.done(check, 0);
    };
    shown.run(l2_vmread, field::guest_rip.encoding);
    shown.done(check, 0);
    refused("an ordinary VMCS", ordinary);
    refused("a misaligned address", shadow.address + 8);
    refused("its own VMCS", shown.l2.vmcs_address());
    other.page->words[0] ^= 1;
    refused("another revision", other.address);
    other.page->words[0] ^= 1;
    write(field::vmcs_link_pointer, other.address);
    shown.run(l2_vmwrite, field::guest_rip.encoding, 0x99);
    shown.done(check, 0);
    write(field::vmcs_link_pointer, shadow.address);
    shown.run(l2_vmread, field::guest_rip.encoding);
    shown.done(check, 0);
    check.equal("each has its own", shown.l2.registers.rbx, 0);
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) & ~secondary::vmcs_shadowing);
    check.equal("a shadow VMCS without the control", shown.run(l2_vmread, field::guest_rip.encoding) & 0xFFFF,
                reason::entry_failure_guest_state);
    shown.l2.clear();
    try_vmclear(&other.address);
    try_vmclear(&shadow.address);
}

}  // namespace

void check_vmcs_shadowing() {
    if (!capabilities.secondary.may_set(secondary::vmcs_shadowing)) {
        report_not_offered("VMCS shadowing");
        return;
    }
    const PageScope scope;
    check_current();
    check_linked();
    check_bitmaps();
    check_link_pointer();
}

}  // namespace flatback::guests
