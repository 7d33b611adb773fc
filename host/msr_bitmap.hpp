// The MSR bitmap under which L1 runs (SDM 3C 25.6.9), and what it has to hold: MSRs that L0 answers itself,
// or must know of when they change.
#pragma once

#include <cstdint>

#include "../x86/local_apic.hpp"
#include "../x86/msr.hpp"
#include "memory_type_registers.hpp"

namespace flatback::host {

// 4 KB: reads of low and of high numbers, writes of both.
class MsrBitmap final {
public:
    explicit MsrBitmap(std::uint64_t* page) : page_(page) {}

    enum class Access : std::uint8_t { read = 0, write = 1 };

    // Whether RDMSR or WRMSR exits. Outside both ranges it always does.
    [[nodiscard]] bool intercepts(std::uint32_t msr, Access access) const {
        std::uint32_t bit = msr;
        if (msr >= first_high) {
            bit = msr - first_high;
            if (bit >= numbers) return true;
            bit += numbers;
        } else if (msr >= numbers) {
            return true;
        }
        bit += access == Access::write ? 2 * numbers : 0;
        return (page_[bit / 64] >> (bit % 64) & 1) != 0;
    }
    // msr: of one of the two ranges.
    void intercept(std::uint32_t msr, Access access) {
        const std::uint32_t bit = bit_of(msr, access);
        page_[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
    void intercept_all(std::uint32_t first, std::uint32_t last) {
        for (std::uint32_t msr = first; msr <= last; ++msr) {
            intercept(msr, Access::read);
            intercept(msr, Access::write);
        }
    }
    // msr: likewise.
    void pass(std::uint32_t msr, Access access) {
        const std::uint32_t bit = bit_of(msr, access);
        page_[bit / 64] &= ~(std::uint64_t{1} << (bit % 64));
    }

private:
    static constexpr std::uint32_t bit_of(std::uint32_t msr, Access access) {
        return (msr & (numbers - 1)) + (msr >= first_high ? numbers : 0) +
               (access == Access::write ? 2 * numbers : 0);
    }
    static constexpr std::uint32_t first_high = 0xc000'0000;
    static constexpr std::uint32_t numbers = 0x2000;  // in each range

    std::uint64_t* page_;
};

struct MsrRange {
    std::uint32_t first, last;
};

// MSRs of what CPUID does not tell L1 of (host/cpuid.hpp): as on a processor without it they are not there.
inline constexpr MsrRange hidden_msrs[] = {
    {0x08c, 0x08f},                  // SGX launch control
    {0x1cc, 0x1d4},                  // FRED
    {0x3f1, 0x3f1},                  // PEBS, the debug store ...
    {0x560, 0x572}, {0x580, 0x587},  // ... and processor trace, which write to memory past EPT
    {0x600, 0x600}, {0x6a0, 0x6a8},  // shadow stacks and indirect-branch tracking
    {0x6e1, 0x6e1},                  // supervisor protection keys
    {0x985, 0x98a},                  // user interrupts
    {0x990, 0x991},                  // key locker
};
[[nodiscard]] constexpr bool is_hidden_msr(std::uint32_t msr) {
    for (const auto& [first, last] : hidden_msrs) {
        if (msr >= first && msr <= last) return true;
    }
    return false;
}
[[nodiscard]] constexpr bool is_vmx_capability(std::uint32_t msr) {
    return msr >= x86::msr::ia32_vmx_basic && msr <= x86::msr::ia32_vmx_procbased_ctls3;
}
[[nodiscard]] constexpr bool is_x2apic_register(std::uint32_t msr) {
    return msr >= x86::msr::x2apic_first && msr <= x86::msr::x2apic_last;
}

// Where the real APIC is in x2APIC mode, and L1's too, L1 has its registers without an exit (host/
// local_apic.hpp), but for the interrupt commands, some of which are not for the processor, and what is read
// only at the beginning.
inline void pass_x2apic_registers(MsrBitmap bitmap) {
    for (std::uint32_t msr = x86::msr::x2apic_first; msr <= x86::msr::x2apic_last; ++msr) {
        bitmap.pass(msr, MsrBitmap::Access::read);
        bitmap.pass(msr, MsrBitmap::Access::write);
    }
    const std::uint32_t command = x86::x2apic::msr_at(x86::xapic::command_low);
    bitmap.intercept_all(command, command);
    bitmap.intercept(x86::x2apic::msr_at(x86::xapic::logical_destination), MsrBitmap::Access::read);
}
inline void keep_x2apic_registers(MsrBitmap bitmap) {
    bitmap.intercept_all(x86::msr::x2apic_first, x86::msr::x2apic_last);
}

// What L0 keeps to itself or must know of, into a page of zeros. Everything else L1 may have as the processor
// gives it; what more a host keeps, it adds.
inline void fill_msr_bitmap(MsrBitmap bitmap) {
    namespace msr = x86::msr;
    using enum MsrBitmap::Access;
    bitmap.intercept_all(msr::ia32_vmx_basic, msr::ia32_vmx_procbased_ctls3);
    for (const std::uint32_t number :
         {msr::ia32_feature_control, msr::ia32_apic_base, msr::ia32_smm_monitor_ctl, msr::ia32_misc_enable}) {
        bitmap.intercept_all(number, number);
    }
    for (const auto& [first, last] : hidden_msrs) bitmap.intercept_all(first, last);
    for (std::uint32_t number = msr::ia32_mtrr_physbase0; number <= msr::ia32_mtrr_def_type; ++number) {
        if (MemoryTypeRegisters::may_contain(number)) bitmap.intercept_all(number, number);
    }
    keep_x2apic_registers(bitmap);
    // A microcode update would change the processor under L0, and of IA32_XSS L1 may not have all. The rest
    // live in the VMCS: L0 has to know when they change.
    for (const std::uint32_t number :
         {msr::ia32_bios_updt_trig, msr::ia32_xss, msr::ia32_efer, msr::ia32_pat, msr::ia32_sysenter_cs,
          msr::ia32_sysenter_esp, msr::ia32_sysenter_eip}) {
        bitmap.intercept(number, write);
    }
}

}  // namespace flatback::host
