// The engine by its C++ Port and by flatback.h, over the same arrays for memory and VMCSs, and an L1 that
// launches a guest. A source that includes this defines vmcs_access_current.
#pragma once

#include <flatback/c/flatback.h>

#include <cstdint>
#include <cstdlib>
#include <flatback/machine/cpu/processor_model.hpp>
#include <flatback/machine/cpu/registers.hpp>
#include <flatback/nested/vcpu.hpp>

#include "tests/c/vmcs_access.hpp"
#include "tests/package/outside/port.hpp"

namespace flatback::c_test {

namespace field = vmx::field;

inline constexpr std::uint64_t vmcs01 = 0x1000;
inline constexpr std::uint64_t operand = 0x3000, vmxon_region = 0x4000, vmcs12 = 0x5000;

inline std::uint64_t vmcss[64][0x7000];

// As cheap as VMREAD and VMWRITE are: one access to memory each.
class Port : public outside::Port {
public:
    std::uint64_t vmread(std::uint32_t encoding) { return vmcs_access_current[encoding]; }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) { vmcs_access_current[encoding] = value; }
    void load_vmcs(x86::Hpa page) { vmcs_access_current = vmcss[page.page_number()]; }
};
static_assert(nested::Port<Port>);

inline Port port;
inline const vmx::Capabilities hardware = vmx::Capabilities::from_msrs(
    [](std::uint32_t msr) { return machine::full_processor_model().vmx.read(msr).value_or(0); });

class ByTable {
public:
    explicit ByTable(bool kvm_revision = false) {
        flatback_operations table{};
        table.size = sizeof table;
        table.vmread = [](void*, std::uint32_t encoding) { return port.vmread(encoding); };
        table.vmwrite = [](void*, std::uint32_t encoding, std::uint64_t value) {
            port.vmwrite(encoding, value);
        };
        table.load_vmcs = [](void*, std::uint64_t page) { port.load_vmcs(x86::Hpa{page}); };
        table.clear_vmcs = [](void*, std::uint64_t page) { port.clear_vmcs(x86::Hpa{page}); };
        table.hardware_vmcs_revision = [](void*) { return port.hardware_vmcs_revision(); };
        table.write_host_state = [](void*) { port.write_host_state(); };
        table.invvpid = [](void*, std::uint32_t, std::uint16_t, std::uint64_t) {};
        table.invept = [](void*, std::uint32_t, std::uint64_t) {};
        table.l1_page = [](void*, std::uint64_t address) -> void* {
            return port.l1_page(x86::Gpa<x86::L1>{address});
        };
        table.host_mapping = [](void*, std::uint64_t address) {
            return flatback_mapping{address, 12, 6, true};
        };
        table.allocate_page = [](void*, std::uint64_t* page) {
            const auto fresh = port.allocate_page();
            if (fresh) *page = fresh->value();
            return fresh.has_value();
        };
        table.page = [](void*, std::uint64_t page) { return port.page(x86::Hpa{page}); };
        table.general_register = [](void*, unsigned number) { return &port.general_register(number); };
        table.read_l1_msr = [](void*, std::uint32_t, std::uint64_t* value) {
            *value = 5;
            return true;
        };
        table.write_l1_msr = [](void*, std::uint32_t, std::uint64_t) { return false; };
        table.l0_msr_bitmap = [](void*) { return std::uint64_t{0}; };
        table.ept01_pointer = [](void*) { return std::uint64_t{0x1e}; };
        table.set_cr2 = [](void*, std::uint64_t) {};
        table.handle_ept01_violation = [](void*, std::uint64_t) { return false; };
        table.return_nmi = [](void*) {};
        table.l1_shutdown = [](void*, const char*) { std::abort(); };
        table.fatal = [](void*, const char*) { std::abort(); };
        table.cpu = [](void*) { return 0U; };
        table.read_capability_msr = [](void*, std::uint32_t msr) {
            return hardware.read_msr(msr).value_or(0);
        };
        const flatback_configuration configuration{sizeof configuration, 36, FLATBACK_TAGS_MAPPED, true,
                                                   kvm_revision};
        if (flatback_pool_create(pool_storage_, sizeof pool_storage_, 65535, &pool_) != FLATBACK_OK ||
            flatback_vcpu_create(storage_, sizeof storage_, &table, nullptr, &configuration, pool_, vmcs01,
                                 &vcpu_) != FLATBACK_OK) {
            std::abort();
        }
    }
    ~ByTable() {
        flatback_leave_processor(vcpu_);
        flatback_vcpu_destroy(vcpu_);
        flatback_pool_destroy(pool_);
    }
    ByTable(const ByTable&) = delete;
    ByTable& operator=(const ByTable&) = delete;
    void start() { flatback_prepare_first_entry(vcpu_); }
    void vmx_instruction(vmx::ExitReason reason) {
        (void)flatback_handle_vmx_instruction(vcpu_, static_cast<std::uint32_t>(reason));
    }
    void l2_exit(std::uint32_t reason) { (void)flatback_handle_l2_exit(vcpu_, reason); }
    bool in_l2() { return flatback_in_l2(vcpu_); }
    flatback_vcpu* vcpu() { return vcpu_; }

private:
    alignas(FLATBACK_ALIGNMENT) std::byte pool_storage_[FLATBACK_POOL_SIZE];
    alignas(FLATBACK_ALIGNMENT) std::byte storage_[FLATBACK_VCPU_SIZE];
    flatback_pool* pool_ = nullptr;
    flatback_vcpu* vcpu_ = nullptr;
};

inline std::uint64_t* l1_words(std::uint64_t address) {
    return reinterpret_cast<std::uint64_t*>(port.l1_page(x86::Gpa<x86::L1>{address}));
}
inline void put(auto what, std::uint64_t value) {
    port.vmwrite(what.encoding, value);
}

inline void set_up_vmcs01() {
    const machine::Registers start = machine::kernel_registers(0x1000);
    l1_words(0x1000)[0] = 0x2023;
    l1_words(0x2000)[0] = 0xe3;  // the first gigabyte
    put(field::guest_cr0, start.cr0);
    put(field::guest_cr3, start.cr3);
    put(field::guest_cr4, start.cr4 | x86::cr4::vmx_enable);
    put(field::cr4_read_shadow, x86::cr4::vmx_enable);
    put(field::cr4_guest_host_mask, x86::cr4::vmx_enable);
    put(field::guest_ia32_efer, start.efer);
    put(field::guest_cs_access_rights, 0xa09b);
    put(field::guest_ds_access_rights, 0xc093);
    put(field::guest_ss_access_rights, 0xc093);
    put(field::guest_rflags, 2);
    put(field::vm_exit_instruction_length, 3);
    put(field::vmcs_link_pointer, ~std::uint64_t{0});
}

template <typename Engine>
void with_operand(Engine& engine, vmx::ExitReason reason, std::uint64_t value) {
    l1_words(operand)[0] = value;
    put(field::vm_exit_instruction_information, vmx::InstructionOperands{}.encode().value);
    put(field::exit_qualification, operand);
    engine.vmx_instruction(reason);
}

// As the processor does it: to the shadow VMCS where the bitmap has 0, else an exit.
template <typename Engine>
void l1_vmwrite(Engine& engine, std::uint32_t encoding, std::uint64_t value) {
    const std::uint64_t shadow = port.vmread(field::vmcs_link_pointer.encoding);
    const std::uint64_t* bitmap = port.page(x86::Hpa{port.vmread(field::vmwrite_bitmap_address.encoding)});
    if (shadow != ~std::uint64_t{0} && (bitmap[encoding / 64] >> encoding % 64 & 1) == 0) {
        vmcss[shadow / 4096][encoding] = value;
        return;
    }
    vmx::InstructionOperands operands;
    operands.register1 = 0;
    operands.register2 = 1;
    port.general_register(0) = value;
    port.general_register(1) = encoding;
    put(field::vm_exit_instruction_information, operands.encode().value);
    engine.vmx_instruction(vmx::ExitReason::vmwrite);
}

template <typename Engine>
void prepare(Engine& engine, std::uint32_t revision = nested::vmcs12_revision) {
    const vmx::Capabilities promised = nested::make_capabilities(hardware, 36, true).promised;
    l1_words(vmxon_region)[0] = revision;
    l1_words(vmcs12)[0] = revision;
    set_up_vmcs01();
    engine.start();
    with_operand(engine, vmx::ExitReason::vmxon, vmxon_region);
    with_operand(engine, vmx::ExitReason::vmclear, vmcs12);
    with_operand(engine, vmx::ExitReason::vmptrld, vmcs12);

    const auto write = [&](auto what, std::uint64_t value) { l1_vmwrite(engine, what.encoding, value); };
    namespace exit = vmx::exit_control;
    const machine::Registers start = machine::kernel_registers(0x1000);
    write(field::pin_based_vm_execution_controls, promised.pin_based.adjust(0));
    write(field::primary_processor_based_vm_execution_controls,
          promised.primary_processor_based.adjust(vmx::primary::activate_secondary_controls));
    write(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vpid);
    write(field::vm_exit_controls, promised.vm_exit.adjust(exit::host_address_space_size));
    write(field::vm_entry_controls, promised.vm_entry.adjust(vmx::entry_control::ia32e_mode_guest));
    write(field::virtual_processor_identifier, 1);
    write(field::vmcs_link_pointer, ~std::uint64_t{0});
    write(field::guest_cr0, start.cr0);
    write(field::guest_cr3, start.cr3);
    write(field::guest_cr4, start.cr4 | x86::cr4::vmx_enable);
    write(field::guest_dr7, start.dr7);
    write(field::guest_rip, 0x1000);
    write(field::guest_rflags, start.rflags);
    for (std::uint32_t index = 0; index < start.segments.size(); ++index) {
        l1_vmwrite(engine, field::guest_es_selector.encoding + 2 * index, start.segments[index].selector);
        l1_vmwrite(engine, field::guest_es_limit.encoding + 2 * index, start.segments[index].limit);
        l1_vmwrite(engine, field::guest_es_access_rights.encoding + 2 * index,
                   start.segments[index].access_rights);
    }
    write(field::host_cr0, start.cr0);
    write(field::host_cr3, start.cr3);
    write(field::host_cr4, start.cr4 | x86::cr4::vmx_enable);
    write(field::host_cs_selector, 0x08);
    write(field::host_tr_selector, 0x18);
    write(field::host_rip, 0x2000);
    engine.vmx_instruction(vmx::ExitReason::vmlaunch);
}

}  // namespace flatback::c_test
