#include "guests/random/guest_state.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t unusable = 0x10000;

constexpr bool is_long(L2Mode mode) {
    return mode <= L2Mode::compatibility;
}
constexpr bool has_paging(L2Mode mode) {
    return mode != L2Mode::no_paging && mode != L2Mode::real;
}
constexpr bool is_user(L2Mode mode) {
    return mode == L2Mode::user64 || mode == L2Mode::user32;
}

// What is added to the address of one of L2's paging structures where L2 is to find it.
std::uint64_t table_base(bool with_ept) {
    return with_ept ? 0 : physical(world.sandbox) + l2_memory::without_ept;
}

// Bits that are drawn, or 0 where this L1 was not promised one of them.
std::uint32_t draw(Random& random, const vmx::ControlCapability& capability, std::uint32_t always,
                   std::uint32_t sometimes) {
    return capability.adjust(always | static_cast<std::uint32_t>(random.some_of(sometimes)));
}

std::uint64_t canonical(Random& random) {
    const std::uint64_t value = random.bits();
    return random.one_in(2) ? value >> 17 : value | 0xFFFF800000000000;
}

struct Segment {
    std::uint64_t selector, base, limit, rights;
};

enum SegmentNumber : std::uint8_t { es, cs, ss, ds, fs, gs, ldtr, tr };

// The four fields of a segment register stand 2 apart from those of its neighbour.
void write_segment(unsigned number, const Segment& segment) {
    write_raw(field::guest_es_selector.encoding + 2 * number, segment.selector);
    write_raw(field::guest_es_base.encoding + 2 * number, segment.base);
    write_raw(field::guest_es_limit.encoding + 2 * number, segment.limit);
    write_raw(field::guest_es_access_rights.encoding + 2 * number, segment.rights);
}

void write_segments(L2Mode mode) {
    constexpr std::uint64_t flat = 0xFFFFFFFF;
    if (mode == L2Mode::real || mode == L2Mode::virtual8086) {
        // SDM 3C 27.3.1.2: virtual-8086 segments have base = selector * 16, limit FFFFH, rights F3H.
        const std::uint64_t rights = mode == L2Mode::real ? 0x93 : 0xF3;
        for (unsigned number = es; number <= gs; ++number)
            write_segment(number, {l2_memory::code >> 4, l2_memory::code, 0xFFFF, rights});
        if (mode == L2Mode::real) write_segment(cs, {l2_memory::code >> 4, l2_memory::code, 0xFFFF, 0x9B});
    } else {
        const bool user = is_user(mode);
        const Segment data{user ? 0x2BU : 0x10U, 0, flat, user ? 0xC0F3U : 0xC093U};
        for (const unsigned number : {es, ss, ds, fs, gs}) write_segment(number, data);
        switch (mode) {
            case L2Mode::long64:
                write_segment(cs, {0x08, 0, flat, 0xA09B});
                break;
            case L2Mode::user64:
                write_segment(cs, {0x33, 0, flat, 0xA0FB});
                break;
            case L2Mode::user32:
                write_segment(cs, {0x3B, 0, flat, 0xC0FB});
                break;
            default:
                write_segment(cs, {0x18, 0, flat, 0xC09B});
        }
    }
    write_segment(ldtr, {0, 0, 0, unusable});
    if (is_long(mode))
        write_segment(tr, {0x40, l2_memory::tss64, 0x87, 0x8B});
    else
        write_segment(tr, {0x60, l2_memory::tss32, 0x87, 0x8B});
}

}  // namespace

std::uint64_t slot_rip(L2Mode mode, std::uint64_t slot) {
    const bool based = mode == L2Mode::real || mode == L2Mode::virtual8086;
    return (based ? 0 : l2_memory::code) + slot * slot_size;
}

L2Mode draw_mode(Random& random, bool with_ept) {
    for (;;) {
        const auto mode = static_cast<L2Mode>(random.below(l2_modes));
        if (with_ept || has_paging(mode)) return mode;
    }
}

void write_controls(Random& random, L2Mode mode, bool with_ept) {
    const Capabilities& can = capabilities;
    // Always: what ends an L2 that would go on for ever, and what would let it read the time or halt L1's
    // processor.
    std::uint32_t pin_bits = draw(random, can.pin, pin::activate_vmx_preemption_timer,
                                  pin::external_interrupt_exiting | pin::nmi_exiting);
    if ((pin_bits & pin::nmi_exiting) != 0 && random.one_in(2))
        pin_bits = can.pin.adjust(pin_bits | pin::virtual_nmis);
    constexpr std::uint32_t always = primary::hlt_exiting | primary::rdtsc_exiting | primary::rdpmc_exiting |
                                     primary::mwait_exiting | primary::monitor_exiting |
                                     primary::activate_secondary_controls;
    constexpr std::uint32_t rarely = primary::interrupt_window_exiting | primary::cr3_load_exiting |
                                     primary::cr3_store_exiting | primary::mov_dr_exiting |
                                     primary::invlpg_exiting | primary::pause_exiting |
                                     primary::cr8_load_exiting | primary::cr8_store_exiting;
    std::uint32_t primary_bits = draw(random, can.primary, always, primary::use_msr_bitmaps);
    primary_bits |= can.primary.adjust(static_cast<std::uint32_t>(random.some_of(rarely) & random.bits()));
    if (random.one_in(3)) primary_bits |= can.primary.adjust(primary::use_tpr_shadow);
    // Where CR3 holds a physical address of L1's, L2 must not choose it.
    if (!with_ept) primary_bits |= primary::cr3_load_exiting;
    // Ports are this machine's own: L2 reaches none but those that the bitmaps leave open.
    primary_bits |= random.one_in(3) ? primary::unconditional_io_exiting : primary::use_io_bitmaps;
    if ((pin_bits & pin::virtual_nmis) != 0 && random.one_in(4)) primary_bits |= primary::nmi_window_exiting;
    const std::uint32_t secondary_bits =
        draw(random, can.secondary,
             (with_ept ? secondary::enable_ept | secondary::unrestricted_guest : 0) |
                 secondary::wbinvd_exiting | secondary::rdrand_exiting | secondary::rdseed_exiting,
             secondary::enable_rdtscp | secondary::enable_invpcid | secondary::descriptor_table_exiting) |
        can.secondary.adjust(secondary::enable_vpid);
    write(field::pin_based_vm_execution_controls, pin_bits);
    write(field::primary_processor_based_vm_execution_controls, primary_bits);
    write(field::secondary_processor_based_vm_execution_controls, secondary_bits);
    write(field::vm_exit_controls,
          draw(random, can.exit, exit_control::host_address_space_size,
               exit_control::save_debug_controls | exit_control::save_ia32_pat | exit_control::load_ia32_pat |
                   exit_control::save_ia32_efer | exit_control::load_ia32_efer |
                   exit_control::acknowledge_interrupt_on_exit));
    write(field::vm_entry_controls,
          draw(random, can.entry, is_long(mode) ? entry_control::ia32e_mode_guest : 0,
               entry_control::load_debug_controls | entry_control::load_ia32_pat |
                   entry_control::load_ia32_efer));
    write(field::exception_bitmap, random.one_in(2) ? 0 : random.bits() & random.bits());
    write(field::page_fault_error_code_mask, random.one_in(2) ? 0 : random.below(32));
    write(field::page_fault_error_code_match, random.below(32));
    write(field::cr3_target_count, random.below(5));
    for (unsigned i = 0; i < 4; ++i)
        write_raw(field::cr3_target_value_0.encoding + 2 * i,
                  table_base(with_ept) +
                      random.number({l2_memory::pml4, l2_memory::pae_pdpt, l2_memory::directory32}));
    write(field::vm_exit_msr_store_count, 0);
    write(field::vm_exit_msr_load_count, 0);
    write(field::vm_entry_msr_load_count, 0);
    write(field::vm_entry_interruption_information, 0);
    write(field::vm_entry_exception_error_code, 0);
    write(field::vm_entry_instruction_length, 0);
    write(field::address_of_io_bitmap_a, physical(world.io_bitmap_a));
    write(field::address_of_io_bitmap_b, physical(world.io_bitmap_b));
    write(field::address_of_msr_bitmaps, physical(world.msr_bitmap));
    write(field::vm_exit_msr_store_address, physical(world.exit_store));
    write(field::vm_exit_msr_load_address, physical(world.exit_load));
    write(field::vm_entry_msr_load_address, physical(world.entry_load));
    write(field::tsc_offset, random.bits());
    write(field::virtual_apic_address, physical(world.virtual_apic));
    write(field::tpr_threshold, 0);
    std::uint64_t cr0_mask = random.one_in(2) ? 0 : random.bits() & random.bits();
    if (!with_ept) {
        // L2's physical addresses are L1's.
        set_aside(Deviation::paging_turned_off);
        cr0_mask |= 0x80000001;
    }
    write(field::cr0_guest_host_mask, cr0_mask);
    write(field::cr4_guest_host_mask, random.one_in(2) ? 0 : random.bits() & random.bits());
    write(field::cr0_read_shadow, random.bits() | (with_ept ? 0 : 0x80000001));
    write(field::cr4_read_shadow, random.bits());
    if (can.secondary.may_set(secondary::enable_ept))
        write(field::ept_pointer, ept_pointer(random.one_in(4)));
    if (can.secondary.may_set(secondary::enable_vpid))
        write(field::virtual_processor_identifier, 1 + random.below(3));
}

void write_host_state(Random& random) {
    write(field::host_es_selector, random.one_in(2) ? selector::data : 0);
    write(field::host_cs_selector, selector::code64);
    write(field::host_ss_selector, selector::data);
    write(field::host_ds_selector, random.one_in(2) ? selector::data : 0);
    write(field::host_fs_selector, random.one_in(2) ? selector::data : 0);
    write(field::host_gs_selector, random.one_in(2) ? selector::data : 0);
    write(field::host_tr_selector, selector::tss);
    write(field::host_ia32_pat, random.one_in(2) ? usual_pat : 0x0606060606060606);
    write(field::host_ia32_efer, usual_efer ^ random.some_of(0x801));  // NXE, SCE
    // The emulator loads 16 of its 32 bits.
    write(field::host_ia32_sysenter_cs, random.bits() & 0xFFFF);
    // WP, AM, TS, MP, EM, CD off.
    write(field::host_cr0, read_cr0() ^ random.some_of(0x5000E));
    write(field::host_cr3, read_cr3());
    constexpr std::uint64_t page_global = 0x80;
    constexpr std::uint64_t umip = 0x800;
    constexpr std::uint64_t smep_smap = 0x300000;
    write(field::host_cr4, read_cr4() ^ random.some_of((0x4U | page_global | umip | smep_smap | 0x600) &
                                                       capabilities.cr4_fixed1));
    write(field::host_fs_base, canonical(random));
    write(field::host_gs_base, canonical(random));
    write(field::host_tr_base, tss_base());
    write(field::host_gdtr_base, gdt_base());
    write(field::host_idtr_base, idt_base());
    write(field::host_ia32_sysenter_esp, canonical(random));
    write(field::host_ia32_sysenter_eip, canonical(random));
    write(field::host_rsp, physical(exit_stack));
    write(field::host_rip, physical(l2_exit));
}

void write_guest_state(Random& random, L2Mode mode, bool with_ept) {
    write_segments(mode);
    write(field::guest_gdtr_base, l2_memory::gdt);
    write(field::guest_gdtr_limit, 0x7F);
    write(field::guest_idtr_base, mode == L2Mode::real ? l2_memory::real_mode_vectors
                                  : is_long(mode)      ? l2_memory::idt64
                                                       : l2_memory::idt32);
    write(field::guest_idtr_limit, mode == L2Mode::real ? 0x3FF : is_long(mode) ? 0xFFF : 0x7FF);
    write(field::vmcs_link_pointer, ~std::uint64_t{0});
    write(field::guest_ia32_debugctl, 0);
    write(field::guest_ia32_pat, random.one_in(2) ? usual_pat : 0x0606060606060606);
    constexpr std::uint64_t efer_long = 0x500;
    write(field::guest_ia32_efer, (is_long(mode) ? efer_long : 0) | random.some_of(0x801));
    for (unsigned i = 0; i < 4; ++i)
        write_raw(field::guest_pdpte0.encoding + 2 * i, i == 0 ? l2_memory::directory | 1 : 0);
    write(field::guest_interruptibility_state, 0);
    write(field::guest_activity_state, 0);
    write(field::guest_ia32_sysenter_cs, 8);
    constexpr std::uint64_t long_enough = 1'000'000;
    write(field::vmx_preemption_timer_value, long_enough);
    constexpr std::uint64_t paging = 0x80000000;
    constexpr std::uint64_t protection = 1;
    std::uint64_t cr0 = capabilities.cr0_fixed0 | random.some_of(0x50002) | 0x10;
    if (!has_paging(mode)) cr0 &= ~paging;
    if (mode == L2Mode::real) cr0 &= ~protection;
    write(field::guest_cr0, cr0);
    std::uint64_t cr4 = capabilities.cr4_fixed0 | cr4_vmxe;
    constexpr std::uint64_t pae = 0x20;
    if (is_long(mode) || mode == L2Mode::pae) cr4 |= pae;
    cr4 |= random.some_of(0x6DF & ~pae) & capabilities.cr4_fixed1;
    write(field::guest_cr4, cr4);
    write(field::guest_cr3, table_base(with_ept) + (is_long(mode)         ? l2_memory::pml4
                                                    : mode == L2Mode::pae ? l2_memory::pae_pdpt
                                                                          : l2_memory::directory32));
    write(field::guest_dr7, 0x400);
    write(field::guest_rsp, (code_bits(mode) == 16 ? 0x7000U
                             : is_user(mode)       ? l2_memory::user_stack
                                                   : l2_memory::stack));
    write(field::guest_rip, slot_rip(mode, 0));
    std::uint64_t rflags = 2 | random.some_of(0x8D5 | 0x200);
    if (mode == L2Mode::virtual8086) rflags |= 0x20000 | random.some_of(0x3000);
    if (is_user(mode)) rflags |= random.some_of(0x3000);
    write(field::guest_rflags, rflags);
    write(field::guest_pending_debug_exceptions, 0);
    write(field::guest_ia32_sysenter_esp, l2_memory::stack);
    write(field::guest_ia32_sysenter_eip, l2_memory::handlers);
}

}  // namespace flatback::guests
