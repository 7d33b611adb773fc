// What no VMCS holds of the guest that runs, so that a processor which two VMs share has to be given the
// other's: the FPU and what else XSAVE knows, CR2, debug registers, the MSRs that guests write without an
// exit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "x86/msr.hpp"

namespace flatback::metal {

class PagePool;

class ProcessorState final {
public:
    // As after reset.
    explicit ProcessorState(PagePool& pages);
    ProcessorState(const ProcessorState&) = delete;
    ProcessorState& operator=(const ProcessorState&) = delete;

    // The processor's, and into the processor.
    void save();
    void load() const;

private:
    // SDM vol. 4: IA32_STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX.
    static constexpr std::array<std::uint32_t, 7> msrs = {
        0xc000'0081, 0xc000'0082, 0xc000'0083, 0xc000'0084, 0xc000'0102, 0xc000'0103, x86::msr::ia32_xss};
    // The extended state's area, and where there is no XSAVE, FXSAVE's.
    std::byte* area_;
    std::uint64_t components_ = 0;  // of XCR0 that the processor has; 0: no XSAVE
    std::uint64_t xcr0_ = 1;
    std::uint64_t cr2_ = 0;
    std::array<std::uint64_t, 4> debug_addresses_{};
    std::uint64_t dr6_ = 0xffff'0ff0;
    std::array<bool, msrs.size()> has_msr_{};
    std::array<std::uint64_t, msrs.size()> msr_values_{};
};

}  // namespace flatback::metal
