#include "metal/processors/processor_checks.hpp"

#include <algorithm>
#include <string_view>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "vmx/capability.hpp"
#include "x86/cpuid.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {
namespace {

constexpr std::string_view other_machine = "; run Flatback on a machine (or emulated CPU model) that has it";

void require(bool present, std::string_view what) {
    if (!present) refuse("this processor has no ", what, other_machine);
}

// SDM 3C 24.7: VMXON is #GP unless the lock bit and the bit that fits the mode are set.
void allow_vmxon() {
    const auto control = try_read_msr(x86::msr::ia32_feature_control);
    if (!control) return;  // some emulators lack the MSR and allow VMXON
    if ((*control & x86::feature_control::locked) != 0) {
        if ((*control & x86::feature_control::vmx_outside_smx) != 0) return;
        refuse("the firmware has locked VT-x off (IA32_FEATURE_CONTROL is ", log::hex(*control),
               "); switch on \"Intel Virtualization Technology\" in the firmware's setup and start again");
    }
    const std::uint64_t wanted =
        *control | x86::feature_control::locked | x86::feature_control::vmx_outside_smx;
    if (!try_write_msr(x86::msr::ia32_feature_control, wanted)) {
        refuse("VT-x cannot be switched on (writing ", log::hex(wanted), " to IA32_FEATURE_CONTROL faults)",
               other_machine);
    }
}

void check_controls(const vmx::Capabilities& capabilities) {
    require(capabilities.basic.has_true_controls(),
            "VT-x \"true\" control capabilities (IA32_VMX_BASIC bit 55)");
    require(capabilities.basic.memory_type() == x86::MemoryType::write_back, "write-back VMCS regions");
    require(capabilities.pin_based.may_set(vmx::pin::external_interrupt_exiting | vmx::pin::nmi_exiting |
                                           vmx::pin::virtual_nmis),
            "exiting on external interrupts and NMIs, with virtual NMIs");
    require(capabilities.primary_processor_based.may_set(vmx::primary::use_msr_bitmaps), "MSR bitmaps");
    require(capabilities.has_secondary_controls(), "secondary processor-based VM-execution controls");

    const vmx::ControlCapability secondary = capabilities.secondary_processor_based;
    require(secondary.may_set(vmx::secondary::enable_ept), "extended page tables (EPT)");
    require(secondary.may_set(vmx::secondary::unrestricted_guest), "\"unrestricted guest\"");
    require(
        capabilities.vm_exit.may_set(vmx::exit_control::host_address_space_size |
                                     vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer |
                                     vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat) &&
            capabilities.vm_entry.may_set(vmx::entry_control::ia32e_mode_guest |
                                          vmx::entry_control::load_ia32_efer |
                                          vmx::entry_control::load_ia32_pat),
        "VM-exit and VM-entry controls that switch IA32_EFER and IA32_PAT");
}

void check_ept(vmx::EptVpidCapability capability) {
    using Cap = vmx::EptVpidCapability;
    require(capability.has(Cap::walk_length_4), "four-level EPT walks");
    require(capability.has(Cap::write_back), "write-back EPT paging structures");
    require(capability.has(Cap::page_2m), "2 MB EPT pages");
    require(capability.has(Cap::invept | Cap::invept_single_context | Cap::invept_all_contexts),
            "INVEPT of both types");
}

// Without tags the processor itself drops translations at each entry and exit, and there is nothing to offer
// L1.
void check_vpid(Processor& processor) {
    using Cap = vmx::EptVpidCapability;
    constexpr std::uint64_t all_types = Cap::invvpid | Cap::invvpid_individual_address |
                                        Cap::invvpid_single_context | Cap::invvpid_all_contexts |
                                        Cap::invvpid_single_context_retaining_globals;
    vmx::ControlCapability& secondary = processor.capabilities.secondary_processor_based;
    processor.has_vpid =
        secondary.may_set(vmx::secondary::enable_vpid) && processor.capabilities.ept_vpid.has(all_types);
    if (processor.has_vpid) return;
    secondary.allowed1 &= ~vmx::secondary::enable_vpid;
    processor.capabilities.ept_vpid.value &= ~all_types;
    log::info("this processor has no VPIDs, or not all of INVVPID: L1 and its guests run without tags");
}

}  // namespace

Processor check_processor(const Options& options) {
    namespace leaf = x86::cpuid;
    const x86::CpuidResult features = cpuid(leaf::leaf_features);
    require((features.ecx & leaf::features_ecx_vmx) != 0, "VT-x (CPUID.01H:ECX.VMX)");
    require((features.edx & leaf::features_edx_pat) != 0, "page-attribute table");
    require(cpuid(leaf::leaf_highest_extended).eax >= leaf::leaf_address_sizes, "CPUID leaf 80000008H");
    allow_vmxon();

    Processor processor;
    processor.physical_address_width = std::min(cpuid(leaf::leaf_address_sizes).eax & 0xFF, 52u);
    processor.capabilities = vmx::Capabilities::from_msrs([](std::uint32_t msr) {
        const auto value = try_read_msr(msr);
        if (!value) refuse("the VT-x capability MSR ", log::hex(msr), " cannot be read", other_machine);
        return *value;
    });
    check_controls(processor.capabilities);
    check_ept(processor.capabilities.ept_vpid);
    if (!options.vpid)
        processor.capabilities.secondary_processor_based.allowed1 &= ~vmx::secondary::enable_vpid;
    check_vpid(processor);

    const x86::CpuidResult extended = cpuid(leaf::leaf_amd_features);
    require((extended.edx & leaf::amd_edx_execute_disable) != 0, "execute-disable paging");
    processor.has_1g_pages = options.huge_pages && (extended.edx & leaf::amd_edx_page_1g) != 0;
    if (!options.huge_pages) processor.capabilities.ept_vpid.value &= ~vmx::EptVpidCapability::page_1g;
    return processor;
}

}  // namespace flatback::metal
