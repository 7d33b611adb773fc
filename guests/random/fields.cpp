#include "guests/random/fields.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/world.hpp"
#include "vmx/field_table.hpp"

namespace flatback::guests {
namespace {

// Fields of controls that an L0 may not offer are absent there, and here they are not.
bool is_everywhere(std::uint64_t encoding) {
    for (const std::uint32_t other : {field::posted_interrupt_notification_vector.encoding,
                                      field::eptp_index.encoding,
                                      field::guest_interrupt_status.encoding,
                                      field::pml_index.encoding,
                                      field::pml_address.encoding,
                                      field::posted_interrupt_descriptor_address.encoding,
                                      field::vm_function_controls.encoding,
                                      field::eoi_exit_bitmap_0.encoding,
                                      field::eoi_exit_bitmap_1.encoding,
                                      field::eoi_exit_bitmap_2.encoding,
                                      field::eoi_exit_bitmap_3.encoding,
                                      field::eptp_list_address.encoding,
                                      field::vmread_bitmap_address.encoding,
                                      field::vmwrite_bitmap_address.encoding,
                                      field::virtualization_exception_information_address.encoding,
                                      field::encls_exiting_bitmap.encoding,
                                      field::tsc_multiplier.encoding,
                                      field::executive_vmcs_pointer.encoding,
                                      field::guest_ia32_perf_global_ctrl.encoding,
                                      field::guest_ia32_bndcfgs.encoding,
                                      field::host_ia32_perf_global_ctrl.encoding,
                                      field::guest_smbase.encoding,
                                      field::virtual_processor_identifier.encoding,
                                      field::ple_gap.encoding,
                                      field::ple_window.encoding,
                                      field::xss_exiting_bitmap.encoding})
        if (encoding == other) return false;
    return true;
}

bool may_be_read(std::uint64_t encoding) {
    // Undefined but after some exits, or a count of ticks.
    if (vmx::kind(encoding) == vmx::FieldKind::exit_information && encoding != field::exit_reason.encoding &&
        encoding != field::vm_instruction_error.encoding)
        return false;
    if (is_pdpte(encoding) && (current_vmcs() == vmcs_regions || !has_ept())) return false;
    return encoding != field::vmx_preemption_timer_value.encoding;
}

// Guest state, so that the next entry is still this L1's: L2 reaches nothing but its sandbox. Exit
// information is read-only only where IA32_VMX_MISC bit 29 is 0, which an L0 may choose.
bool may_be_written(std::uint64_t encoding) {
    if (vmx::kind(encoding) != vmx::FieldKind::guest_state) return false;
    for (const std::uint32_t kept :
         {field::guest_activity_state.encoding, field::vmx_preemption_timer_value.encoding,
          field::guest_ia32_debugctl.encoding, field::guest_pending_debug_exceptions.encoding,
          field::guest_rip.encoding,
          // What is bad with one of these has a qualification of its own, and the order of checks is free:
          // mutations.cpp.
          field::vmcs_link_pointer.encoding, field::guest_pdpte0.encoding, field::guest_pdpte1.encoding,
          field::guest_pdpte2.encoding, field::guest_pdpte3.encoding})
        if (encoding == kept) return false;
    return true;
}

}  // namespace

bool has_ept() {
    return (read(field::secondary_processor_based_vm_execution_controls) & secondary::enable_ept) != 0;
}

bool is_pdpte(std::uint64_t encoding) {
    return encoding >= field::guest_pdpte0.encoding && encoding <= (field::guest_pdpte3.encoding | 1);
}

std::uint64_t draw_field(Random& random, bool is_write) {
    for (;;) {
        std::uint64_t encoding = random.one_in(2) ? random.bits() : random.bits() & 0x6FFF;
        if (!random.one_in(5))
            encoding = vmx::all_fields[random.below(vmx::field_count)].encoding | random.below(3) / 2;
        if (!vmx::is_well_formed(encoding)) return encoding;
        const std::uint64_t full = encoding & ~std::uint64_t{1};
        // What this table does not name, the emulator may have.
        if (vmx::dense_index(full) < 0 || !is_everywhere(full)) continue;
        if (is_write ? may_be_written(full) : may_be_read(full)) return encoding;
    }
}

}  // namespace flatback::guests
