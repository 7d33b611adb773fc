// The VMX capability MSRs (SDM 3D appendix A): the rule of allowed settings, once, and each MSR's named bits.
#pragma once

#include <cstdint>
#include <optional>

#include "../x86/msr.hpp"
#include "controls.hpp"

namespace flatback::vmx {

// What a control field may hold (SDM 3D A.3.1). A bit set in allowed0 must be 1: its 0-setting is not
// allowed. A bit clear in allowed1 must be 0: its 1-setting is not allowed.
struct ControlCapability {
    std::uint32_t allowed0 = 0;
    std::uint32_t allowed1 = 0;

    [[nodiscard]] constexpr bool permits(std::uint32_t value) const {
        return ((value & ~allowed1) | (~value & allowed0)) == 0;
    }
    // The value with what must be 1 set, then what must be 0 cleared.
    [[nodiscard]] constexpr std::uint32_t adjust(std::uint32_t value) const {
        return (value | allowed0) & allowed1;
    }
    [[nodiscard]] constexpr bool may_set(std::uint32_t bits) const { return (bits & ~allowed1) == 0; }
    [[nodiscard]] constexpr bool may_clear(std::uint32_t bits) const { return (bits & allowed0) == 0; }

    [[nodiscard]] static constexpr ControlCapability from_msr(std::uint64_t value) {
        return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
    }
    [[nodiscard]] constexpr std::uint64_t to_msr() const {
        return static_cast<std::uint64_t>(allowed1) << 32 | allowed0;
    }
    // What the original MSR says where this is the TRUE one: every default1 bit must be 1 (SDM 3D A.2).
    [[nodiscard]] constexpr ControlCapability with_default1(std::uint32_t default1) const {
        return {allowed0 | default1, allowed1 | default1};
    }

    friend constexpr bool operator==(const ControlCapability&, const ControlCapability&) = default;
};

// What CR0 or CR4 may hold in VMX operation (SDM 3D A.7, A.8): bits set in fixed0 must be 1, bits clear in
// fixed1 must be 0.
struct FixedBits {
    std::uint64_t fixed0 = 0;
    std::uint64_t fixed1 = 0;

    // exempt: bits that are not held to the rule, such as CR0.PE and CR0.PG with "unrestricted guest".
    [[nodiscard]] constexpr bool permits(std::uint64_t value, std::uint64_t exempt = 0) const {
        return (((value & ~fixed1) | (~value & fixed0)) & ~exempt) == 0;
    }
    [[nodiscard]] constexpr std::uint64_t adjust(std::uint64_t value) const {
        return (value | fixed0) & fixed1;
    }

    friend constexpr bool operator==(const FixedBits&, const FixedBits&) = default;
};

// IA32_VMX_BASIC (SDM 3D A.1).
struct BasicCapability {
    std::uint64_t value = 0;

    // clang-format off
    static constexpr std::uint64_t revision_mask                = 0x7fff'ffff;
    static constexpr unsigned      region_size_shift            = 32;           // 13 bits, 1 to 4096 bytes
    static constexpr std::uint64_t addresses_below_4g           = 1ULL << 48;
    static constexpr std::uint64_t dual_monitor                 = 1ULL << 49;
    static constexpr unsigned      memory_type_shift            = 50;           // 4 bits
    static constexpr std::uint64_t ins_outs_information         = 1ULL << 54;
    static constexpr std::uint64_t true_controls                = 1ULL << 55;
    static constexpr std::uint64_t any_error_code               = 1ULL << 56;
    // clang-format on

    [[nodiscard]] constexpr std::uint32_t revision() const {
        return static_cast<std::uint32_t>(value & revision_mask);
    }
    // Bytes of a VMXON region or VMCS region.
    [[nodiscard]] constexpr std::uint32_t region_size() const {
        return static_cast<std::uint32_t>(value >> region_size_shift) & 0x1fff;
    }
    [[nodiscard]] constexpr bool limits_addresses_to_32_bits() const {
        return (value & addresses_below_4g) != 0;
    }
    [[nodiscard]] constexpr bool has_dual_monitor() const { return (value & dual_monitor) != 0; }
    [[nodiscard]] constexpr x86::MemoryType memory_type() const {
        return static_cast<x86::MemoryType>(value >> memory_type_shift & 0xf);
    }
    [[nodiscard]] constexpr bool reports_ins_outs_information() const {
        return (value & ins_outs_information) != 0;
    }
    [[nodiscard]] constexpr bool has_true_controls() const { return (value & true_controls) != 0; }
    // A hardware exception may be injected with or without error code, whatever its vector.
    [[nodiscard]] constexpr bool injects_any_error_code() const { return (value & any_error_code) != 0; }

    friend constexpr bool operator==(BasicCapability, BasicCapability) = default;
};

// IA32_VMX_MISC (SDM 3D A.6).
struct MiscCapability {
    std::uint64_t value = 0;

    // clang-format off
    static constexpr std::uint64_t preemption_timer_rate_mask   = 0x1f;
    static constexpr std::uint64_t store_efer_lma               = 1ULL << 5;
    static constexpr std::uint64_t activity_hlt                 = 1ULL << 6;
    static constexpr std::uint64_t activity_shutdown            = 1ULL << 7;
    static constexpr std::uint64_t activity_wait_for_sipi       = 1ULL << 8;
    static constexpr std::uint64_t processor_trace_in_vmx       = 1ULL << 14;
    static constexpr std::uint64_t rdmsr_smbase_in_smm          = 1ULL << 15;
    static constexpr unsigned      cr3_target_count_shift       = 16;          // 9 bits
    static constexpr unsigned      msr_list_shift               = 25;          // 3 bits
    static constexpr std::uint64_t smm_monitor_unblocks_smi     = 1ULL << 28;
    static constexpr std::uint64_t vmwrite_any_field            = 1ULL << 29;
    static constexpr std::uint64_t zero_length_injection        = 1ULL << 30;
    // clang-format on

    // The preemption timer counts down by 1 each time this bit of the TSC changes.
    [[nodiscard]] constexpr unsigned preemption_timer_rate() const {
        return static_cast<unsigned>(value & preemption_timer_rate_mask);
    }
    // VM exits store IA32_EFER.LMA into "IA-32e mode guest".
    [[nodiscard]] constexpr bool stores_efer_lma() const { return (value & store_efer_lma) != 0; }
    [[nodiscard]] constexpr bool has_activity_hlt() const { return (value & activity_hlt) != 0; }
    [[nodiscard]] constexpr bool has_activity_shutdown() const { return (value & activity_shutdown) != 0; }
    [[nodiscard]] constexpr bool has_activity_wait_for_sipi() const {
        return (value & activity_wait_for_sipi) != 0;
    }
    [[nodiscard]] constexpr std::uint32_t cr3_target_count() const {
        return static_cast<std::uint32_t>(value >> cr3_target_count_shift) & 0x1ff;
    }
    // The recommended largest number of entries of an MSR load or store list; more is undefined.
    [[nodiscard]] constexpr std::uint32_t msr_list_entries() const {
        return 512 * ((static_cast<std::uint32_t>(value >> msr_list_shift) & 7) + 1);
    }
    [[nodiscard]] constexpr bool may_write_exit_information() const {
        return (value & vmwrite_any_field) != 0;
    }
    // Software interrupts and exceptions may be injected with instruction length 0.
    [[nodiscard]] constexpr bool injects_zero_length() const { return (value & zero_length_injection) != 0; }
    [[nodiscard]] constexpr std::uint32_t mseg_revision() const {
        return static_cast<std::uint32_t>(value >> 32);
    }

    friend constexpr bool operator==(MiscCapability, MiscCapability) = default;
};

// IA32_VMX_EPT_VPID_CAP (SDM 3D A.10).
struct EptVpidCapability {
    std::uint64_t value = 0;

    // clang-format off
    static constexpr std::uint64_t execute_only                         = 1ULL << 0;
    static constexpr std::uint64_t walk_length_4                        = 1ULL << 6;
    static constexpr std::uint64_t walk_length_5                        = 1ULL << 7;
    static constexpr std::uint64_t uncacheable                          = 1ULL << 8;
    static constexpr std::uint64_t write_back                           = 1ULL << 14;
    static constexpr std::uint64_t page_2m                              = 1ULL << 16;
    static constexpr std::uint64_t page_1g                              = 1ULL << 17;
    static constexpr std::uint64_t invept                               = 1ULL << 20;
    static constexpr std::uint64_t accessed_dirty                       = 1ULL << 21;
    static constexpr std::uint64_t advanced_exit_information            = 1ULL << 22;
    static constexpr std::uint64_t supervisor_shadow_stack              = 1ULL << 23;
    static constexpr std::uint64_t invept_single_context                = 1ULL << 25;
    static constexpr std::uint64_t invept_all_contexts                  = 1ULL << 26;
    static constexpr std::uint64_t invvpid                              = 1ULL << 32;
    static constexpr std::uint64_t invvpid_individual_address           = 1ULL << 40;
    static constexpr std::uint64_t invvpid_single_context               = 1ULL << 41;
    static constexpr std::uint64_t invvpid_all_contexts                 = 1ULL << 42;
    static constexpr std::uint64_t invvpid_single_context_retaining_globals = 1ULL << 43;
    // clang-format on

    [[nodiscard]] constexpr bool has(std::uint64_t bits) const { return (value & bits) == bits; }

    // type: the whole 64-bit register operand, as L1 wrote it.
    [[nodiscard]] constexpr bool has_invept_type(std::uint64_t type) const {
        return has(invept) && (type == 1 || type == 2) && has(invept_single_context << (type - 1));
    }
    [[nodiscard]] constexpr bool has_invvpid_type(std::uint64_t type) const {
        return has(invvpid) && type <= 3 && has(invvpid_individual_address << type);
    }

    friend constexpr bool operator==(EptVpidCapability, EptVpidCapability) = default;
};

// All capability MSRs of one processor, or of what one is promised. The controls are those of the TRUE MSRs.
struct Capabilities {
    BasicCapability basic;
    ControlCapability pin_based;
    ControlCapability primary_processor_based;
    ControlCapability secondary_processor_based;
    ControlCapability vm_exit;
    ControlCapability vm_entry;
    MiscCapability misc;
    FixedBits cr0;
    FixedBits cr4;
    std::uint64_t vmcs_enum = 0;
    EptVpidCapability ept_vpid;
    std::uint64_t vm_functions = 0;  // allowed 1-settings of the VM-function controls

    friend constexpr bool operator==(const Capabilities&, const Capabilities&) = default;

    [[nodiscard]] constexpr bool has_secondary_controls() const {
        return primary_processor_based.may_set(primary::activate_secondary_controls);
    }

    // The value of a capability MSR; nothing where reading it is #GP because what it reports is absent.
    [[nodiscard]] constexpr std::optional<std::uint64_t> read_msr(std::uint32_t index) const {
        const bool has_ept_or_vpid =
            has_secondary_controls() && (secondary_processor_based.may_set(secondary::enable_ept) ||
                                         secondary_processor_based.may_set(secondary::enable_vpid));
        const bool has_vm_functions =
            has_secondary_controls() && secondary_processor_based.may_set(secondary::enable_vm_functions);
        // clang-format off
        switch (index) {
            case x86::msr::ia32_vmx_basic:          return basic.value;
            case x86::msr::ia32_vmx_pinbased_ctls:  return pin_based.with_default1(pin::default1).to_msr();
            case x86::msr::ia32_vmx_procbased_ctls: return primary_processor_based.with_default1(primary::default1).to_msr();
            case x86::msr::ia32_vmx_exit_ctls:      return vm_exit.with_default1(exit_control::default1).to_msr();
            case x86::msr::ia32_vmx_entry_ctls:     return vm_entry.with_default1(entry_control::default1).to_msr();
            case x86::msr::ia32_vmx_misc:           return misc.value;
            case x86::msr::ia32_vmx_cr0_fixed0:     return cr0.fixed0;
            case x86::msr::ia32_vmx_cr0_fixed1:     return cr0.fixed1;
            case x86::msr::ia32_vmx_cr4_fixed0:     return cr4.fixed0;
            case x86::msr::ia32_vmx_cr4_fixed1:     return cr4.fixed1;
            case x86::msr::ia32_vmx_vmcs_enum:      return vmcs_enum;
            default: break;
        }
        if (index == x86::msr::ia32_vmx_procbased_ctls2 && has_secondary_controls()) return secondary_processor_based.to_msr();
        if (index == x86::msr::ia32_vmx_ept_vpid_cap && has_ept_or_vpid) return ept_vpid.value;
        if (index == x86::msr::ia32_vmx_vmfunc && has_vm_functions) return vm_functions;
        if (!basic.has_true_controls()) return std::nullopt;
        switch (index) {
            case x86::msr::ia32_vmx_true_pinbased_ctls:  return pin_based.to_msr();
            case x86::msr::ia32_vmx_true_procbased_ctls: return primary_processor_based.to_msr();
            case x86::msr::ia32_vmx_true_exit_ctls:      return vm_exit.to_msr();
            case x86::msr::ia32_vmx_true_entry_ctls:     return vm_entry.to_msr();
            default: return std::nullopt;
        }
        // clang-format on
    }

    // Asks `read`, a callable from an MSR's number to its value, only for MSRs that exist.
    template <typename Read>
    [[nodiscard]] static constexpr Capabilities from_msrs(Read&& read) {
        namespace msr = x86::msr;
        Capabilities all;
        all.basic.value = read(msr::ia32_vmx_basic);
        const bool use_true = all.basic.has_true_controls();
        const auto controls = [&](std::uint32_t original, std::uint32_t true_one) {
            return ControlCapability::from_msr(read(use_true ? true_one : original));
        };
        all.pin_based = controls(msr::ia32_vmx_pinbased_ctls, msr::ia32_vmx_true_pinbased_ctls);
        all.primary_processor_based =
            controls(msr::ia32_vmx_procbased_ctls, msr::ia32_vmx_true_procbased_ctls);
        all.vm_exit = controls(msr::ia32_vmx_exit_ctls, msr::ia32_vmx_true_exit_ctls);
        all.vm_entry = controls(msr::ia32_vmx_entry_ctls, msr::ia32_vmx_true_entry_ctls);
        all.misc.value = read(msr::ia32_vmx_misc);
        all.cr0 = {read(msr::ia32_vmx_cr0_fixed0), read(msr::ia32_vmx_cr0_fixed1)};
        all.cr4 = {read(msr::ia32_vmx_cr4_fixed0), read(msr::ia32_vmx_cr4_fixed1)};
        all.vmcs_enum = read(msr::ia32_vmx_vmcs_enum);
        if (all.has_secondary_controls()) {
            all.secondary_processor_based = ControlCapability::from_msr(read(msr::ia32_vmx_procbased_ctls2));
        }
        if (all.secondary_processor_based.may_set(secondary::enable_ept) ||
            all.secondary_processor_based.may_set(secondary::enable_vpid)) {
            all.ept_vpid.value = read(msr::ia32_vmx_ept_vpid_cap);
        }
        if (all.secondary_processor_based.may_set(secondary::enable_vm_functions)) {
            all.vm_functions = read(msr::ia32_vmx_vmfunc);
        }
        return all;
    }
};

}  // namespace flatback::vmx
