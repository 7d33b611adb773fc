// MOV to and from control registers, CLTS and LMSW in L2: masks, shadows, targets. SDM 3C 26.1.3, table 28-3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_read_cr0_cr4[];
extern char l2_write_cr0[];
extern char l2_write_cr4[];
extern char l2_write_cr3[];
extern char l2_read_cr3[];
extern char l2_clts[];
extern char l2_lmsw[];
}

asm(R"(
.pushsection .text
.globl l2_read_cr0_cr4, l2_write_cr0, l2_write_cr4, l2_write_cr3, l2_read_cr3, l2_clts, l2_lmsw
l2_read_cr0_cr4:
    movq %cr0, %rbx
    movq %cr4, %rcx
    smsw %edx
    vmcall
l2_write_cr0:
    movq %rbx, %cr0
    vmcall
l2_write_cr4:
    movq %rcx, %cr4
    vmcall
l2_write_cr3:
    movq %r9, %cr3
    vmcall
l2_read_cr3:
    movq %cr3, %r10
    vmcall
l2_clts:
    clts
    vmcall
l2_lmsw:
    lmsw %si
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t cr0_mp = 1U << 1;
constexpr std::uint64_t cr0_ts = 1U << 3;
constexpr std::uint64_t cr0_wp = 1U << 16;
constexpr std::uint64_t cr0_am = 1U << 18;
constexpr std::uint64_t cr4_tsd = 1U << 2;
constexpr std::uint64_t cr4_pge = 1U << 7;

// SDM 3C table 28-3: register number, access type (0 to CR, 1 from CR, 2 CLTS, 3 LMSW), general register.
constexpr std::uint64_t qualification(unsigned cr, unsigned type, unsigned general) {
    return cr | type << 4 | general << 8;
}

void start(const char* program) {
    write(field::guest_rip, physical(program));
}

void check_reads(L2& l2) {
    const RuleScope rule{
        {"3C 26.3", "MOV from CR0 and CR4 returns the read shadow where the guest/host mask has a bit"}};
    write(field::cr0_guest_host_mask, cr0_ts | cr0_wp);
    write(field::cr0_read_shadow, cr0_ts);
    write(field::cr4_guest_host_mask, cr4_vmxe | cr4_tsd);
    write(field::cr4_read_shadow, cr4_tsd);
    start(l2_read_cr0_cr4);
    Check check{"l2-reads-masked-bits-of-cr0-and-cr4-from-the-shadows"};
    check.runs_to(l2, reason::vmcall);
    check.equal("CR0", l2.registers.rbx, (read_cr0() & ~(cr0_ts | cr0_wp)) | cr0_ts);
    check.equal("SMSW", l2.registers.rdx & 0xFFFFFFFF,
                ((read_cr0() & ~(cr0_ts | cr0_wp)) | cr0_ts) & 0xFFFFFFFF);
    check.equal("CR4", l2.registers.rcx, (read_cr4() & ~cr4_vmxe) | cr4_tsd);
}

void check_cr0_writes(L2& l2) {
    const RuleScope rule{
        {"3C 26.1.3",
         "a write of CR0 exits where it differs from the read shadow under the mask, and only there"}};
    const std::uint64_t cr0 = read_cr0();
    write(field::cr0_guest_host_mask, cr0_ts | cr0_wp);
    write(field::cr0_read_shadow, cr0_wp);
    {
        Check check{"a-write-of-cr0-that-agrees-with-the-shadow-changes-unmasked-bits-without-an-exit"};
        start(l2_write_cr0);
        l2.registers.rbx = (cr0 | cr0_wp | cr0_am) & ~cr0_ts;
        check.runs_to(l2, reason::vmcall);
        check.equal("guest CR0", read(field::guest_cr0), cr0 | cr0_am);
    }
    {
        Check check{"a-write-of-cr0-against-the-shadow-exits-and-changes-nothing"};
        const std::uint64_t before = read(field::guest_cr0);
        start(l2_write_cr0);
        l2.registers.rbx = cr0 & ~cr0_wp;
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(0, 0, 3));
        check.equal("guest CR0", read(field::guest_cr0), before);
    }
    {
        Check check{"clts-exits-by-mask-and-shadow-of-ts"};
        write(field::cr0_read_shadow, cr0_ts);
        start(l2_clts);
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(0, 2, 0));
        check.equal("length", read(field::vm_exit_instruction_length), 2);
        write(field::cr0_guest_host_mask, 0);
        write(field::guest_cr0, cr0 | cr0_ts);
        start(l2_clts);
        check.runs_to(l2, reason::vmcall);
        check.equal("guest CR0", read(field::guest_cr0) & cr0_ts, 0);
    }
    {
        Check check{"lmsw-exits-with-its-source-data"};
        write(field::cr0_guest_host_mask, cr0_mp);
        write(field::cr0_read_shadow, 0);
        start(l2_lmsw);
        l2.registers.rsi = 0x0003;
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(0, 3, 0) | 3ULL << 16);
    }
    write(field::guest_cr0, cr0);
    write(field::cr0_guest_host_mask, 0);
}

void check_cr4_writes(L2& l2) {
    const RuleScope rule{
        {"3C 26.1.3",
         "a write of CR4 exits where it differs from the read shadow under the mask, and only there"}};
    const std::uint64_t cr4 = read_cr4();
    write(field::cr4_guest_host_mask, cr4_vmxe);
    write(field::cr4_read_shadow, 0);
    {
        Check check{"l2-changes-cr4-behind-a-hidden-vmxe-without-an-exit"};
        start(l2_write_cr4);
        l2.registers.rcx = (cr4 & ~cr4_vmxe) | cr4_pge;
        check.runs_to(l2, reason::vmcall);
        check.equal("guest CR4", read(field::guest_cr4), cr4 | cr4_pge);
    }
    {
        Check check{"a-write-of-cr4-against-the-shadow-exits"};
        start(l2_write_cr4);
        l2.registers.rcx = cr4 | cr4_vmxe;
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(4, 0, 1));
    }
    {
        Check check{"clearing-an-unmasked-fixed-bit-of-cr4-in-l2-is-a-general-protection-fault"};
        write(field::cr4_guest_host_mask, 0);
        write(field::exception_bitmap, 1U << vector_general_protection);
        start(l2_write_cr4);
        l2.registers.rcx = cr4 & ~cr4_vmxe;
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("interruption information", read(field::vm_exit_interruption_information), 0x80000B0D);
        write(field::exception_bitmap, 0);
    }
    write(field::guest_cr4, cr4);
    write(field::cr4_guest_host_mask, 0);
}

void set_primary(std::uint32_t set, std::uint32_t clear) {
    const auto controls = read(field::primary_processor_based_vm_execution_controls);
    write(field::primary_processor_based_vm_execution_controls, (controls | set) & ~clear);
}

void check_cr3(L2& l2) {
    const RuleScope rule{{"3C 26.1.3", "MOV to CR3 exits by CR3-load exiting, but for a CR3-target value"}};
    const std::uint64_t cr3 = read_cr3();
    l2.registers.r9 = cr3;
    {
        Check check{"without-cr3-exiting-l2-reads-and-writes-cr3-without-an-exit"};
        start(l2_write_cr3);
        check.runs_to(l2, reason::vmcall);
        start(l2_read_cr3);
        check.runs_to(l2, reason::vmcall);
        check.equal("CR3", l2.registers.r10, cr3);
        check.equal("guest CR3", read(field::guest_cr3), cr3);
    }
    set_primary(primary::cr3_load_exiting | primary::cr3_store_exiting, 0);
    {
        Check check{"with-cr3-exiting-both-directions-of-mov-cr3-exit"};
        start(l2_write_cr3);
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(3, 0, 9));
        start(l2_read_cr3);
        check.runs_to(l2, reason::control_register_access);
        check.equal("qualification", read(field::exit_qualification), qualification(3, 1, 10));
    }
    if (capabilities.cr3_targets() < 2) {
        report_not_offered("CR3-target values");
    } else {
        Check check{"cr3-target-values-let-mov-cr3-pass"};
        write(field::cr3_target_count, 2);
        write(field::cr3_target_value_1, cr3);
        start(l2_write_cr3);
        check.runs_to(l2, reason::vmcall);
        write(field::cr3_target_count, 1);
        start(l2_write_cr3);
        check.runs_to(l2, reason::control_register_access);
        write(field::cr3_target_count, 0);
    }
    set_primary(0, primary::cr3_load_exiting | primary::cr3_store_exiting);
}

}  // namespace

void check_control_registers() {
    const PageScope scope;
    L2 l2{usual_plan(0, usual_ept().pointer())};
    check_reads(l2);
    write(field::cr0_guest_host_mask, 0);
    write(field::cr4_guest_host_mask, 0);
    check_cr0_writes(l2);
    check_cr4_writes(l2);
    check_cr3(l2);
}

}  // namespace flatback::guests
