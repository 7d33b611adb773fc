// SDM 3C 27.2.1: the checks of the VMX controls. Each names itself; the order is the manual's.
#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/event.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

namespace field = vmx::field;

namespace {

constexpr std::uint64_t page_mask = 0xFFF;

/// 27.2.1.3: the event that VM entry is to inject.
const char* check_injection(const Vmcs& vmcs, const rules::Capabilities& caps) {
    const rules::EventInformation event{vmcs.get(field::vm_entry_interruption_information)};
    if (!event.is_valid()) return nullptr;
    using Type = vmx::InterruptionType;
    if (event.type() == Type::reserved)
        return "entry interruption information: type 1 is reserved (27.2.1.3)";
    if (event.type() == Type::other_event)
        return "entry interruption information: no monitor trap flag (27.2.1.3)";
    if (event.type() == Type::nmi && event.vector() != 2) {
        return "entry interruption information: an NMI has vector 2 (27.2.1.3)";
    }
    if (event.type() == Type::hardware_exception && event.vector() > 31) {
        return "entry interruption information: an exception's vector is at most 31 (27.2.1.3)";
    }
    // "Unrestricted guest" does not matter, in the editions that know IA32_VMX_BASIC[56].
    const bool protected_mode = (vmcs.get(field::guest_cr0) & x86::cr0::protection_enable) != 0;
    const bool must_deliver = protected_mode && event.type() == Type::hardware_exception &&
                              rules::pushes_error_code(event.vector());
    const bool may_differ = protected_mode && event.type() == Type::hardware_exception &&
                            (caps.basic & rules::basic::any_error_code) != 0;
    if (!may_differ && event.has_error_code() != must_deliver) {
        return "entry interruption information: error code where there is none, or none where there is one "
               "(27.2.1.3)";
    }
    if ((event.value & rules::EventInformation::reserved_at_entry) != 0) {
        return "entry interruption information: reserved bits (27.2.1.3)";
    }
    if (event.has_error_code() && (vmcs.get(field::vm_entry_exception_error_code) & 0xFFFF'0000) != 0) {
        return "entry exception error code: bits 31:16 are 0 (27.2.1.3)";
    }
    if (event.is_instruction()) {
        const std::uint32_t length = vmcs.get(field::vm_entry_instruction_length);
        if (length > 15 || (length == 0 && !caps.has_misc(rules::misc::inject_length_0))) {
            return "entry instruction length is at most 15 (27.2.1.3)";
        }
    }
    return nullptr;
}

}  // namespace

const char* Machine::check_controls(const Vmcs& vmcs) const {
    const rules::Capabilities& caps = model_.vmx;
    const std::uint32_t pin = vmcs.get(field::pin_based_vm_execution_controls);
    const std::uint32_t primary = vmcs.get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t secondary = secondary_controls(vmcs);
    const unsigned bits = model_.physical_address_bits;
    const auto page = [bits](std::uint64_t address) {
        return (address & page_mask) == 0 && rules::within_width(address, bits);
    };
    const auto uses = [](std::uint32_t controls, std::uint32_t bit) { return (controls & bit) != 0; };

    // 27.2.1.1: VM-execution controls.
    if (!caps.pin_based.permits(pin)) return "pin-based controls: a reserved setting (27.2.1.1)";
    if (!caps.primary.permits(primary)) {
        return "primary processor-based controls: a reserved setting (27.2.1.1)";
    }
    if (uses(primary, vmx::primary::activate_secondary_controls) && !caps.secondary.permits(secondary)) {
        return "secondary processor-based controls: a reserved setting (27.2.1.1)";
    }
    if (vmcs.get(field::cr3_target_count) > caps.cr3_targets()) {
        return "CR3-target count: more than the processor has (27.2.1.1)";
    }
    if (uses(primary, vmx::primary::use_io_bitmaps) &&
        (!page(vmcs.get(field::address_of_io_bitmap_a)) || !page(vmcs.get(field::address_of_io_bitmap_b)))) {
        return "I/O-bitmap addresses (27.2.1.1)";
    }
    if (uses(primary, vmx::primary::use_msr_bitmaps) && !page(vmcs.get(field::address_of_msr_bitmaps))) {
        return "MSR-bitmap address (27.2.1.1)";
    }
    if (!uses(pin, vmx::pin::nmi_exiting) && uses(pin, vmx::pin::virtual_nmis)) {
        return "virtual NMIs without NMI exiting (27.2.1.1)";
    }
    if (!uses(pin, vmx::pin::virtual_nmis) && uses(primary, vmx::primary::nmi_window_exiting)) {
        return "NMI-window exiting without virtual NMIs (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::enable_vpid) && vmcs.get(field::virtual_processor_identifier) == 0) {
        return "enable VPID with VPID 0000H (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::enable_ept) && !caps.is_eptp(vmcs.get(field::ept_pointer), bits)) {
        return "EPTP (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::unrestricted_guest) && !uses(secondary, vmx::secondary::enable_ept)) {
        return "unrestricted guest without EPT (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::enable_vm_functions)) {
        const std::uint64_t functions = vmcs.get(field::vm_function_controls);
        if ((functions & ~caps.vm_functions) != 0)
            return "VM-function controls: a reserved setting (27.2.1.1)";
        if ((functions & vmx::vm_function::eptp_switching) != 0 &&
            (!uses(secondary, vmx::secondary::enable_ept) || !page(vmcs.get(field::eptp_list_address)))) {
            return "EPTP switching without EPT or with a bad list address (27.2.1.1)";
        }
    }
    if (uses(secondary, vmx::secondary::enable_pml) &&
        (!uses(secondary, vmx::secondary::enable_ept) || !page(vmcs.get(field::pml_address)))) {
        return "page-modification log without EPT, or its address (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::use_tsc_scaling) && vmcs.get(field::tsc_multiplier) == 0) {
        return "TSC multiplier 0 (27.2.1.1)";
    }
    if (uses(secondary, vmx::secondary::vmcs_shadowing) &&
        (!page(vmcs.get(field::vmread_bitmap_address)) || !page(vmcs.get(field::vmwrite_bitmap_address)))) {
        return "VMREAD-bitmap and VMWRITE-bitmap addresses (27.2.1.1)";
    }

    // 27.2.1.2: VM-exit controls.
    if (!caps.vm_exit.permits(vmcs.get(field::vm_exit_controls))) {
        return "VM-exit controls: a reserved setting (27.2.1.2)";
    }
    if (!uses(pin, vmx::pin::activate_vmx_preemption_timer) &&
        uses(vmcs.get(field::vm_exit_controls), vmx::exit_control::save_vmx_preemption_timer_value)) {
        return "save VMX-preemption timer value without the timer (27.2.1.2)";
    }
    const auto list = [bits](std::uint64_t address, std::uint32_t count) {
        if (count == 0) return true;
        const std::uint64_t last = address + 16 * std::uint64_t{count} - 1;
        return (address & 0xF) == 0 && rules::within_width(address, bits) &&
               rules::within_width(last, bits) && last >= address;
    };
    if (!list(vmcs.get(field::vm_exit_msr_store_address), vmcs.get(field::vm_exit_msr_store_count))) {
        return "VM-exit MSR-store address (27.2.1.2)";
    }
    if (!list(vmcs.get(field::vm_exit_msr_load_address), vmcs.get(field::vm_exit_msr_load_count))) {
        return "VM-exit MSR-load address (27.2.1.2)";
    }

    // 27.2.1.3: VM-entry controls.
    if (!caps.vm_entry.permits(vmcs.get(field::vm_entry_controls))) {
        return "VM-entry controls: a reserved setting (27.2.1.3)";
    }
    if (const char* failed = check_injection(vmcs, caps)) {
        return failed;
    }
    if (!list(vmcs.get(field::vm_entry_msr_load_address), vmcs.get(field::vm_entry_msr_load_count))) {
        return "VM-entry MSR-load address (27.2.1.3)";
    }
    return nullptr;
}

}  // namespace flatback::machine
