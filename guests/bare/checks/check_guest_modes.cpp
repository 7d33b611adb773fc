// L2 in modes other than 64-bit: real mode, protected mode with paging and without, and its own way up. SDM
// 3C 27.3.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern const char l2_real_begin[];
extern const char l2_real_end[];
extern char l2_flat_32[];
}

asm(R"(
.pushsection .text
.globl l2_real_begin, l2_real_end, l2_flat_32
# Runs at L2-physical 8000H, in real mode; then to 32-bit and on to 64-bit mode.
.code16
l2_real_begin:
    movw $0x1234, %ax
    movw %ax, (0x500)
    cpuid
    lgdtl 0x8000 + (l2_real_gdt_pointer - l2_real_begin)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x10, $(0x8000 + (l2_real_32 - l2_real_begin))
.code32
l2_real_32:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %ss
    cpuid
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl %edi, %cr3
    movl $0xC0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(0x8000 + (l2_real_64 - l2_real_begin))
.code64
l2_real_64:
    movabsq $0x123456789ABCDEF0, %rbx
    vmcall
    hlt
.balign 8
l2_real_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF
    .quad 0x00CF9B000000FFFF
    .quad 0x00CF93000000FFFF
l2_real_gdt_pointer:
    .word 31
    .long 0x8000 + (l2_real_gdt - l2_real_begin)
l2_real_end:
.code32
l2_flat_32:
    movl $0x89ABCDEF, %ebx
    movl (%edi), %eax
    vmcall
.code64
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t code_address = 0x8000;
constexpr std::uint64_t cr0_ne_et = 0x30;
constexpr std::uint64_t cr0_pe = 1;
constexpr std::uint64_t cr0_pg = 1ULL << 31;
constexpr std::uint64_t cr4_pse = 0x10;
constexpr std::uint64_t cr4_pae = 0x20;

// For an L2 of another mode than the one before, which had the same VPID and EPTP and other page tables.
VmcsPlan plan_for_32_bits(const Ept12& hierarchy) {
    forget_vpid(1);
    VmcsPlan plan = usual_plan(0, hierarchy.pointer());
    plan.entry &= ~entry_control::ia32e_mode_guest;
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    return plan;
}

void set_segments(std::uint64_t limit, std::uint64_t code_rights, std::uint64_t data_rights) {
    constexpr std::uint64_t data_limits[] = {field::guest_es_limit.encoding, field::guest_ss_limit.encoding,
                                             field::guest_ds_limit.encoding, field::guest_fs_limit.encoding,
                                             field::guest_gs_limit.encoding};
    constexpr std::uint64_t data_fields[] = {
        field::guest_es_access_rights.encoding, field::guest_ss_access_rights.encoding,
        field::guest_ds_access_rights.encoding, field::guest_fs_access_rights.encoding,
        field::guest_gs_access_rights.encoding};
    for (const std::uint64_t encoding : data_limits) write_raw(encoding, limit);
    for (const std::uint64_t encoding : data_fields) write_raw(encoding, data_rights);
    write(field::guest_cs_limit, limit);
    write(field::guest_cs_access_rights, code_rights);
}

void enter_real_mode() {
    set_segments(0xFFFF, 0x9B, 0x93);
    for (const std::uint64_t encoding :
         {field::guest_es_selector.encoding, field::guest_cs_selector.encoding,
          field::guest_ss_selector.encoding, field::guest_ds_selector.encoding}) {
        write_raw(encoding, 0);
    }
    write(field::guest_cr0, cr0_ne_et);
    write(field::guest_cr4, cr4_vmxe);
    write(field::guest_cr3, 0);
    write(field::guest_rip, code_address);
}

// After the INVEPT the delivery is the first to use the page of the interrupt vectors: an EPT violation that
// this L1 never sees. Real-mode events have no error code. SDM 3C 27.2.1.3, 28.2.4.
void check_real_mode_injection(L2& l2, const Ept12& hierarchy, Page& low) {
    const RuleScope rule{{"3C 27.6.1.1", "an event is injected in real-address mode without an error code"}};
    constexpr std::uint64_t handler = 0x600;
    constexpr std::uint64_t stack = 0x708;
    low.words[13 * 4 / 8] = handler << 32;
    low.words[handler / 8] = 0xC1010F;  // VMCALL
    const std::uint64_t rip = read(field::guest_rip);
    write(field::guest_rsp, stack);
    write(field::guest_idtr_base, 0);
    write(field::guest_idtr_limit, 0x3FF);
    write(field::vm_entry_interruption_information, 0x8000030D);
    invept(invept_type::single_context, {hierarchy.pointer(), 0});
    Check check{"an-injected-general-protection-fault-arrives-in-real-mode-after-invept"};
    check.runs_to(l2, reason::vmcall);
    check.equal("RIP", read(field::guest_rip), handler);
    check.equal("guest RSP: IP, CS and flags pushed", read(field::guest_rsp), stack - 6);
    write(field::guest_rip, rip);
    write(field::guest_rflags, 2);
}

void check_real_mode(Ept12& hierarchy) {
    const RuleScope rule{{"3C 27.3.1.1", "an unrestricted guest runs with CR0.PE clear"}};
    Page* const low = allocate_page();
    Page* const code = allocate_page();
    auto* const bytes = reinterpret_cast<char*>(code->words);
    for (std::size_t i = 0; i < static_cast<std::size_t>(l2_real_end - l2_real_begin); ++i)
        bytes[i] = l2_real_begin[i];
    hierarchy.map(0, physical(low), EptLevel::page_4k);
    hierarchy.map(code_address, physical(code), EptLevel::page_4k);
    L2 l2{plan_for_32_bits(hierarchy)};
    enter_real_mode();
    {
        Check check{"l2-runs-in-real-mode-as-an-unrestricted-guest"};
        check.runs_past(l2, reason::cpuid);
        check.equal("AX", l2.registers.rax & 0xFFFF, 0x1234);
        check.equal("memory that L2 wrote", low->words[0x500 / 8] & 0xFFFF, 0x1234);
        check.equal("guest CR0", read(field::guest_cr0), cr0_ne_et);
    }
    check_real_mode_injection(l2, hierarchy, *low);
    {
        Check check{"l2-goes-from-real-to-protected-mode-by-itself"};
        check.runs_past(l2, reason::cpuid);
        check.equal("guest CR0", read(field::guest_cr0), cr0_ne_et | cr0_pe);
        check.equal("guest CS", read(field::guest_cs_selector), 0x10);
        check.equal("guest CS base", read(field::guest_cs_base), 0);
        check.equal("guest CS rights", read(field::guest_cs_access_rights), 0xC09B);
        check.equal("guest GDTR limit", read(field::guest_gdtr_limit), 31);
    }
    Check check{"l2-goes-on-to-64-bit-mode-and-the-entry-control-follows"};
    l2.registers.rdi = read_cr3();
    check.runs_to(l2, reason::vmcall);
    check.equal("RBX", l2.registers.rbx, 0x1234'5678'9ABC'DEF0);
    check.equal("guest CR0", read(field::guest_cr0), cr0_ne_et | cr0_pe | cr0_pg);
    check.equal("guest EFER: LMA, LME", read(field::guest_ia32_efer), 0x500);
    check.equal("IA-32e mode guest", read(field::vm_entry_controls) & entry_control::ia32e_mode_guest,
                entry_control::ia32e_mode_guest);
    L2::skip_instruction();
    check.runs_to(l2, reason::hlt);
}

void start_32(L2& l2, std::uint64_t address) {
    set_segments(0xFFFFFFFF, 0xC09B, 0xC093);
    write(field::guest_rip, physical(l2_flat_32));
    l2.registers.rdi = address;
    l2.registers.rbx = 0;
}

void check_protected_mode(const Ept12& hierarchy, std::uint64_t data) {
    const RuleScope rule{{"3C 27.3.1.1", "an unrestricted guest runs with CR0.PG clear"}};
    L2 l2{plan_for_32_bits(hierarchy)};
    write(field::guest_cr0, cr0_ne_et | cr0_pe);
    write(field::guest_cr4, cr4_vmxe);
    Check check{"l2-runs-in-protected-mode-without-paging"};
    start_32(l2, data);
    check.runs_to(l2, reason::vmcall);
    check.equal("EBX", l2.registers.rbx & 0xFFFFFFFF, 0x89ABCDEF);
    check.equal("what L2 read", l2.registers.rax & 0xFFFFFFFF, 0x2468);
}

// Legacy 32-bit paging, L2's directory in 4 MB pages: as far as a copy of this image may lie (l1/beside.hpp).
void check_legacy_paging(const Ept12& hierarchy, std::uint64_t data) {
    const RuleScope rule{{"3C 27.3.2", "a guest runs with 32-bit paging"}};
    auto* const directory = reinterpret_cast<std::uint32_t*>(allocate_page());
    for (std::uint32_t i = 0; i < 64; ++i) directory[i] = i << 22 | 0x83;
    auto* const table = reinterpret_cast<std::uint32_t*>(allocate_page());
    directory[512] = static_cast<std::uint32_t>(physical(table)) | 3;
    table[4] = static_cast<std::uint32_t>(data) | 3;
    L2 l2{plan_for_32_bits(hierarchy)};
    write(field::guest_cr0, cr0_ne_et | cr0_pe | cr0_pg);
    write(field::guest_cr4, cr4_vmxe | cr4_pse);
    write(field::guest_cr3, physical(directory));
    Check check{"l2-runs-with-32-bit-paging"};
    start_32(l2, 0x80004000);
    check.runs_to(l2, reason::vmcall);
    check.equal("what L2 read", l2.registers.rax & 0xFFFFFFFF, 0x2468);
}

// PAE paging under EPT: the four PDPTEs come from the VMCS, not from memory. SDM 3C 27.3.2.4.
void check_pae_paging(const Ept12& hierarchy, std::uint64_t data) {
    const RuleScope rule{{"3C 27.3.2.4", "with EPT the PDPTEs of PAE paging are those of the VMCS"}};
    Page* const directory = allocate_page();
    for (std::uint64_t i = 0; i < 128; ++i) directory->words[i] = i << 21 | 0x83;
    Page* const high = allocate_page();
    Page* const table = allocate_page();
    high->words[0] = physical(table) | 3;
    table->words[1] = data | 3;
    L2 l2{plan_for_32_bits(hierarchy)};
    write(field::guest_cr0, cr0_ne_et | cr0_pe | cr0_pg);
    write(field::guest_cr4, cr4_vmxe | cr4_pae);
    write(field::guest_cr3, physical(allocate_page()));
    write(field::guest_pdpte0, physical(directory) | 1);
    write(field::guest_pdpte3, physical(high) | 1);
    Check check{"l2-runs-with-pae-paging-on-the-pdptes-of-the-vmcs"};
    start_32(l2, 0xC0001000);
    check.runs_to(l2, reason::vmcall);
    check.equal("what L2 read", l2.registers.rax & 0xFFFFFFFF, 0x2468);
    check.equal("guest PDPTE 3", read(field::guest_pdpte3), physical(high) | 1);
}

}  // namespace

void check_guest_modes() {
    if (!capabilities.secondary.may_set(secondary::unrestricted_guest | secondary::enable_ept)) {
        report_not_offered("unrestricted guest");
        return;
    }
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    Page* const data = allocate_page();
    data->words[0] = 0x2468;
    check_real_mode(hierarchy);
    check_protected_mode(hierarchy, physical(data));
    check_legacy_paging(hierarchy, physical(data));
    check_pae_paging(hierarchy, physical(data));
}

}  // namespace flatback::guests
