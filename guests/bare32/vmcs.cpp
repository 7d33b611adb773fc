#include "guests/bare32/vmcs.hpp"

#include "guests/bare32/cpu.hpp"
#include "guests/bare32/interrupts.hpp"
#include "vmx/controls.hpp"

extern "C" std::uint64_t boot_gdt[];

namespace flatback::guests::bare32 {

constinit Capabilities capabilities{};

namespace {

constexpr std::uint32_t code_rights = 0xC09B;
constexpr std::uint32_t data_rights = 0xC093;
constexpr std::uint32_t busy_task_state_rights = 0x8B;
constexpr std::uint32_t unusable = 0x10000;

constexpr std::uint64_t ept_rights = 7;
constexpr std::uint64_t ept_large_write_back = 0xB0;

Page regions[vmcs_regions];
Page vmxon_region;

struct alignas(page_size) Table {
    std::uint64_t entries[512];
};
Table ept_root, ept_pointers, ept_directory;

// The control fields that have to be zero and that no plan changes.
constexpr std::uint32_t zero_fields[] = {field::exception_bitmap.encoding,
                                         field::page_fault_error_code_mask.encoding,
                                         field::page_fault_error_code_match.encoding,
                                         field::cr3_target_count.encoding,
                                         field::vm_exit_msr_store_count.encoding,
                                         field::vm_exit_msr_load_count.encoding,
                                         field::vm_entry_msr_load_count.encoding,
                                         field::vm_entry_interruption_information.encoding,
                                         field::cr0_guest_host_mask.encoding,
                                         field::cr4_guest_host_mask.encoding,
                                         field::cr0_read_shadow.encoding,
                                         field::cr4_read_shadow.encoding,
                                         field::guest_interruptibility_state.encoding,
                                         field::guest_activity_state.encoding,
                                         field::guest_ia32_sysenter_cs.encoding,
                                         field::guest_ia32_sysenter_esp.encoding,
                                         field::guest_ia32_sysenter_eip.encoding,
                                         field::guest_pending_debug_exceptions.encoding,
                                         field::guest_rsp.encoding,
                                         field::host_ia32_sysenter_cs.encoding,
                                         field::host_ia32_sysenter_esp.encoding,
                                         field::host_ia32_sysenter_eip.encoding,
                                         field::host_fs_selector.encoding,
                                         field::host_gs_selector.encoding,
                                         field::host_fs_base.encoding,
                                         field::host_gs_base.encoding};

struct Segment {
    std::uint32_t selector, limit, rights, base;
};

void fill_guest_segments() {
    constexpr std::uint32_t all = 0xFFFFFFFF;
    const Segment data{data_selector, all, data_rights, 0};
    // In the order of the encodings: ES, CS, SS, DS, FS, GS, LDTR, TR.
    const Segment segments[] = {data,
                                {code_selector, all, code_rights, 0},
                                data,
                                data,
                                data,
                                data,
                                {0, 0, unusable, 0},
                                {task_selector, 0x67, busy_task_state_rights, task_state_base()}};
    std::uint32_t step = 0;
    for (const Segment& each : segments) {
        write_raw(field::guest_es_selector.encoding + step, each.selector);
        write_raw(field::guest_es_limit.encoding + step, each.limit);
        write_raw(field::guest_es_access_rights.encoding + step, each.rights);
        write_raw(field::guest_es_base.encoding + step, each.base);
        step += 2;
    }
    write(field::guest_gdtr_base, physical(boot_gdt));
    write(field::guest_gdtr_limit, 0xFFFF);
    write(field::guest_idtr_base, 0);
    write(field::guest_idtr_limit, 0);
}

void fill_host_state() {
    write(field::host_es_selector, data_selector);
    write(field::host_cs_selector, code_selector);
    write(field::host_ss_selector, data_selector);
    write(field::host_ds_selector, data_selector);
    write(field::host_tr_selector, task_selector);
    write(field::host_tr_base, task_state_base());
    write(field::host_gdtr_base, physical(boot_gdt));
    write(field::host_idtr_base, idt_base());
    write(field::host_cr0, read_cr0());
    write(field::host_cr3, read_cr3());
    write(field::host_cr4, read_cr4());
    write(field::host_rsp, physical(exit_stack));
    write(field::host_rip, physical(l2_exit));
}

void fill_controls(const Plan& plan) {
    namespace primary = vmx::primary;
    namespace secondary = vmx::secondary;
    write(field::pin_based_vm_execution_controls, adjust(capabilities.pin, 0));
    write(field::primary_processor_based_vm_execution_controls,
          adjust(capabilities.primary, primary::hlt_exiting | primary::activate_secondary_controls));
    write(field::secondary_processor_based_vm_execution_controls,
          adjust(capabilities.secondary,
                 plan.ept ? secondary::enable_ept | secondary::unrestricted_guest : 0U));
    write(field::vm_exit_controls, adjust(capabilities.exit, 0));
    write(field::vm_entry_controls, adjust(capabilities.entry, 0));
    if (plan.ept) write_64(field::ept_pointer, ept_pointer());
}

}  // namespace

bool Capabilities::offers_ept() const {
    constexpr std::uint32_t both = vmx::secondary::enable_ept | vmx::secondary::unrestricted_guest;
    return (adjust(secondary, both) & both) == both;
}

Capabilities read_capabilities() {
    Capabilities result{};
    result.basic = read_msr(0x480);
    result.misc = read_msr(0x485);
    // Bit 55: the TRUE MSRs exist.
    const bool has_true_msrs = (result.basic >> 55 & 1) != 0;
    const std::uint32_t first = has_true_msrs ? 0x48D : 0x481;
    result.pin = read_msr(first);
    result.primary = read_msr(first + 1);
    result.exit = read_msr(first + 2);
    result.entry = read_msr(first + 3);
    if ((result.primary >> 63 & 1) != 0) {
        result.secondary = read_msr(0x48B);
        constexpr std::uint64_t ept_or_vpid = 0x22ULL << 32;
        if ((result.secondary & ept_or_vpid) != 0) result.ept_vpid = read_msr(0x48C);
    }
    return result;
}

std::uint32_t adjust(std::uint64_t capability, std::uint32_t wanted) {
    return (wanted | static_cast<std::uint32_t>(capability)) & static_cast<std::uint32_t>(capability >> 32);
}

std::uint64_t ept_pointer() {
    if (ept_root.entries[0] == 0) {
        for (std::uint64_t i = 0; i < 512; ++i)
            ept_directory.entries[i] = i << 21 | ept_rights | ept_large_write_back;
        ept_pointers.entries[0] = physical(&ept_directory) | ept_rights;
        ept_root.entries[0] = physical(&ept_pointers) | ept_rights;
    }
    return physical(&ept_root) | 6 | 3U << 3;
}

void fill_vmcs(const Plan& plan) {
    for (const std::uint32_t encoding : zero_fields) write_raw(encoding, 0);
    fill_controls(plan);
    fill_host_state();
    fill_guest_segments();
    write_64(field::vmcs_link_pointer, ~std::uint64_t{0});
    write_64(field::guest_ia32_debugctl, 0);
    const std::uint32_t paging_bit = plan.paging == Paging::none ? 0 : cr0_pg;
    const std::uint32_t paging_bits = plan.paging == Paging::none ? 0 : paging_cr4(plan.paging);
    write(field::guest_cr0, cr0_pe | cr0_ne | paging_bit);
    write(field::guest_cr4, cr4_vmxe | paging_bits);
    write(field::guest_cr3, plan.paging == Paging::none ? 0 : paging_root(plan.paging));
    if (plan.ept && plan.paging == Paging::pae) {
        for (unsigned i = 0; i < 4; ++i) {
            const std::uint64_t pointer = page_directory_pointer(i);
            write_raw(field::guest_pdpte0.encoding + 2 * i, static_cast<std::uint32_t>(pointer));
            write_raw(high_half(field::guest_pdpte0.encoding + 2 * i),
                      static_cast<std::uint32_t>(pointer >> 32));
        }
    }
    write(field::guest_dr7, 0x400);
    write(field::guest_rip, physical(plan.program));
    write(field::guest_rflags, 2);
}

Page& vmcs_region(unsigned index) {
    regions[index].words[0] = capabilities.revision();
    return regions[index];
}

void start_vmcs(unsigned index, const Plan& plan) {
    const std::uint64_t address = physical(&vmcs_region(index));
    try_vmclear(physical(&address));
    try_vmptrld(physical(&address));
    fill_vmcs(plan);
}

Outcome enter_vmx_operation() {
    vmxon_region.words[0] = capabilities.revision();
    write_cr4(read_cr4() | cr4_vmxe);
    const std::uint64_t address = physical(&vmxon_region);
    return try_vmxon(physical(&address));
}

}  // namespace flatback::guests::bare32
