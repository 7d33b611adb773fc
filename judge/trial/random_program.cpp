#include "judge/trial/random_program.hpp"

#include <array>

#include "machine/cpu/registers.hpp"
#include "machine/program/handlers.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/legacy_paging.hpp"
#include "machine/program/scenario.hpp"
#include "nested/vmcs/vmcs12.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"
#include "x86/paging.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::array<std::uint64_t, 3> addresses = {0x4000'0000, 0x4000'1000, 0xFFFF'8000'4020'0000};
constexpr std::array<std::uint64_t, 4> page_flag_sets = {0x07, 0x107, 0x05, 0x00};
constexpr std::array<std::uint64_t, 4> ept_flag_sets = {0x37, 0x31, 0x33, 0x00};
constexpr std::array<std::uint16_t, 4> vpids = {1, 2, 700, 0};
constexpr unsigned guests = 4;
constexpr std::array<std::uint8_t, 8> interrupt_vectors = {0x31, 0x38, 0x41, 0x52, 0x58, 0xA0, 0xEF, 0x0F};

Guest guest_of(unsigned index) {
    Guest guest{.vpid = vpids[index], .tables = 1 + index % 2};
    if (index < 2) guest.ept = index;
    return guest;
}

std::uint64_t vmcs_of(unsigned vcpu, unsigned index) {
    return layout::vmcs_region(vcpu * guests + index);
}

struct Bytes {
    std::uint8_t what, a, b, c;
};

/// Shadow VMCSs that L1 shows its L2s, and the bitmaps that say what these reach.
std::uint64_t shadow_of(unsigned vcpu, unsigned index) {
    return layout::vmcs_region(layout::vmcss / 2 + 2 * vcpu + index % 2);
}
constexpr std::uint64_t vmcs_bitmap(unsigned index) {
    return layout::data_page(21 + index % 2);
}
constexpr std::array<std::uint32_t, 8> shadow_fields = {
    field::guest_rip.encoding,      field::vm_instruction_error.encoding,
    field::tsc_offset.encoding | 1, field::virtual_processor_identifier.encoding,
    field::host_rsp.encoding,       field::exit_qualification.encoding,
    field::pml_address.encoding,    // not offered
    field::host_cr3.encoding | 1};  // has no high half

/// What L1 does, as often as it stands here: mostly what changes the VMCS, or flushes.
enum class L1Step : std::uint8_t {
    vmresume,
    vmptrld,
    invvpid_address,
    invvpid_single,
    invvpid,
    invept,
    load,
    invlpg,
    mov_to_cr3,
    mov_to_cr4,
    write_vpid,
    write_eptp,
    inject,
    intercept,
    fail,
    vmclear,
    prepare,
    own_register,
    event_controls,
    msr_list,
    iret,
    read_exit,
    shadow_vmcs,
    timer,
    // Of those programs that have them.
    handlers,
    mode,
};
constexpr std::array<L1Step, 32> l1_steps = {
    L1Step::vmresume,       L1Step::inject,      L1Step::vmptrld,
    L1Step::vmptrld,        L1Step::vmptrld,     L1Step::vmptrld,
    L1Step::vmptrld,        L1Step::shadow_vmcs, L1Step::msr_list,
    L1Step::event_controls, L1Step::iret,        L1Step::read_exit,
    L1Step::invvpid_single, L1Step::timer,       L1Step::invvpid_address,
    L1Step::invvpid_single, L1Step::invvpid,     L1Step::invvpid,
    L1Step::invept,         L1Step::intercept,   L1Step::invlpg,
    L1Step::mov_to_cr3,     L1Step::mov_to_cr4,  L1Step::write_vpid,
    L1Step::write_vpid,     L1Step::write_eptp,  L1Step::write_eptp,
    L1Step::fail,           L1Step::vmclear,     L1Step::prepare,
    L1Step::prepare,        L1Step::own_register};
constexpr std::array<std::uint64_t, 8> invvpid_types = {2, 3, 2, 3, 0, 1, 4, 5};

std::uint64_t msr_of_a_list(std::uint8_t a) {
    return x86::msr::ia32_star + a % 5U;
}

/// An entry that fails, in one of the ways, and what makes the VMCS good again.
void fail(Scenario& say, const Bytes& it) {
    switch (it.a % 4) {
        case 0:
            // Bit 1 must be 1: the entry fails after it has left L1.
            say.vmwrite(field::guest_rflags, 0).vmresume();
            say.vmwrite(field::guest_rflags, x86::rflags::fixed_one);
            return;
        case 1:
            say.vmwrite(field::vmcs_link_pointer, layout::data_page(0)).vmresume();
            say.vmwrite(field::vmcs_link_pointer, ~std::uint64_t{0});
            return;
        case 2:
            say.vmwrite(field::cr3_target_count, 5).vmresume().vmwrite(field::cr3_target_count, 0);
            return;
        default:
            say.vmwrite(field::guest_activity_state, 4).vmresume().vmwrite(field::guest_activity_state, 0);
            return;
    }
}

/// What L0 does for L1 beside VMX (host/): values that L1's registers take, and values that fault.
void own_register(Scenario& say, const Bytes& it) {
    namespace cr0 = x86::cr0;
    namespace cr4 = x86::cr4;
    namespace msr = x86::msr;
    constexpr std::uint64_t usual_cr0 =
        cr0::protection_enable | cr0::extension_type | cr0::numeric_error | cr0::write_protect | cr0::paging;
    constexpr std::array<std::uint64_t, 16> cr0_changes = {
        0,
        cr0::numeric_error,
        cr0::cache_disable,
        cr0::not_write_through,
        cr0::cache_disable | cr0::not_write_through,
        cr0::paging,
        cr0::paging | cr0::protection_enable,
        cr0::protection_enable,
        cr0::write_protect,
        cr0::task_switched,
        cr0::task_switched | cr0::numeric_error,
        cr0::alignment_mask | cr0::numeric_error | cr0::cache_disable,
        std::uint64_t{1} << 32,
        std::uint64_t{1} << 17,
        cr0::extension_type,
        cr0::monitor_coprocessor | cr0::emulation};
    constexpr std::uint64_t usual_cr4 =
        cr4::physical_address_extension | cr4::page_global_enable | cr4::vmx_enable;
    constexpr std::array<std::uint64_t, 16> cr4_changes = {0,
                                                           cr4::vmx_enable,
                                                           cr4::physical_address_extension,
                                                           cr4::page_global_enable,
                                                           cr4::page_size_extensions,
                                                           cr4::pcid_enable,
                                                           cr4::pcid_enable | cr4::vmx_enable,
                                                           cr4::smx_enable,
                                                           cr4::five_level_paging,
                                                           cr4::control_flow_enforcement,
                                                           cr4::xsave_enable,
                                                           cr4::protection_key_enable,
                                                           cr4::time_stamp_disable,
                                                           std::uint64_t{1} << 15,
                                                           std::uint64_t{1} << 40,
                                                           cr4::smep_enable};
    constexpr std::array<std::uint32_t, 16> msrs = {msr::ia32_feature_control,
                                                    msr::ia32_vmx_basic,
                                                    msr::ia32_vmx_ept_vpid_cap,
                                                    msr::ia32_efer,
                                                    msr::ia32_pat,
                                                    msr::ia32_sysenter_cs,
                                                    msr::ia32_sysenter_esp,
                                                    msr::ia32_lstar,
                                                    msr::ia32_kernel_gs_base,
                                                    msr::ia32_tsc_aux,
                                                    msr::ia32_debugctl,
                                                    0x8C,
                                                    0x6A0,
                                                    msr::x2apic_first + 2,
                                                    0xC000'2000,
                                                    msr::ia32_vmx_misc};
    constexpr std::array<std::uint64_t, 8> values = {
        0, 1, 0xD01, 0x101, 0x8000'0000'0000'0000, 0x0007'0406'0007'0406, 0x0202, 0xFFFF'FFFF'0000'0000};
    switch (it.a % 4) {
        case 0:
            say.mov_to_cr0(usual_cr0 ^ cr0_changes[it.b % 16U]).mov_from_cr0();
            return;
        case 1:
            say.mov_to_cr4(usual_cr4 ^ cr4_changes[it.b % 16U]).mov_from_cr4();
            return;
        case 2:
            say.wrmsr(msrs[it.b % 16U], values[it.c % 8U]);
            [[fallthrough]];
        default:
            say.rdmsr(msrs[it.b % 16U]).cpuid();
    }
}

/// A shadow VMCS is L1's current one for a while: it is written and read, errors go to it, and no entry uses
/// it.
void shadow_vmcs(Scenario& say, unsigned vcpu, const Bytes& it) {
    const std::uint64_t region = shadow_of(vcpu, it.a);
    say.edit().poke(region, nested::vmcs12_revision | nested::shadow_vmcs_indicator).l1();
    if (it.b % 8 == 0) say.vmclear(region);
    say.vmptrld(region).vmptrst();
    for (unsigned i = 0; i < 3; ++i) {
        say.vmread(shadow_fields[(it.b / 8U + i) % 8]);
        say.vmwrite(shadow_fields[(it.c + i) % 8U], 0x1'0000'0000U * it.a + 0x100U * it.b + i);
    }
    if (it.c % 4 == 0) say.vmlaunch().vmresume().vmptrld(1);
    if (it.c % 8 == 1) return;
    say.vmptrld(vmcs_of(vcpu, it.b % guests)).vmresume();
}

/// One of L1's VMCSs shows its L2 a shadow VMCS, or another one, or none any longer.
void show_vmcs(Scenario& say, unsigned vcpu, const Bytes& it) {
    const unsigned index = it.a % guests;
    const Guest guest = guest_of(index);
    const std::uint32_t usual = (guest.vpid != 0 ? vmx::secondary::enable_vpid : 0) |
                                (guest.ept ? vmx::secondary::enable_ept : 0) | vmx::secondary::enable_invpcid;
    say.edit().poke(shadow_of(vcpu, it.b), nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    for (const std::uint32_t encoding : {shadow_fields[it.b / 4 % 8U], shadow_fields[it.c % 8U]})
        say.poke(vmcs_bitmap(it.c) + encoding / 64 * 8, std::uint64_t{it.c} % 2 << (encoding % 64));
    say.l1().vmptrld(vmcs_of(vcpu, index));
    say.vmwrite(field::vmread_bitmap_address, vmcs_bitmap(it.b));
    say.vmwrite(field::vmwrite_bitmap_address, vmcs_bitmap(it.c));
    const bool shows = it.c % 8 != 0;
    // Where the one of the two is without the other the entry fails.
    say.vmwrite(field::vmcs_link_pointer, shows || it.b % 4 == 0 ? shadow_of(vcpu, it.b) : ~std::uint64_t{0});
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                usual | (shows ? vmx::secondary::vmcs_shadowing : 0U));
    say.vmlaunch().vmresume();
    if (!shows) say.vmwrite(field::vmcs_link_pointer, ~std::uint64_t{0}).vmresume();
    if (it.b % 16 == 1) say.vmwrite(field::vmcs_link_pointer, vmcs_of(vcpu, index)).vmresume();
    for (unsigned i = 0; i < 2; ++i) {
        say.l2().vmread(shadow_fields[(it.a / 4U + i) % 8]).vmwrite(shadow_fields[(it.b + i) % 8U], it.c + i);
        say.l1().vmresume();
    }
}

constexpr std::uint64_t nowhere = 0x7000'0000;  // no structure maps it
constexpr std::uint64_t bad_idt = handlers::idt + x86::page_size_4k;
constexpr std::uint64_t withheld = handlers::stacks + 8 * x86::page_size_4k;  // that no EPT maps

/// Of the second IDT some gates are good: others are not present, have a stack that is not there, name no
/// code, or are of no known type.
void put_bad_idt(Scenario& say) {
    for (unsigned vector = 0; vector < 256; vector += vector < 32 ? 1 : 16) {
        handlers::GateForm form;
        form.stack_table = vector == 8 ? 1 : vector % 4;
        form.present = vector % 5 != 3;
        if (vector == 6) form.selector = handlers::kernel_data;
        if (vector % 16 == 2) form.type = handlers::GateType::call;
        handlers::put_gate(say, vector, form, bad_idt);
    }
}

/// What every L2 has a page of, at its own address.
void map_handlers(Scenario& say) {
    say.edit();
    for (const unsigned hierarchy : {1U, 2U}) {
        for (const std::uint64_t page : handlers::pages) say.map(hierarchy, page, page);
        say.map(hierarchy, bad_idt, bad_idt).map(hierarchy, withheld, withheld);
    }
    for (const unsigned ept : {0U, 1U}) {
        for (const std::uint64_t page : handlers::pages) say.ept_map(ept, page, page);
        say.ept_map(ept, bad_idt, bad_idt);
    }
}

/// An L2 gets an IDT, a good one or another, a stack or none, and L1 exceptions of it; L1 itself gets one
/// too. Then something happens.
void use_handlers(Scenario& say, unsigned vcpu, const Bytes& it) {
    constexpr std::array<std::uint64_t, 8> tables = {
        handlers::idt, handlers::idt, handlers::idt, handlers::idt, bad_idt, bad_idt, withheld, 0};
    constexpr std::array<std::uint64_t, 8> bitmaps = {0,        0,        1U << 8, 1U << 13,
                                                      1U << 14, 1U << 11, 1U << 6, 0x6000};
    constexpr std::array<std::uint64_t, 4> stacks = {handlers::stack, handlers::level_0_stack,
                                                     withheld + 0x1000, nowhere};
    say.vmptrld(vmcs_of(vcpu, it.c % guests));
    handlers::give_l2(say, tables[it.a % 8U], stacks[it.b / 16 % 4U]);
    say.vmwrite(field::guest_idtr_limit, it.b % 16 == 7 ? 0x2F : handlers::idt_limit);
    say.vmwrite(field::exception_bitmap, bitmaps[it.a / 8 % 8U]);
    if (it.a / 64 % 2 == 0) handlers::give_l1(say, handlers::table_stack(2));
    if (it.c / 8 % 4 == 0) say.invept_all();
    say.vmresume().vmlaunch().l2();
    switch (it.c / 4 % 8) {
        case 0:
            say.ud2().iretq();
            return;
        case 1:
            say.int_n(static_cast<std::uint8_t>(it.b % 16U * 16U)).iretq();
            return;
        case 2:
            say.load(nowhere).iretq();
            return;
        case 3:
            say.load(std::uint64_t{1} << 47).wbinvd();
            return;
        case 4:
            say.sti().nop().l0().interrupt(0x40).l2().nop().l0().eoi();
            return;
        case 5:
            say.l0().nmi().l2().nop().iretq().load(addresses[0]);
            return;
        case 6:
            say.lidt(tables[it.b % 8U], handlers::idt_limit).ud2().iretq();
            return;
        default:
            say.vmcall().l1().ud2().iretq().rdmsr(0x12345);
            return;
    }
}

/// An L2 leaves 64-bit mode for PAE or 32-bit paging, or comes back to it. L1 flushes, as it must.
void change_mode(Scenario& say, unsigned vcpu, const Bytes& it) {
    constexpr std::uint64_t entry_controls = 0x11FB | vmx::entry_control::load_ia32_efer;
    constexpr std::uint64_t cr4 = x86::cr4::page_global_enable | x86::cr4::vmx_enable;
    const unsigned index = it.a % guests;
    const unsigned hierarchy = guest_of(index).tables;
    const bool is_64_bit = it.b % 4 == 0;
    const bool pae = it.b % 4 != 3;
    say.vmptrld(vmcs_of(vcpu, index));
    say.vmwrite(field::vm_entry_controls,
                entry_controls | (is_64_bit ? vmx::entry_control::ia32e_mode_guest : 0U));
    say.vmwrite(field::guest_ia32_efer, is_64_bit ? 0xD01 : 0x801);
    say.vmwrite(field::guest_cs_access_rights, is_64_bit ? flat_segment::code_64 : 0xC09B);
    say.vmwrite(field::guest_cr4,
                cr4 | (pae ? x86::cr4::physical_address_extension : x86::cr4::page_size_extensions));
    say.vmwrite(field::guest_cr3, is_64_bit ? layout::page_root(hierarchy)
                                  : pae     ? legacy_paging::pdpt(hierarchy)
                                            : legacy_paging::directory(hierarchy));
    say.vmwrite(field::guest_pdpte0, it.b == 77 ? 6 : 0).vmwrite(field::guest_pdpte2, 0);
    say.vmwrite(field::guest_pdpte1, legacy_paging::pdpte(hierarchy)).vmwrite(field::guest_pdpte3, 0);
    say.invvpid(2, 0).vmresume().vmlaunch();
    // What of the other mode was wrong is right again where the entry failed.
    if (it.b == 77) say.vmwrite(field::guest_pdpte0, 0).vmresume().vmlaunch();
    const std::uint64_t address = addresses[it.c % 2U];
    say.l2().load(address).store(address, it.c);
    if (it.c % 4 == 1) say.load(0x4040'0000).store(0x4060'1000, it.c).invlpg(0x4040'0000).load(0x4060'0000);
    if (it.c % 4 == 2)
        say.mov_to_cr3(pae ? legacy_paging::pdpt(1 + it.c / 8U % 2) : legacy_paging::directory(1));
    if (it.c % 8 == 3) say.mov_to_cr4(cr4 | x86::cr4::physical_address_extension);
    // TS and WP, which a host may want to itself.
    if (it.c % 8 == 6) say.mov_to_cr0(0x8001'0039).mov_to_cr0(0x8000'0039).mov_to_cr0(0x8001'0031);
    if (it.c % 8 == 7) say.mov_to_cr4(cr4 | x86::cr4::smep_enable | x86::cr4::physical_address_extension);
    say.load(address).mov_from_cr3();
}

void l1_step(Scenario& say, unsigned vcpu, const Bytes& it, bool has_handlers_and_modes) {
    const std::uint64_t address = addresses[it.a % addresses.size()];
    const std::uint64_t vpid = vpids[it.b % vpids.size()];
    const std::uint64_t flushed = it.b % 8 == 7 ? 0 : vpids[it.b % 3U];
    constexpr std::uint64_t cr4 =
        x86::cr4::physical_address_extension | x86::cr4::page_global_enable | x86::cr4::vmx_enable;
    // L1 can act only when L2 has ended; where L1 runs already this step is passed over, as L1's is below.
    say.l2().vmcall().l1();
    L1Step step = l1_steps[it.what / 8U];
    if (has_handlers_and_modes && (it.what / 8 == 3 || it.what / 8 == 4)) step = L1Step::handlers;
    if (has_handlers_and_modes && it.what / 8 == 5) step = L1Step::mode;
    // (A time that ends while L0 begins a delivery again is not compared.)
    if (has_handlers_and_modes && step == L1Step::timer) step = L1Step::handlers;
    switch (step) {
        case L1Step::vmresume:
            say.vmresume();
            return;
        case L1Step::vmptrld:
            say.vmptrld(vmcs_of(vcpu, it.a % guests)).vmlaunch().vmresume();
            return;
        case L1Step::invvpid_address:
            say.invvpid_address(flushed, address);
            return;
        case L1Step::invvpid_single:
            say.invvpid_single(flushed);
            return;
        case L1Step::invvpid:
            say.invvpid(invvpid_types[it.a % 8U], flushed | (it.c == 77 ? 0x1'0000U : 0U), address);
            return;
        case L1Step::invept:
            say.invept(it.a % 4 == 0 ? 2 : 1, layout::eptp(it.b % 2U) | (it.c % 8 == 0 ? 0x40U : 0U));
            return;
        case L1Step::load:
            say.load(address);
            return;
        case L1Step::invlpg:
            say.invlpg(address);
            return;
        case L1Step::mov_to_cr3:
            say.mov_to_cr3(layout::page_root(0));
            return;
        case L1Step::mov_to_cr4:
            say.mov_to_cr4(it.a % 2 == 0 ? cr4 : cr4 & ~x86::cr4::page_global_enable);
            return;
        case L1Step::write_vpid:
            // An entry that fails for its VPID, and then one that need not.
            if (vpid == 0) say.vmwrite(field::virtual_processor_identifier, 0).vmresume();
            say.vmwrite(field::virtual_processor_identifier, vpid == 0 ? vpids[it.a % 3U] : vpid);
            return;
        case L1Step::write_eptp:
            say.vmwrite(field::ept_pointer, layout::eptp(it.a % 2U) | (it.c % 4 == 0 ? 0x40U : 0U));
            return;
        case L1Step::inject: {
            // An exception at the next entry, with an error code if it has one; an NMI or an interrupt.
            constexpr std::array<std::uint64_t, 5> events = {0x8000'0306, 0x8000'0B0D, 0x8000'0B0E,
                                                             0x8000'0202, 0x8000'0077};
            say.vmwrite(field::vm_entry_exception_error_code, it.c % 8U);
            say.vmwrite(field::vm_entry_interruption_information, events[it.a % 5U]).vmresume();
            return;
        }
        case L1Step::intercept:
            // L2's page faults exit, or some of them, or none.
            say.vmwrite(field::exception_bitmap, it.a % 2U << 14);
            say.vmwrite(field::page_fault_error_code_mask, it.b % 4U);
            say.vmwrite(field::page_fault_error_code_match, it.c % 2U);
            if (it.c % 2 == 1) {
                // Instructions of L2's exit or not, and it has a time of its own.
                constexpr std::uint64_t usual = 0x8400'61F2;
                constexpr std::array<std::uint64_t, 8> more = {
                    0,
                    vmx::primary::invlpg_exiting,
                    vmx::primary::rdtsc_exiting,
                    vmx::primary::cr3_load_exiting | vmx::primary::pause_exiting,
                    vmx::primary::cr3_store_exiting,
                    vmx::primary::unconditional_io_exiting,
                    vmx::primary::use_tsc_offsetting,
                    vmx::primary::use_tsc_offsetting | vmx::primary::pause_exiting};
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual | more[it.b / 4 % 8U]);
                say.vmwrite(field::cr3_target_value_0, layout::page_root(1));
                say.vmwrite(field::cr3_target_count, it.a / 2U % 2);
                say.vmwrite(field::tsc_offset, 0x1'0000'0000U * it.b).vmresume().vmlaunch();
                // L1 has each back that exits, and goes on with L2.
                say.l2().rdtsc().l1().vmresume().l2().pause().l1().vmresume().l2().invlpg(address);
                say.l1().vmresume().l2().out(0x3F8).l1().vmresume().l2().mov_from_cr3();
                say.l1()
                    .vmresume()
                    .l2()
                    .mov_to_cr3(layout::page_root(1))
                    .l1()
                    .vmresume()
                    .l2()
                    .load(0x7000'0000);
                say.l1().vmresume().l2().hlt().l1();
            }
            return;
        case L1Step::fail:
            fail(say, it);
            return;
        case L1Step::vmclear:
            say.vmclear(vmcs_of(vcpu, it.a % guests)).vmptrld(vmcs_of(vcpu, it.b % guests));
            return;
        case L1Step::prepare:
            // An L1 that an INIT has reset starts again here.
            if (it.c % 4 == 0) say.vmxoff().l0().start_up(it.b).l1().boot().vmxon();
            say.prepare(vmcs_of(vcpu, it.a % guests), guest_of(it.a % guests));
            if (has_handlers_and_modes) handlers::give_l2(say);
            say.vmlaunch();
            return;
        case L1Step::own_register:
            own_register(say, it);
            return;
        case L1Step::event_controls: {
            // NMIs and interrupts exit or not, L2 has virtual NMIs or not, and is entered with events blocked
            // or not.
            constexpr std::array<std::uint64_t, 8> pin = {0x16, 0x1E, 0x3E, 0x36, 0x17, 0x1F, 0x3F, 0x17};
            say.vmwrite(field::pin_based_vm_execution_controls, pin[it.a % 8U]);
            say.vmwrite(field::guest_rflags, it.b / 16 % 2 == 0 ? 0x202 : 0x2);
            say.vmwrite(
                field::vm_exit_controls,
                0x33'6FFB | (it.a / 8 % 2 == 0 ? vmx::exit_control::acknowledge_interrupt_on_exit : 0U));
            if (it.a / 16 % 4 == 0) {
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            0x8400'61F2 | vmx::primary::interrupt_window_exiting);
            }
            say.vmwrite(field::guest_interruptibility_state,
                        std::uint64_t{it.b} % 16 & (it.c % 2 == 0 ? 8U : 15U));
            // Where the entry fails L1 goes on, and the next one need not.
            say.vmresume().vmwrite(field::guest_interruptibility_state, 0);
            if (it.a % 8 == 3) say.vmwrite(field::pin_based_vm_execution_controls, pin[1]);
            if (it.c % 16 == 5) {
                // An L2 that waits for a start-up IPI, which keeps out all else.
                say.vmwrite(field::guest_activity_state, 3).vmresume().l2().nop();
                say.l0().interrupt_at_next_exit(0x52).start_up(it.b).l1().vmread(field::exit_qualification);
                say.vmwrite(field::guest_activity_state, 0);
            } else if (it.c % 16 == 6) {
                // One that is entered halted, until an event ends it, or a window that is open.
                say.vmwrite(field::guest_activity_state, 1).vmresume().l2().nop();
                say.l0().interrupt(0x53).nmi_at_next_exit().l2().nop().vmcall().l0().nmi().l2().vmcall();
                say.l1().vmread(field::guest_activity_state).vmwrite(field::guest_activity_state, 0);
            }
            return;
        }
        case L1Step::timer: {
            // L2 has so long a time, of which exits save what is left, or do not.
            const bool events_exit = it.b % 4 == 3;
            say.vmwrite(field::pin_based_vm_execution_controls, events_exit ? 0x7F : 0x56);
            say.vmwrite(
                field::vm_exit_controls,
                0x33'6FFB | (it.b % 2 == 0 ? vmx::exit_control::save_vmx_preemption_timer_value : 0U));
            say.vmwrite(field::vmx_preemption_timer_value, it.a % 32U).vmresume().vmlaunch();
            say.l2().load(address).rdtsc().nop().vmcall().l1().vmread(field::vmx_preemption_timer_value);
            say.rdtsc().vmresume().l2().nop().rdtsc().load(addresses[it.c % addresses.size()]);
            say.l1().vmread(field::vmx_preemption_timer_value).vmread(field::exit_reason);
            // Without the timer there is nothing to save.
            if (it.c % 4 == 0) say.vmwrite(field::pin_based_vm_execution_controls, 0x16).vmresume();
            if (it.c % 4 < 2) say.vmwrite(field::vm_exit_controls, 0x33'6FFB).vmresume();
            return;
        }
        case L1Step::msr_list: {
            constexpr std::array<std::uint64_t, 8> msrs = {
                x86::msr::ia32_star,           x86::msr::ia32_lstar,   x86::msr::ia32_fmask,
                x86::msr::ia32_kernel_gs_base, x86::msr::ia32_tsc_aux, x86::msr::ia32_efer,
                x86::msr::ia32_fs_base,        x86::msr::ia32_pat};
            constexpr std::uint64_t list = layout::data_page(20);
            say.edit()
                .poke(list, msrs[it.b % 8U])
                .poke(list + 8, it.c % 4 == 0 ? ~std::uint64_t{it.c} : it.c);
            say.l1().vmwrite(field::vm_entry_msr_load_address, list + (it.c == 99 ? 8 : 0));
            say.vmwrite(field::vm_entry_msr_load_count, it.a % 2U);
            // What an exit stores, and then loads, is a list that is good.
            say.edit().poke(list + 16, x86::msr::ia32_lstar).poke(list + 32, x86::msr::ia32_star);
            say.poke(list + 40, it.c).l1().vmwrite(field::vm_exit_msr_store_address, list + 16);
            say.vmwrite(field::vm_exit_msr_store_count, it.a / 2U % 2)
                .vmwrite(field::vm_exit_msr_load_address, list + 32);
            say.vmwrite(field::vm_exit_msr_load_count, it.a / 4U % 2).vmresume();
            say.vmwrite(field::vm_entry_msr_load_count, 0);
            return;
        }
        case L1Step::iret:
            if (it.b % 4 == 0) say.sti();
            if (it.b % 4 == 1) say.mov_to_ss();
            if (it.b % 8 == 2) say.l0().nmi().l1();
            if (it.b % 8 == 3) say.sti().nop();
            if (it.b % 8 == 6) say.l0().eoi().l1();
            if (it.b % 8 == 7) say.cli();
            say.iret(layout::scratch(7)).cpuid();
            return;
        case L1Step::read_exit:
            say.vmread(field::exit_reason).vmread(field::vm_exit_interruption_information);
            say.vmread(field::guest_interruptibility_state).vmread(field::idt_vectoring_information);
            say.vmread(field::vm_entry_interruption_information).rdmsr(msr_of_a_list(it.a));
            // What exits leave as it was, L1 may have written.
            say.vmread(field::vm_instruction_error).vmread(field::io_rcx);
            if (it.b % 4 == 0) say.vmwrite(field::io_rcx, it.c);
            return;
        case L1Step::shadow_vmcs:
            if (it.a / 8 % 2 == 0) {
                shadow_vmcs(say, vcpu, it);
            } else {
                show_vmcs(say, vcpu, it);
            }
            return;
        case L1Step::handlers:
            use_handlers(say, vcpu, it);
            return;
        case L1Step::mode:
            change_mode(say, vcpu, it);
            return;
    }
}

void l2_step(Scenario& say, const Bytes& it, bool has_handlers_and_modes) {
    const std::uint64_t address = addresses[it.a % addresses.size()];
    constexpr std::uint64_t cr4 =
        x86::cr4::physical_address_extension | x86::cr4::page_global_enable | x86::cr4::vmx_enable;
    // Whether the VMCS was launched already or not; what comes second is passed over, as L2 runs.
    say.l1().vmresume().vmlaunch().l2();
    switch (it.what / 8 % 16) {
        case 0:
            say.vmcall();
            return;
        case 1:
        case 2:
        case 3:
            if (it.b % 8 == 0) {
                say.vmread(shadow_fields[it.c % 8U]).l1().vmresume().l2();
                say.vmwrite(shadow_fields[it.b / 4 % 8U], it.c).l1().vmresume().l2();
            }
            say.load(address);
            return;
        case 4:
            say.store(address, it.c);
            return;
        case 5:
            say.invlpg(address);
            return;
        case 6:
            say.mov_to_cr3(layout::page_root(1 + it.a % 2U) | it.b % 3U |
                           (it.c % 2 == 0 ? x86::cr3::no_flush : 0));
            return;
        case 7:
            say.mov_to_cr3(layout::page_root(1 + it.a % 2U));
            return;
        case 8:
            say.mov_to_cr4(it.a % 2 == 0 ? cr4 : cr4 & ~x86::cr4::page_global_enable);
            return;
        case 9:
            say.mov_to_cr4(it.a % 2 == 0 ? cr4 : cr4 | x86::cr4::pcid_enable);
            return;
        case 10:
            say.fetch(address);
            return;
        case 11:
            switch (it.b % 4) {
                case 0:
                    say.rdtsc().pause();
                    break;
                case 1:
                    say.out(0x3F8);
                    break;
                case 2:
                    say.mov_from_cr3();
                    break;
                default:
                    say.pause();
                    if (it.c == 5) say.hlt();
                    break;
            }
            return;
        case 12:
        case 13:
            if (!has_handlers_and_modes || it.b % 4 == 0) {
                say.iret(address);
            } else if (it.b % 4 == 1) {
                say.ud2();
            } else if (it.b % 4 == 2) {
                say.int_n(static_cast<std::uint8_t>(it.c % 16U * 16U));
            } else {
                say.iretq();
            }
            return;
        case 14:
            if (it.b % 8 == 6) {
                say.cli();
            } else if (it.b % 2 == 0) {
                say.sti();
            } else {
                say.mov_to_ss();
            }
            say.load(address);
            return;
        default:
            say.load(address).vmcall();
            return;
    }
}

/// What L0 does, and what comes to it.
void from_outside(Scenario& say, const Bytes& it, bool has_handlers_and_modes) {
    const unsigned what = it.what / 8;
    const std::uint8_t vector = interrupt_vectors[it.a % 8U];
    if (has_handlers_and_modes && what == 0) {
        say.take_page(handlers::pages[it.a % handlers::pages.size()]);
    } else if (what < 4) {
        say.take_page(layout::data_page(it.a % 6U));
    } else if (what < 6) {
        say.nmi();
    } else if (what < 10) {
        say.nmi_at_next_exit();
    } else if (what < 13) {
        say.interrupt(vector);
    } else if (what < 17) {
        say.interrupt_at_next_exit(vector);
    } else if (what < 20) {
        say.eoi();
    } else if (what < 21) {
        say.tpr(static_cast<std::uint8_t>(it.a % 8U * 0x10U));
    } else if (what < 29) {
        say.move_vcpu(it.a % 2U);
    } else if (what < 30) {
        say.init_at_next_exit();
    } else if (what < 31) {
        say.init();
    } else {
        say.start_up(it.b);
    }
}

}  // namespace

Program random_program(std::span<const std::uint8_t> bytes, bool has_handlers_and_modes) {
    Scenario say;
    say.edit();
    for (const unsigned hierarchy : {0U, 1U, 2U}) {
        for (unsigned index = 0; index < addresses.size(); ++index) {
            say.map(hierarchy, addresses[index], layout::data_page((hierarchy + index) % 6));
        }
    }
    for (unsigned page = 0; page < 6; ++page) {
        say.poke(layout::data_page(page), 0xD0 + page);
        say.ept_map(0, layout::data_page(page), layout::data_page(page));
        say.ept_map(1, layout::data_page(page), layout::data_page(5 - page));
    }
    if (has_handlers_and_modes) {
        handlers::put_all(say);
        put_bad_idt(say);
        map_handlers(say);
        for (const unsigned hierarchy : {1U, 2U}) {
            legacy_paging::put_pae(say, hierarchy);
            legacy_paging::put_32_bits(say, hierarchy, layout::data_page(hierarchy),
                                       layout::data_page(hierarchy + 1));
        }
    }
    for (const std::uint8_t vcpu : {std::uint8_t{1}, std::uint8_t{0}}) {
        say.on(0, vcpu).l1().vmxon();
        for (unsigned index = 0; index < guests; ++index) {
            say.prepare(vmcs_of(vcpu, index), guest_of(index));
            if (has_handlers_and_modes) handlers::give_l2(say);
        }
        say.vmlaunch();
    }
    for (std::size_t at = 0; at + 4 <= bytes.size(); at += 4) {
        const Bytes it{bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]};
        const auto vcpu = static_cast<std::uint8_t>(it.c / 64 == 3 ? 1 : 0);
        say.on(0, vcpu);
        switch (it.what % 8) {
            case 0:
            case 1:
            case 2:
                l2_step(say, it, has_handlers_and_modes);
                break;
            case 3:
            case 4:
            case 5:
                l1_step(say, vcpu, it, has_handlers_and_modes);
                break;
            case 6:
                say.edit();
                if (it.what / 8 % 2 == 0) {
                    say.map(it.c % 3U, addresses[it.a % addresses.size()], layout::data_page(it.b % 6U),
                            page_flag_sets[it.b / 8 % page_flag_sets.size()]);
                } else {
                    say.ept_map(it.c % 2U, layout::data_page(it.a % 6U), layout::data_page(it.b % 6U),
                                ept_flag_sets[it.b / 8 % ept_flag_sets.size()]);
                }
                break;
            default:
                say.l0();
                from_outside(say, it, has_handlers_and_modes);
                break;
        }
    }
    return say.program();
}

}  // namespace flatback::machine
