// An L2 without EPT: its page tables map straight onto L1's memory, and L1 keeps its translations right by
// INVVPID. SDM 3C 29.4.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/stale.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/memory_program.hpp"

extern "C" {
extern char l2_edit_and_invlpg[];
extern char l2_switch_cr3[];
extern char l2_edit_and_write_cr3[];
}

asm(R"(
.pushsection .text
.globl l2_edit_and_invlpg, l2_switch_cr3, l2_edit_and_write_cr3
# R8: page-table entry, R9: its new value, RDI: linear address. RAX: what was there before, RDX: after.
l2_edit_and_invlpg:
    movq (%rdi), %rax
    movq %r9, (%r8)
    invlpg (%rdi)
    movq (%rdi), %rdx
    vmcall
l2_edit_and_write_cr3:
    movq (%rdi), %rax
    movq %r9, (%r8)
    movq %cr3, %rcx
    movq %rcx, %cr3
    movq (%rdi), %rdx
    vmcall
# R8, R9: two roots. RAX, RDX: the word at RDI under each; RBX: under the first once more.
l2_switch_cr3:
    movq %r8, %cr3
    movq (%rdi), %rax
    movq %r9, %cr3
    movq (%rdi), %rdx
    movq %r8, %cr3
    movq (%rdi), %rbx
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t present = 1;
constexpr std::uint64_t writable = 2;
constexpr std::uint64_t accessed = 1U << 5;
constexpr std::uint64_t dirty = 1U << 6;
constexpr std::uint64_t address = free_window;

void check_l1_edits(L2& l2, LinearTables& tables) {
    const RuleScope rule{{"3C 29.4.3.1", "INVVPID makes a change of paging structures take effect", 19}};
    Page* const first = page_with(0x1111);
    Page* const second = page_with(0x2222);
    tables.entry(address) = physical(first) | present | writable;
    {
        Check check{"without-ept-l2-sees-l1s-memory-through-its-page-tables"};
        expect_word(check, l2, 0x1111);
        start(l2, l2_store, address + 8, 0x3333);
        check.runs_to(l2, reason::vmcall);
        check.equal("L1's page", first->words[1], 0x3333);
        check.equal("accessed and dirty in L2's entry", tables.entry(address) & (accessed | dirty),
                    accessed | dirty);
    }
    {
        Check check{"without-ept-l1s-edit-of-a-page-table-entry-is-seen-after-invvpid"};
        for (std::uint64_t type = 0; type <= 3; ++type) {
            if (!capabilities.has_invvpid_type(static_cast<unsigned>(type))) continue;
            tables.entry(address) = physical(first) | present | writable;
            forget_vpid(1);
            expect_word(check, l2, 0x1111);
            tables.entry(address) = physical(second) | present | writable;
            invvpid(type, {1, address});
            expect_word(check, l2, 0x2222);
        }
    }
    {
        Check check{"without-ept-a-page-made-read-only-is-so-after-invvpid"};
        tables.entry(address) = physical(second) | present;
        forget_linear(1, address);
        write(field::exception_bitmap, 1U << vector_page_fault);
        start(l2, l2_store, address, 7);
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("error code", read(field::vm_exit_interruption_error_code), 3);
        check.equal("address", read(field::exit_qualification), address);
        check.equal("page", second->words[0], 0x2222);
        write(field::exception_bitmap, 0);
        write(field::guest_rflags, 2);
    }
}

void check_l2_edits(L2& l2, LinearTables& tables) {
    const RuleScope rule{{"3C 29.4.3.1", "the guest's own invalidations reach its VPID"}};
    Page* const first = page_with(0x4444);
    Page* const second = page_with(0x5555);
    struct Way {
        std::string_view name;
        const char* program;
    };
    const Way ways[] = {
        {"without-ept-l2s-own-edit-and-invlpg-take-effect", l2_edit_and_invlpg},
        {"without-ept-l2s-own-edit-and-mov-cr3-take-effect", l2_edit_and_write_cr3},
    };
    for (const Way& way : ways) {
        tables.entry(address) = physical(first) | present | writable;
        forget_vpid(1);
        Check check{way.name};
        start(l2, way.program, address);
        l2.registers.r8 = physical(&tables.entry(address));
        l2.registers.r9 = physical(second) | present | writable;
        check.runs_to(l2, reason::vmcall);
        check.equal("before", l2.registers.rax, 0x4444);
        check.equal("after", l2.registers.rdx, 0x5555);
    }
}

void check_cr3_switches(L2& l2, LinearTables& tables) {
    const RuleScope rule{{"3C 29.4.3.1", "MOV to CR3 and a new CR3 in the VMCS take effect", 19}};
    LinearTables other;
    other.map_image();
    tables.entry(address) = physical(page_with(0x6666)) | present;
    other.entry(address) = physical(page_with(0x7777)) | present;
    forget_vpid(1);
    const auto run = [&](Check& check) {
        start(l2, l2_switch_cr3, address);
        l2.registers.r8 = tables.root();
        l2.registers.r9 = other.root();
        check.runs_to(l2, reason::vmcall);
        check.equal("first root", l2.registers.rax, 0x6666);
        check.equal("second root", l2.registers.rdx, 0x7777);
        check.equal("first root again", l2.registers.rbx, 0x6666);
        check.equal("guest CR3", read(field::guest_cr3), tables.root());
    };
    {
        Check check{"without-ept-l2-moves-between-two-roots-by-itself"};
        run(check);
    }
    {
        Check check{"without-ept-l1-moves-l2-between-two-roots-at-each-mov-cr3-exit"};
        write(field::primary_processor_based_vm_execution_controls,
              read(field::primary_processor_based_vm_execution_controls) | primary::cr3_load_exiting);
        start(l2, l2_switch_cr3, address);
        l2.registers.r8 = tables.root();
        l2.registers.r9 = other.root();
        for (unsigned i = 0; i < 3; ++i) {
            check.runs_past(l2, reason::control_register_access);
            write(field::guest_cr3, i == 1 ? other.root() : tables.root());
            forget_vpid(1);
        }
        check.runs_to(l2, reason::vmcall);
        check.equal("first root", l2.registers.rax, 0x6666);
        check.equal("second root", l2.registers.rdx, 0x7777);
        check.equal("first root again", l2.registers.rbx, 0x6666);
        write(field::primary_processor_based_vm_execution_controls,
              read(field::primary_processor_based_vm_execution_controls) & ~primary::cr3_load_exiting);
    }
}

void check_own_page_faults(L2& l2, LinearTables& tables) {
    const RuleScope rule{{"3C 26.2", "a page fault that does not exit is the guest's"}};
    tables.entry(address) = 0;
    forget_vpid(1);
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    Check check{"without-ept-a-page-fault-is-l2s-own-where-l1-does-not-intercept-it"};
    start(l2, l2_load, address + 0x30);
    check.runs_to(l2, reason::vmcall);
    const L2Frame frame = l2_frame(l2);
    check.equal("vector", frame.vector, 14);
    check.equal("error code", frame.error_code, 0);
    check.equal("CR2", read_cr2(), address + 0x30);
    Page* const page = page_with(0);
    page->words[0x30 / 8] = 0x8888;
    tables.entry(address) = physical(page) | present;
    return_from_l2_event(frame);
    check.runs_to(l2, reason::vmcall);
    check.equal("what L2 read at last", l2.registers.rax, 0x8888);
}

// Two VPIDs by turns on one set of page tables: an edit made while the other one ran is seen after INVVPID.
void check_vpids_in_turn(LinearTables& tables) {
    const RuleScope rule{{"3C 29.4.3.1", "a VPID that comes back shows what was invalidated since", 24}};
    Page* const first = page_with(0xA1);
    Page* const second = page_with(0xA2);
    tables.entry(address) = physical(first) | present;
    L2 one{paged_plan(tables.root(), 1, false)};
    forget_vpid(1);
    forget_vpid(2);
    Check check{"without-ept-vpids-1-2-1-with-edits-between-see-the-edits"};
    expect_word(check, one, 0xA1);
    write(field::virtual_processor_identifier, 2);
    expect_word(check, one, 0xA1);
    tables.entry(address) = physical(second) | present;
    forget_vpid(1);
    write(field::virtual_processor_identifier, 1);
    expect_word(check, one, 0xA2);
    forget_vpid(2);
    write(field::virtual_processor_identifier, 2);
    expect_word(check, one, 0xA2);
}

// Without VPIDs every entry and exit flushes: no INVVPID is owed.
void check_without_vpid(LinearTables& tables) {
    const RuleScope rule{{"3C 29.4.3.1", "without VPIDs every entry and exit invalidates", 25}};
    Page* const first = page_with(0xB1);
    Page* const second = page_with(0xB2);
    L2 l2{paged_plan(tables.root(), 0, false)};
    Check check{"without-ept-and-without-vpid-an-edit-is-seen-at-the-next-entry"};
    for (unsigned i = 0; i < 3; ++i) {
        tables.entry(address) = physical(first) | present;
        expect_word(check, l2, 0xB1);
        tables.entry(address) = physical(second) | present;
        expect_word(check, l2, 0xB2);
    }
}

}  // namespace

void check_without_ept() {
    const PageScope scope;
    LinearTables tables;
    tables.map_image();
    if (capabilities.has_invvpid()) {
        L2 l2{paged_plan(tables.root(), 1, false)};
        check_l1_edits(l2, tables);
        check_l2_edits(l2, tables);
        check_cr3_switches(l2, tables);
        check_own_page_faults(l2, tables);
        check_vpids_in_turn(tables);
    }
    check_without_vpid(tables);
}

}  // namespace flatback::guests
