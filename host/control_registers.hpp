// The instructions that load CR0, CR3 and CR4, where the processor leaves them to L0: what SDM 2B "MOV-Move
// to/from Control Registers", 2A "CLTS" and "LMSW", and 3A 2.5, 4.4.1, 4.10.4.1 and 9.8.5 say of them, whole.
// Privilege and LOCK the processor has judged before the exit (SDM 3C 26.1.1).
//
// Touches no hardware by itself: see ControlRegisterHost. vmcs01 is current.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "../nested/capabilities.hpp"
#include "../vmx/controls.hpp"
#include "../vmx/field.hpp"
#include "../x86/address.hpp"
#include "../x86/control_registers.hpp"
#include "../x86/paging.hpp"
#include "../x86/segment.hpp"
#include "outcome.hpp"
#include "pae_pointers.hpp"

namespace flatback::host {

// What VMX operation holds at 1 whatever L1 believes: in vmcs01 always set, and in its guest/host masks.
inline constexpr std::uint64_t held_cr0 = x86::cr0::numeric_error;
inline constexpr std::uint64_t held_cr4 = x86::cr4::vmx_enable;

// What these instructions need: L1's VMCS, its memory, and the one part of CR0 that no VM entry loads.
template <typename H>
concept ControlRegisterHost = PaePointerHost<H> && requires(H& host, std::uint64_t value) {
    { host.get(vmx::field::guest_cr0) } -> std::same_as<std::uint64_t>;
    {host.put(vmx::field::guest_cr0, value)};
    {host.put(vmx::field::vm_entry_controls, std::uint32_t{})};
    { host.capabilities() } -> std::same_as<const nested::Capabilities&>;
    { host.in_vmx_operation() } -> std::same_as<bool>;
    // CR0.CD and CR0.NW of the processor itself: VM entries and exits leave them alone (SDM 3C 27.3.2.1,
    // 28.5.1).
    {host.set_cache_control(value)};
    // What the processor has cached of L1's translations is to be dropped.
    {host.translations_changed()};
    // IA32_EFER of vmcs01 has changed.
    {host.efer_changed()};
};

namespace detail {

// The register as L1 reads it.
template <ControlRegisterHost H>
[[nodiscard]] std::uint64_t l1_cr0(H& host) {
    const std::uint64_t mask = host.get(vmx::field::cr0_guest_host_mask);
    return (host.get(vmx::field::guest_cr0) & ~mask) | (host.get(vmx::field::cr0_read_shadow) & mask);
}

// No fault can come of what only changes the lowest four bits and does not clear PE.
template <ControlRegisterHost H>
void put_machine_status(H& host, std::uint64_t cr0) {
    host.put(vmx::field::guest_cr0, cr0 | held_cr0);
    host.put(vmx::field::cr0_read_shadow, cr0);
}

}  // namespace detail

// MOV to CR0. value: the operand, in 64 bits.
template <ControlRegisterHost H>
[[nodiscard]] Outcome write_cr0(H& host, std::uint64_t value) {
    using namespace x86::cr0;
    namespace field = vmx::field;
    constexpr auto fault = Outcome::general_protection;
    const nested::Capabilities& capabilities = host.capabilities();
    if ((value >> 32) != 0) return fault;
    if (host.in_vmx_operation() && !capabilities.promised.cr0.permits(value | extension_type)) return fault;
    value = (value & defined_bits) | extension_type;  // the reserved ones of the low half are ignored
    const auto has = [&](std::uint64_t bit) { return (value & bit) != 0; };
    if ((has(paging) && !has(protection_enable)) || (has(not_write_through) && !has(cache_disable)))
        return fault;

    const std::uint64_t changed = value ^ host.get(field::guest_cr0);
    const std::uint64_t efer = host.get(field::guest_ia32_efer);
    const std::uint64_t cr4 = host.get(field::guest_cr4);
    if (!has(write_protect) && (cr4 & x86::cr4::control_flow_enforcement) != 0) return fault;
    const bool pae = (cr4 & x86::cr4::physical_address_extension) != 0;
    const x86::AccessRights code{host.get(field::guest_cs_access_rights)};
    bool long_mode = (efer & x86::efer::long_mode_active) != 0;
    if ((changed & paging) != 0) {
        if (x86::is_64_bit_mode(efer, code)) return fault;
        long_mode = has(paging) && (efer & x86::efer::long_mode_enable) != 0;
        if (long_mode && code.is_long_mode()) return fault;  // SDM 3A 9.8.5.4
        if (!has(paging) && (cr4 & x86::cr4::pcid_enable) != 0) return fault;
        // SDM 3A 9.8.5.4: TR must not hold a 16-bit TSS. (VM entry takes only the busy 32-bit type, which in
        // IA-32e mode is the 64-bit one.)
        const x86::AccessRights task{host.get(field::guest_tr_access_rights)};
        if (long_mode && (!pae || task.type() != x86::segment_type::busy_tss)) return fault;
    }
    constexpr std::uint64_t loads_pointers = cache_disable | not_write_through | paging;
    if (has(paging) && pae && !long_mode && (changed & loads_pointers) != 0 &&
        !load_pae_pointers(host, host.get(field::guest_cr3), capabilities.physical_address_width)) {
        return fault;
    }

    if ((changed & paging) != 0) {
        if (long_mode != ((efer & x86::efer::long_mode_active) != 0)) {
            const std::uint32_t entry = host.get(field::vm_entry_controls);
            host.put(field::guest_ia32_efer, efer ^ x86::efer::long_mode_active);
            host.put(field::vm_entry_controls, entry ^ vmx::entry_control::ia32e_mode_guest);
            host.efer_changed();
        }
        if (!has(paging)) host.translations_changed();
    }
    constexpr std::uint64_t cache_control = cache_disable | not_write_through;
    if ((changed & cache_control) != 0) host.set_cache_control(value & cache_control);
    host.put(field::guest_cr0, value | held_cr0);
    host.put(field::cr0_read_shadow, value);
    return Outcome::done;
}

// CLTS. It faults for nothing but what the processor has judged.
template <ControlRegisterHost H>
void clear_task_switched(H& host) {
    detail::put_machine_status(host, detail::l1_cr0(host) & ~x86::cr0::task_switched);
}

// LMSW: bits 3:0 of CR0, of which it sets PE but does not clear it.
template <ControlRegisterHost H>
void load_machine_status(H& host, std::uint16_t source) {
    using namespace x86::cr0;
    constexpr std::uint64_t loaded = protection_enable | monitor_coprocessor | emulation | task_switched;
    const std::uint64_t before = detail::l1_cr0(host);
    detail::put_machine_status(host, (before & ~loaded) | (source & loaded) | (before & protection_enable));
}

// MOV to CR3, where the host has it exit. value: the operand, in 64 bits.
template <ControlRegisterHost H>
[[nodiscard]] Outcome write_cr3(H& host, std::uint64_t value) {
    namespace field = vmx::field;
    const std::uint64_t cr4 = host.get(field::guest_cr4);
    const unsigned width = host.capabilities().physical_address_width;
    const bool keeps_translations = (cr4 & x86::cr4::pcid_enable) != 0 && (value & x86::cr3::no_flush) != 0;
    if (keeps_translations) value &= ~x86::cr3::no_flush;
    if (!x86::fits_physical_width(value, width)) return Outcome::general_protection;
    const bool pages = (host.get(field::guest_cr0) & x86::cr0::paging) != 0;
    const bool long_mode = (host.get(field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    if (pages && !long_mode && (cr4 & x86::cr4::physical_address_extension) != 0 &&
        !load_pae_pointers(host, value, width)) {
        return Outcome::general_protection;
    }
    host.put(field::guest_cr3, value);
    if (!keeps_translations) host.translations_changed();
    return Outcome::done;
}

// MOV to CR4, in which L1 may set no bit that it was not promised.
template <ControlRegisterHost H>
[[nodiscard]] Outcome write_cr4(H& host, std::uint64_t value) {
    using namespace x86::cr4;
    namespace field = vmx::field;
    constexpr auto fault = Outcome::general_protection;
    const nested::Capabilities& capabilities = host.capabilities();
    if ((value & ~capabilities.promised.cr4.fixed1) != 0) return fault;
    if (host.in_vmx_operation() && !capabilities.promised.cr4.permits(value)) return fault;
    const std::uint64_t cr0 = host.get(field::guest_cr0);
    const std::uint64_t changed = value ^ host.get(field::guest_cr4);
    const bool long_mode = (host.get(field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    const bool pae = (value & physical_address_extension) != 0;
    if (long_mode && (!pae || (changed & five_level_paging) != 0)) return fault;
    if ((value & changed & pcid_enable) != 0 &&
        (!long_mode || (host.get(field::guest_cr3) & x86::cr3::pcid_mask) != 0)) {
        return fault;
    }
    if ((value & control_flow_enforcement) != 0 && (cr0 & x86::cr0::write_protect) == 0) return fault;
    constexpr std::uint64_t loads_pointers =
        physical_address_extension | page_global_enable | page_size_extensions | smep_enable;
    if ((cr0 & x86::cr0::paging) != 0 && pae && !long_mode && (changed & loads_pointers) != 0 &&
        !load_pae_pointers(host, host.get(field::guest_cr3), capabilities.physical_address_width)) {
        return fault;
    }

    host.put(field::guest_cr4, value | held_cr4);
    host.put(field::cr4_read_shadow, value);
    if ((changed & (loads_pointers | pcid_enable)) != 0) host.translations_changed();
    return Outcome::done;
}

}  // namespace flatback::host
