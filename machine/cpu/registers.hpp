#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/interruption_bits.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/segment_bits.hpp"

namespace flatback::machine {

struct Segment {
    std::uint16_t selector = 0;
    std::uint64_t base = 0;
    std::uint32_t limit = 0xFFFF'FFFF;
    /// In the format of the VMCS (SDM 3C table 25-2).
    std::uint32_t access_rights = x86::AccessRights::unusable_bit;

    friend bool operator==(const Segment&, const Segment&) = default;
};

struct DescriptorTable {
    std::uint64_t base = 0;
    std::uint32_t limit = 0xFFFF;

    friend bool operator==(const DescriptorTable&, const DescriptorTable&) = default;
};

/// In the order of the VMCS's fields.
enum class SegmentName : std::uint8_t { es, cs, ss, ds, fs, gs, ldtr, tr };

/// What VM exits save and VM entries load, and the few registers beside it that instructions here use.
struct Registers {
    std::array<std::uint64_t, 16>
        general{};  // by instruction number: 0 RAX, 1 RCX, 2 RDX, ... 15 R15; 4 is RSP
    std::uint64_t rip = 0;
    std::uint64_t rflags = x86::rflags::fixed_one;
    std::uint64_t cr0 = x86::cr0::protection_enable | x86::cr0::extension_type | x86::cr0::numeric_error |
                        x86::cr0::write_protect | x86::cr0::paging;
    std::uint64_t cr2 = 0;
    std::uint64_t cr3 = 0;
    std::uint64_t cr4 = x86::cr4::physical_address_extension | x86::cr4::page_global_enable;
    std::uint64_t dr7 = x86::dr7::reset_value;
    std::uint64_t efer = x86::efer::long_mode_enable | x86::efer::long_mode_active |
                         x86::efer::execute_disable_enable | x86::efer::syscall_enable;
    std::uint64_t pat = 0x0007'0406'0007'0406;
    std::uint64_t debugctl = 0;
    std::uint64_t sysenter_cs = 0;
    std::uint64_t sysenter_esp = 0;
    std::uint64_t sysenter_eip = 0;
    std::array<Segment, 8> segments{};
    DescriptorTable gdtr{};
    DescriptorTable idtr{};
    /// PAE paging: what the last load of CR3 found (SDM 3A 4.4.1).
    std::array<std::uint64_t, 4> pdptes{};
    std::uint32_t interruptibility = 0;
    vmx::ActivityState activity = vmx::ActivityState::active;
    std::uint64_t pending_debug = 0;
    // MSRs that no VMCS field holds; the MSR lists of VM entry and exit reach them.
    std::uint64_t star = 0;
    std::uint64_t lstar = 0;
    std::uint64_t fmask = 0;
    std::uint64_t kernel_gs_base = 0;
    std::uint64_t tsc_aux = 0;
    std::uint64_t feature_control = 0x5;  // locked, VMXON outside SMX allowed

    [[nodiscard]] Segment& segment(SegmentName name) { return segments[static_cast<std::size_t>(name)]; }
    [[nodiscard]] const Segment& segment(SegmentName name) const {
        return segments[static_cast<std::size_t>(name)];
    }

    [[nodiscard]] bool in_long_mode() const { return (efer & x86::efer::long_mode_active) != 0; }
    [[nodiscard]] bool in_64_bit_mode() const {
        return in_long_mode() && x86::AccessRights(segment(SegmentName::cs).access_rights).is_long_mode();
    }
    /// With paging: PAE paging (SDM 3A 4.1.1).
    [[nodiscard]] bool uses_pae() const {
        return (cr0 & x86::cr0::paging) != 0 && !in_long_mode() &&
               (cr4 & x86::cr4::physical_address_extension) != 0;
    }
    /// SS.DPL (SDM 3C 25.4.1).
    [[nodiscard]] unsigned privilege_level() const {
        return x86::AccessRights(segment(SegmentName::ss).access_rights).privilege_level();
    }
};

/// The registers of a 64-bit kernel with flat segments, as L1 starts with.
[[nodiscard]] Registers kernel_registers(std::uint64_t cr3);

/// What INIT makes of these: real-address mode, and the processor waits for a start-up IPI. Beside CR0.CD and
/// NW, it leaves the MSRs but IA32_EFER (SDM 3A table 10-1).
[[nodiscard]] Registers registers_after_init(const Registers& before);

/// The access rights that such a kernel's segments have.
namespace flat_segment {
inline constexpr std::uint32_t code_64 = 0xA09B;  // present, execute/read, accessed, L, G
inline constexpr std::uint32_t data = 0xC093;     // present, read/write, accessed, B, G
inline constexpr std::uint32_t task = 0x008B;     // present, busy 64-bit TSS
}  // namespace flat_segment

}  // namespace flatback::machine
