// The registers with which L1 starts: of a processor after reset, or as a boot protocol has them.
#pragma once

#include <array>
#include <cstdint>

#include "../x86/control_registers.hpp"
#include "../x86/segment.hpp"

namespace flatback::host {

struct L1Segment {
    std::uint16_t selector = 0;
    std::uint64_t base = 0;
    std::uint32_t limit = 0xffff;
    std::uint32_t access_rights = x86::AccessRights::unusable_bit;
};
struct L1DescriptorTable {
    std::uint64_t base = 0;
    std::uint32_t limit = 0xffff;
};

// What vmcs01 holds of them; CR0 and CR4 as L1 is to read them. The general registers but RSP are the host's
// to set.
struct L1State {
    // In the order of the VMCS's fields.
    enum Segment : std::uint8_t { es, cs, ss, ds, fs, gs, ldtr, tr };

    std::uint64_t cr0 = x86::cr0::extension_type;
    std::uint64_t cr3 = 0;
    std::uint64_t cr4 = 0;
    std::uint64_t efer = 0;
    std::uint64_t pat = 0x0007'0406'0007'0406;  // after reset (SDM 3A 12.12.4)
    std::uint64_t dr7 = x86::dr7::reset_value;
    std::uint64_t rip = 0;
    std::uint64_t rsp = 0;
    std::uint64_t rflags = x86::rflags::fixed_one;
    std::array<L1Segment, 8> segments{};
    L1DescriptorTable gdtr;
    L1DescriptorTable idtr;
};

namespace flat {
inline constexpr std::uint32_t data = 0xc093;     // present, writable, accessed, DPL 0, big, 4 KB units
inline constexpr std::uint32_t code_32 = 0xc09b;  // present, execute and read, accessed, DPL 0
inline constexpr std::uint32_t code_64 = 0xa09b;
inline constexpr std::uint32_t busy_task = 0x8b;  // 32-bit, in IA-32e mode 64-bit: no other enters
}  // namespace flat

// After power-up, reset or INIT (SDM 3A table 10-1), but for CR0.CD and NW, which no VM entry loads: the host
// sets them in the processor. RDX is the processor's signature, CPUID.01H:EAX.
[[nodiscard]] constexpr L1State state_at_reset() {
    constexpr std::uint32_t real_mode_data = 0x93;
    constexpr std::uint32_t real_mode_code = 0x9b;
    constexpr std::uint32_t table = 0x82;
    L1State state;
    state.cr0 |= x86::cr0::cache_disable | x86::cr0::not_write_through;
    state.rip = 0xfff0;
    for (L1Segment& segment : state.segments) segment.access_rights = real_mode_data;
    state.segments[L1State::cs] = {.selector = 0xf000, .base = 0xffff'0000, .access_rights = real_mode_code};
    state.segments[L1State::ldtr].access_rights = table;
    state.segments[L1State::tr].access_rights = flat::busy_task;
    return state;
}

// The flat segments that boot protocols ask for; no LDT, and a task register with which VM entry is content.
[[nodiscard]] constexpr L1State state_with_flat_segments(std::uint16_t code, std::uint16_t data,
                                                         std::uint32_t code_rights) {
    L1State state;
    for (L1Segment& segment : state.segments)
        segment = {.selector = data, .limit = 0xffff'ffff, .access_rights = flat::data};
    state.segments[L1State::cs] = {.selector = code, .limit = 0xffff'ffff, .access_rights = code_rights};
    state.segments[L1State::ldtr] = {};
    state.segments[L1State::tr] = {.access_rights = flat::busy_task};
    return state;
}

// Multiboot 1 3.2: CR0.PE alone, 32-bit flat segments; EAX and EBX are the host's to set.
[[nodiscard]] constexpr L1State state_in_protected_mode(std::uint16_t code, std::uint16_t data,
                                                        std::uint64_t rip) {
    L1State state = state_with_flat_segments(code, data, flat::code_32);
    state.cr0 |= x86::cr0::protection_enable;
    state.rip = rip;
    return state;
}

// Linux's 64-bit boot protocol: paging with the tables at cr3; RSI is the host's to set. The IDT is empty: an
// interrupt before the kernel has its own is a triple fault, and not what lies at address 0.
[[nodiscard]] constexpr L1State state_in_long_mode(std::uint16_t code, std::uint16_t data, std::uint64_t rip,
                                                   std::uint64_t cr3) {
    L1State state = state_with_flat_segments(code, data, flat::code_64);
    state.cr0 |= x86::cr0::protection_enable | x86::cr0::paging;
    state.cr3 = cr3;
    state.cr4 = x86::cr4::physical_address_extension;
    state.efer = x86::efer::long_mode_enable | x86::efer::long_mode_active;
    state.rip = rip;
    state.idtr.limit = 0;
    return state;
}

}  // namespace flatback::host
