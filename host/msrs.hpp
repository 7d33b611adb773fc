// L1's MSRs: those of the processor, but for what L0 keeps from L1 or answers in the processor's place.
// NestedVcpu asks for them (Port::read_l1_msr and write_l1_msr); those that live in a VMCS it knows itself.
//
// Touches no hardware by itself: see MsrHost.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include "../vmx/capability.hpp"
#include "../x86/control_registers.hpp"
#include "../x86/msr.hpp"
#include "cpuid.hpp"
#include "msr_bitmap.hpp"

namespace flatback::host {

// A host may also have
//   auto& local_apic()         with base(), write_base(), read(), write(): host/local_apic.hpp, or its own.
//                              Without one L1 finds no x2APIC register, and IA32_APIC_BASE is the host's.
//   auto& memory_types()       host/memory_type_registers.hpp. Without them the MTRRs are the host's.
template <typename H>
concept MsrHost = requires(H& host, std::uint32_t msr, std::uint64_t value) {
    // What L1's capability MSRs say; null before the promise is made.
    { host.promise() } -> std::same_as<const vmx::Capabilities*>;
    { host.msr_bitmap() } -> std::same_as<MsrBitmap>;
    // L1's register that nothing here answers: the processor's, where L1 has it as it is. Absent, false:
    // #GP(0).
    { host.read_processor_msr(msr) } -> std::same_as<std::optional<std::uint64_t>>;
    { host.write_processor_msr(msr, value) } -> std::same_as<bool>;
    // Whether the processor would take this value of IA32_DEBUGCTL, which lives in the VMCS.
    { host.takes_debugctl(value) } -> std::same_as<bool>;
};

namespace detail {

// IA32_MISC_ENABLE (SDM vol. 4, 1A0H).
inline constexpr std::uint64_t branch_trace_storage_unavailable = 1ULL << 11;
inline constexpr std::uint64_t pebs_unavailable = 1ULL << 12;
inline constexpr std::uint64_t execute_disable_off = 1ULL << 34;

template <typename H>
inline constexpr bool has_local_apic = requires(H& host) {
    host.local_apic();
};
template <typename H>
inline constexpr bool has_memory_types = requires(H& host) {
    host.memory_types();
};

template <MsrHost H>
[[nodiscard, gnu::noinline]] std::optional<std::uint64_t> read_kept_msr(H& host, std::uint32_t msr) {
    namespace number = x86::msr;
    if (is_hidden_msr(msr)) return std::nullopt;
    if (is_x2apic_register(msr)) {
        if constexpr (has_local_apic<H>) return host.local_apic().read(msr);
        return std::nullopt;
    }
    if constexpr (has_memory_types<H>) {
        if (host.memory_types().contains(msr)) {
            if (const auto written = host.memory_types().read(msr)) return written;
            return host.read_processor_msr(msr);
        }
    }
    switch (msr) {
        case number::ia32_misc_enable: {
            const auto real = host.read_processor_msr(msr);
            if (!real) return real;
            return *real | branch_trace_storage_unavailable | pebs_unavailable;
        }
        case number::ia32_feature_control:
            return x86::feature_control::locked | x86::feature_control::vmx_outside_smx;
        case number::ia32_apic_base:
            if constexpr (has_local_apic<H>) return host.local_apic().base();
            return host.read_processor_msr(msr);
        case number::ia32_smm_monitor_ctl:
            return 0;
        default:
            return host.read_processor_msr(msr);
    }
}

}  // namespace detail

// RDMSR of L1's. Absent: #GP(0).
template <MsrHost H>
[[nodiscard, gnu::noinline]] std::optional<std::uint64_t> read_msr(H& host, std::uint32_t msr) {
    if (is_vmx_capability(msr)) {
        const vmx::Capabilities* promised = host.promise();
        if (promised == nullptr) return std::nullopt;
        return promised->read_msr(msr);
    }
    if (host.msr_bitmap().intercepts(msr, MsrBitmap::Access::read)) return detail::read_kept_msr(host, msr);
    // Of what does not exit nothing is to be looked up.
    return host.read_processor_msr(msr);
}

// WRMSR of L1's. False: #GP(0).
template <MsrHost H>
[[nodiscard]] bool write_msr(H& host, std::uint32_t msr, std::uint64_t value) {
    namespace number = x86::msr;
    // IA32_DEBUGCTL exits for nobody, but only the engine writes it here.
    if (msr != number::ia32_debugctl && !host.msr_bitmap().intercepts(msr, MsrBitmap::Access::write))
        return host.write_processor_msr(msr, value);
    if (is_vmx_capability(msr) || is_hidden_msr(msr)) return false;
    if constexpr (detail::has_memory_types<H>) {
        if (host.memory_types().contains(msr)) return host.memory_types().write(msr, value);
    }
    if (is_x2apic_register(msr)) {
        if constexpr (detail::has_local_apic<H>) return host.local_apic().write(msr, value);
        return false;
    }
    switch (msr) {
        case number::ia32_misc_enable:
            // L0's own pages are not executable by "execute disable", so that it stays on, and reads as that;
            // the two flags are read-only.
            return host.write_processor_msr(
                msr, value & ~(detail::branch_trace_storage_unavailable | detail::pebs_unavailable |
                               detail::execute_disable_off));
        case number::ia32_debugctl:
            return (value & x86::debugctl::always_reserved) == 0 && host.takes_debugctl(value);
        case number::ia32_xss:
            // XRSTORS would load the MSRs of hidden features, of processor trace among them.
            return (value & hidden::state_components) == 0 && host.write_processor_msr(msr, value);
        case number::ia32_feature_control:  // locked
        case number::ia32_smm_monitor_ctl:
            return false;
        case number::ia32_bios_updt_trig:  // taken, and without effect
            return true;
        case number::ia32_apic_base:
            if constexpr (detail::has_local_apic<H>) return host.local_apic().write_base(value);
            return host.write_processor_msr(msr, value);
        default:
            return host.write_processor_msr(msr, value);
    }
}

}  // namespace flatback::host
