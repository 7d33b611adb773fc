#include "tests/nested/processor_checks.hpp"

#include "nested/entry/checks.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test {

namespace {
// Host-physical memory, as far as VM entry reads it: the virtual-APIC page.
struct HostMemory {
    FakePort& port;

    template <typename T>
    [[nodiscard]] T read(std::uint64_t physical) const {
        const std::uint64_t l1 = physical - FakePort::host_offset;
        return L1Memory::has(l1) ? port.memory.read<T>(l1) : T{};
    }
};
}  // namespace

nested::EntryVerdict processor_verdict(const FakeVmcs& given, const vmx::Capabilities& processor,
                                       x86::Hpa address, FakePort& port) {
    const nested::EntryRules rules{.promised = processor, .physical_address_width = physical_width};
    const nested::EntryContext context{.ia32e_mode = true, .in_smm = false, .current_vmcs = address.value()};
    const HostMemory memory{port};
    // SDM 3C 27.2.2, 27.3.1.1: the bits of linear-address masking are not looked at where the processor has
    // it.
    FakeVmcs vmcs = given;
    vmcs.set(field::guest_cr3, vmcs.get(field::guest_cr3) & ~port.cr3_masking_bits);
    vmcs.set(field::host_cr3, vmcs.get(field::host_cr3) & ~port.cr3_masking_bits);
    if (auto verdict = nested::check_control_fields(vmcs, rules, context, memory); !verdict) return verdict;
    if (auto verdict = nested::check_host_state(vmcs, rules, context); !verdict) return verdict;
    // A shadow VMCS linked to vmcs01 is good: the link pointer's target is not looked at here.
    return nested::check_guest_state(vmcs, rules, context);
}

vmx::Capabilities processor() {
    vmx::Capabilities all;
    all.basic.value = FakePort::revision | 0x1000ULL << 32 | 6ULL << 50 |
                      vmx::BasicCapability::ins_outs_information | vmx::BasicCapability::true_controls;
    all.pin_based = {0x16, 0x7f};
    all.primary_processor_based = {0x0400'6172, 0xf7f9'fffe};
    all.secondary_processor_based = {0, 0x0217'7fff};
    all.vm_exit = {0x0003'6dfb, 0x007f'ffff};
    all.vm_entry = {0x11fb, 0xffff};
    all.misc.value = vmx::MiscCapability::store_efer_lma | vmx::MiscCapability::activity_hlt |
                     vmx::MiscCapability::activity_shutdown | vmx::MiscCapability::activity_wait_for_sipi |
                     4ULL << vmx::MiscCapability::cr3_target_count_shift |
                     vmx::MiscCapability::vmwrite_any_field | vmx::MiscCapability::zero_length_injection;
    all.cr0 = {0x8000'0021, 0xffff'ffff};
    all.cr4 = {0x2000, 0x0037'67ff};
    all.ept_vpid.value = 0x0000'0f01'0633'4141;
    return all;
}

}  // namespace flatback::nested_test
