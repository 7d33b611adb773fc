#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace flatback::machine {

/// Bits 51:12 of an EPTP: the tag of guest-physical and combined mappings (SDM 3C 29.4.2).
[[nodiscard]] constexpr std::uint64_t ep4ta_of(std::uint64_t eptp) {
    return (eptp >> 12) & 0xFF'FFFF'FFFF;
}

/// The EP4TA tag of a linear mapping, made while EPT is not in use. Not a value that an EPTP can have.
inline constexpr std::uint64_t no_ep4ta = ~std::uint64_t{0};

/// EPT as it is in use: the walk's root and the switches that change what an EPT entry means.
struct EptContext {
    std::uint64_t eptp = 0;
    /// IA32_VMX_EPT_VPID_CAP bit 0: R = 0, X = 1 is a translation, not a misconfiguration.
    bool execute_only_supported = true;
    /// IA32_VMX_EPT_VPID_CAP bit 17.
    bool pages_of_1g_supported = true;
    /// IA32_VMX_EPT_VPID_CAP bit 22: bits 11:9 of an EPT violation's exit qualification are given.
    bool advanced_exit_information = false;
    std::array<std::uint8_t, 5> padding{};  // contexts are compared as words

    [[nodiscard]] constexpr std::uint64_t ep4ta() const { return ep4ta_of(eptp); }
    [[nodiscard]] constexpr std::uint64_t root() const { return eptp & 0x000F'FFFF'FFFF'F000; }
    /// EPTP bit 6, "enable accessed and dirty flags for EPT".
    [[nodiscard]] constexpr bool accessed_and_dirty() const { return (eptp & (1U << 6)) != 0; }

    friend bool operator==(const EptContext&, const EptContext&) = default;
};

/// SDM 3A 4.1.1. (5-level paging is not there.)
enum class PagingMode : std::uint8_t { four_level, pae, bits_32 };

/// What a processor's registers and current VMCS say about translation at one moment: the tags that its
/// mappings get, the roots of the structures, and the modes that change the meaning of their entries.
struct TranslationContext {
    /// The current VPID: 0000H outside VMX operation, in root operation, and with "enable VPID" = 0.
    std::uint16_t vpid = 0;
    /// The current PCID: CR3 bits 11:0 with CR4.PCIDE = 1, else 000H.
    std::uint16_t pcid = 0;
    bool ept_in_use = false;
    /// CR0.PG. If false the linear address is the (guest-)physical address.
    bool paging = true;
    bool write_protect = true;                // CR0.WP
    bool page_global = true;                  // CR4.PGE
    bool execute_disable = true;              // IA32_EFER.NXE; 32-bit paging has no such bit
    bool supervisor_no_execute_user = false;  // CR4.SMEP
    bool supervisor_no_access_user = false;   // CR4.SMAP with RFLAGS.AC = 0
    /// CPUID.80000001H:EDX[26]: a PDPTE may map a 1-GByte page.
    bool pages_of_1g_supported = true;
    std::uint8_t physical_address_bits = 46;
    PagingMode mode = PagingMode::four_level;
    bool page_size_extensions = false;  // CR4.PSE, which only 32-bit paging asks
    std::uint8_t padding = 0;           // contexts are compared as words
    /// The physical (with EPT, guest-physical) address of the PML4 table, or with 32-bit paging of the page
    /// directory.
    std::uint64_t pml4 = 0;
    EptContext ept{};
    /// PAE paging: the PDPTE registers, in which the walk begins (SDM 3A 4.4.1).
    std::array<std::uint64_t, 4> pdptes{};

    /// The EP4TA under which this context's mappings are tagged.
    [[nodiscard]] constexpr std::uint64_t ep4ta() const { return ept_in_use ? ept.ep4ta() : no_ep4ta; }
    /// Of the tables in memory: 4, or 2 for page directories.
    [[nodiscard]] constexpr unsigned top_level() const { return mode == PagingMode::four_level ? 4 : 2; }

    friend bool operator==(const TranslationContext& a, const TranslationContext& b);
};
static_assert(std::has_unique_object_representations_v<TranslationContext>);

inline bool operator==(const TranslationContext& a, const TranslationContext& b) {
    return std::memcmp(&a, &b, offsetof(TranslationContext, pdptes)) == 0 &&
           (a.mode != PagingMode::pae || a.pdptes == b.pdptes);
}

}  // namespace flatback::machine
