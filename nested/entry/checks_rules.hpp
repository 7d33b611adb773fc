// What the checks of VM entry are made against: the promised capabilities, the processor's widths, and where
// it stands.
#pragma once

#include <concepts>
#include <cstdint>

#include "../../vmx/capability.hpp"
#include "../../vmx/field.hpp"
#include "../../vmx/interruption.hpp"
#include "../../x86/address.hpp"
#include "../../x86/control_registers.hpp"
#include "checks_table.hpp"

namespace flatback::nested {

// A VMCS to be checked: get() gives a field's value in the field's own type.
template <typename View>
concept VmcsView = requires(const View& view) {
    { view.get(vmx::field::virtual_processor_identifier) } -> std::convertible_to<std::uint16_t>;
    { view.get(vmx::field::ept_pointer) } -> std::convertible_to<std::uint64_t>;
    { view.get(vmx::field::vm_entry_controls) } -> std::convertible_to<std::uint32_t>;
    { view.get(vmx::field::guest_rip) } -> std::convertible_to<std::uint64_t>;
};

struct EntryRules {
    const vmx::Capabilities& promised;
    unsigned physical_address_width;     // bits, at most 52
    unsigned linear_address_width = 48;  // bits

    // The bits that each register defines; the others are reserved.
    std::uint64_t debugctl_bits = x86::debugctl::defined_bits;
    std::uint64_t efer_bits = x86::efer::defined_bits;
    std::uint64_t perf_global_ctrl_bits = 0x0000'0007'0000'000f;  // three fixed and four general counters
    bool has_rtm = false;
    bool has_sgx = false;

    [[nodiscard]] constexpr bool is_canonical(std::uint64_t linear_address) const {
        return x86::is_canonical(linear_address, linear_address_width);
    }
    // Within the physical-address width, and a multiple of alignment (a power of two).
    [[nodiscard]] constexpr bool is_structure_address(std::uint64_t physical,
                                                      std::uint64_t alignment = 0x1000) const {
        return (physical & (alignment - 1)) == 0 &&
               x86::fits_physical_width(physical, physical_address_width);
    }
};

// Where the processor that executes VMLAUNCH or VMRESUME stands.
struct EntryContext {
    bool ia32e_mode = true;  // IA32_EFER.LMA
    bool in_smm = false;
    std::uint64_t current_vmcs = ~std::uint64_t{0};  // physical address
};

// Memory in the address space of the VMCS's physical addresses. The rules that read memory are passed over
// with a Memory that has no read(), such as this one.
struct NoMemory {};

template <typename Memory>
concept ReadableMemory = requires(const Memory& memory, std::uint64_t physical) {
    { memory.template read<std::uint8_t>(physical) } -> std::same_as<std::uint8_t>;
    { memory.template read<std::uint32_t>(physical) } -> std::same_as<std::uint32_t>;
    { memory.template read<std::uint64_t>(physical) } -> std::same_as<std::uint64_t>;
};

namespace detail {

constexpr EntryVerdict broken(EntryCheck check) {
    return Unexpected{check};
}

// As the processor sees them: all zero where "activate secondary controls" is 0.
template <VmcsView View>
[[nodiscard]] constexpr std::uint32_t effective_secondary_controls(const View& view) {
    return (view.get(vmx::field::primary_processor_based_vm_execution_controls) &
            vmx::primary::activate_secondary_controls) != 0
               ? view.get(vmx::field::secondary_processor_based_vm_execution_controls)
               : 0;
}

template <VmcsView View>
[[nodiscard]] constexpr vmx::InterruptionInformation injected_event(const View& view) {
    return {view.get(vmx::field::vm_entry_interruption_information)};
}

}  // namespace detail
}  // namespace flatback::nested
