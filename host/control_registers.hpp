// MOV to CR0 and CR4 where the processor leaves them to L0: what SDM 2B "MOV-Move to/from Control Registers"
// and 3A 2.5, 4.4.1, 4.10.4.1 and 9.8.5 say of them, whole. Privilege and LOCK the processor has judged
// before the exit (SDM 3C 26.1.1).
//
// Touches no hardware by itself: see ControlRegisterHost.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../nested/capabilities.hpp"
#include "../vmx/controls.hpp"
#include "../vmx/field.hpp"
#include "../x86/address.hpp"
#include "../x86/control_registers.hpp"
#include "../x86/paging.hpp"
#include "../x86/segment.hpp"

namespace flatback::host {

// What these instructions need: L1's VMCS, its memory, and the one part of CR0 that no VM entry loads.
template <typename H>
concept ControlRegisterHost = requires(H& host, x86::Gpa<x86::L1> address, std::uint64_t value) {
    { host.get(vmx::field::guest_cr0) } -> std::same_as<std::uint64_t>;
    {host.put(vmx::field::guest_cr0, value)};
    {host.put(vmx::field::vm_entry_controls, std::uint32_t{})};
    // The 4 KB page around an address; null where L1 has no memory.
    { host.l1_page(address) } -> std::convertible_to<const std::byte*>;
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

// Loads the PDPTEs of PAE paging into vmcs01, where they live with EPT (SDM 3A 4.4.1). False, and nothing
// has changed: one of them has a reserved bit set.
template <ControlRegisterHost H>
[[nodiscard]] bool load_pae_pointers(H& host, unsigned physical_address_width) {
    const std::uint64_t table = host.get(vmx::field::guest_cr3) & 0xffff'ffe0;
    const std::byte* page = host.l1_page(x86::Gpa<x86::L1>{table});
    if (page == nullptr) return false;  // reads as ones
    const auto* in_memory = reinterpret_cast<const std::uint64_t*>(page + (table & 0xfff));
    std::array<std::uint64_t, 4> entries{};
    for (std::size_t i = 0; i < entries.size(); ++i) {
        entries[i] = __atomic_load_n(&in_memory[i], __ATOMIC_RELAXED);
        if (!x86::is_valid_pae_pdpte(entries[i], physical_address_width)) return false;
    }
    host.put(vmx::field::guest_pdpte0, entries[0]);
    host.put(vmx::field::guest_pdpte1, entries[1]);
    host.put(vmx::field::guest_pdpte2, entries[2]);
    host.put(vmx::field::guest_pdpte3, entries[3]);
    return true;
}

}  // namespace detail

// CR0 of an L1 whose CR0.NE is L0's: 1 in VMX operation, whatever L1 wants. value: the operand, in 64 bits.
// False: #GP(0), and nothing has changed.
template <ControlRegisterHost H>
[[nodiscard]] bool write_cr0(H& host, const nested::Capabilities& capabilities, std::uint64_t value) {
    using namespace x86::cr0;
    namespace field = vmx::field;
    if ((value >> 32) != 0) return false;
    if (host.in_vmx_operation() && !capabilities.promised.cr0.permits(value | extension_type)) return false;
    value = (value & defined_bits) | extension_type;  // the reserved ones of the low half are ignored
    const auto has = [&](std::uint64_t bit) { return (value & bit) != 0; };
    if ((has(paging) && !has(protection_enable)) || (has(not_write_through) && !has(cache_disable)))
        return false;

    const std::uint64_t before = host.get(field::guest_cr0);
    const std::uint64_t changed = value ^ before;
    const std::uint64_t efer = host.get(field::guest_ia32_efer);
    const std::uint64_t cr4 = host.get(field::guest_cr4);
    const bool pae = (cr4 & x86::cr4::physical_address_extension) != 0;
    const x86::AccessRights code{host.get(field::guest_cs_access_rights)};
    bool long_mode = (efer & x86::efer::long_mode_active) != 0;
    if ((changed & paging) != 0) {
        if (x86::is_64_bit_mode(efer, code)) return false;
        long_mode = has(paging) && (efer & x86::efer::long_mode_enable) != 0;
        if (long_mode && code.is_long_mode()) return false;  // SDM 3A 9.8.5.4
        if (!has(paging) && (cr4 & x86::cr4::pcid_enable) != 0) return false;
        // SDM 3A 9.8.5.4: TR must not hold a 16-bit TSS. (VM entry takes only the busy 32-bit type, which in
        // IA-32e mode is the 64-bit one.)
        const x86::AccessRights task{host.get(field::guest_tr_access_rights)};
        if (long_mode && (!pae || task.type() != x86::segment_type::busy_tss)) return false;
    }
    constexpr std::uint64_t loads_pointers = cache_disable | not_write_through | paging;
    if (has(paging) && pae && !long_mode && (changed & loads_pointers) != 0 &&
        !detail::load_pae_pointers(host, capabilities.physical_address_width)) {
        return false;
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
    host.put(field::guest_cr0, value | numeric_error);
    host.put(field::cr0_read_shadow, value);
    return true;
}

// CR4 of an L1 whose VMXE is L0's, and which may set no bit that it was not promised.
template <ControlRegisterHost H>
[[nodiscard]] bool write_cr4(H& host, const nested::Capabilities& capabilities, std::uint64_t value) {
    using namespace x86::cr4;
    namespace field = vmx::field;
    if ((value & ~capabilities.promised.cr4.fixed1) != 0) return false;
    if (host.in_vmx_operation() && !capabilities.promised.cr4.permits(value)) return false;
    const std::uint64_t changed = value ^ host.get(field::guest_cr4);
    const bool long_mode = (host.get(field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    const bool pae = (value & physical_address_extension) != 0;
    if (long_mode && !pae) return false;
    if ((value & changed & pcid_enable) != 0 &&
        (!long_mode || (host.get(field::guest_cr3) & x86::cr3::pcid_mask) != 0)) {
        return false;
    }
    constexpr std::uint64_t loads_pointers =
        physical_address_extension | page_global_enable | page_size_extensions | smep_enable;
    const bool pages = (host.get(field::guest_cr0) & x86::cr0::paging) != 0;
    if (pages && pae && !long_mode && (changed & loads_pointers) != 0 &&
        !detail::load_pae_pointers(host, capabilities.physical_address_width)) {
        return false;
    }

    host.put(field::guest_cr4, value | vmx_enable);
    host.put(field::cr4_read_shadow, value);
    if ((changed & (loads_pointers | pcid_enable)) != 0) host.translations_changed();
    return true;
}

}  // namespace flatback::host
