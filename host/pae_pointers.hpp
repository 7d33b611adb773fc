// The page-directory-pointer entries of PAE paging, which are registers: loaded by the instructions that SDM
// 3A 4.4.1 names, and with EPT they live in the VMCS.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "../vmx/field.hpp"
#include "../x86/address.hpp"
#include "../x86/paging.hpp"
#include "../x86/words.hpp"

namespace flatback::host {

template <typename H>
concept PaePointerHost = requires(H& host, x86::Gpa<x86::L1> address, std::uint64_t value) {
    {host.put(vmx::field::guest_pdpte0, value)};
    // The 4 KB page around an address; null where L1 has no memory.
    { host.l1_page(address) } -> std::convertible_to<const std::byte*>;
};

// cr3: the one whose table is read; bits 31:5 say where (SDM 3A table 4-7). False: an entry has a reserved
// bit set, which is #GP(0), and nothing has changed.
template <PaePointerHost H>
[[nodiscard]] bool load_pae_pointers(H& host, std::uint64_t cr3, unsigned physical_address_width) {
    const std::uint64_t table = cr3 & 0xffff'ffe0;
    const std::byte* page = host.l1_page(x86::Gpa<x86::L1>{table});
    if (page == nullptr) return false;  // reads as ones
    // Another processor of L1's may write there meanwhile: each entry is read once.
    const auto* in_memory = reinterpret_cast<const std::uint64_t*>(page + (table & 0xfff));
    std::array<std::uint64_t, 4> entries{};
    for (std::size_t i = 0; i < entries.size(); ++i) {
        entries[i] = x86::read_word(&in_memory[i]);
        if (!x86::is_valid_pae_pdpte(entries[i], physical_address_width)) return false;
    }
    host.put(vmx::field::guest_pdpte0, entries[0]);
    host.put(vmx::field::guest_pdpte1, entries[1]);
    host.put(vmx::field::guest_pdpte2, entries[2]);
    host.put(vmx::field::guest_pdpte3, entries[3]);
    return true;
}

}  // namespace flatback::host
