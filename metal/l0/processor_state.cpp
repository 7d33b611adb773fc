#include "metal/l0/processor_state.hpp"

#include <cstring>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/panic.hpp"
#include "metal/memory/page_pool.hpp"
#include "x86/cpuid.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {

namespace {

constexpr std::uint32_t mxcsr_offset = 24;
constexpr std::uint32_t mxcsr_at_reset = 0x1f80;
constexpr std::uint16_t control_word_at_reset = 0x037f;

std::uint64_t read_xcr0() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
}

}  // namespace

ProcessorState::ProcessorState(PagePool& pages) {
    std::size_t size = 512;
    if ((cpuid(x86::cpuid::leaf_features).ecx & x86::cpuid::features_ecx_xsave) != 0) {
        const auto state = cpuid(x86::cpuid::leaf_extended_state);
        components_ = std::uint64_t{state.edx} << 32 | state.eax;
        size = state.ecx;
    }
    const std::size_t count = (size + x86::page_size_4k - 1) / x86::page_size_4k;
    area_ = static_cast<std::byte*>(pages.allocate_contiguous(count));
    if (area_ == nullptr) panic("no memory for a VM's extended state");
    // All components are in their initial state; these two are loaded whatever is said there.
    std::memcpy(area_, &control_word_at_reset, sizeof control_word_at_reset);
    std::memcpy(area_ + mxcsr_offset, &mxcsr_at_reset, sizeof mxcsr_at_reset);
    for (std::size_t i = 0; i < msrs.size(); ++i) has_msr_[i] = try_read_msr(msrs[i]).has_value();
}

// L0 uses none of it.
void ProcessorState::save() {
    if (components_ != 0) {
        xcr0_ = read_xcr0();
        // What the guest has switched off keeps its values (SDM 1 13.3).
        static_cast<void>(try_xsetbv(0, components_));
        asm volatile("xsave64 (%0)" ::"r"(area_), "a"(~std::uint32_t{0}), "d"(~std::uint32_t{0}) : "memory");
    } else {
        asm volatile("fxsave64 (%0)" ::"r"(area_) : "memory");
    }
    cr2_ = read_cr2();
    asm volatile("mov %%db0, %0; mov %%db1, %1; mov %%db2, %2; mov %%db3, %3; mov %%db6, %4"
                 : "=r"(debug_addresses_[0]), "=r"(debug_addresses_[1]), "=r"(debug_addresses_[2]),
                   "=r"(debug_addresses_[3]), "=r"(dr6_));
    for (std::size_t i = 0; i < msrs.size(); ++i) {
        if (has_msr_[i]) msr_values_[i] = read_msr(msrs[i]);
    }
}

void ProcessorState::load() const {
    if (components_ != 0) {
        static_cast<void>(try_xsetbv(0, components_));
        asm volatile("xrstor64 (%0)" ::"r"(area_), "a"(~std::uint32_t{0}), "d"(~std::uint32_t{0}) : "memory");
        static_cast<void>(try_xsetbv(0, xcr0_));
    } else {
        asm volatile("fxrstor64 (%0)" ::"r"(area_) : "memory");
    }
    asm volatile("mov %0, %%cr2" ::"r"(cr2_));
    asm volatile("mov %0, %%db0; mov %1, %%db1; mov %2, %%db2; mov %3, %%db3; mov %4, %%db6" ::"r"(
                     debug_addresses_[0]),
                 "r"(debug_addresses_[1]), "r"(debug_addresses_[2]), "r"(debug_addresses_[3]), "r"(dr6_));
    for (std::size_t i = 0; i < msrs.size(); ++i) {
        if (has_msr_[i]) write_msr(msrs[i], msr_values_[i]);
    }
}

}  // namespace flatback::metal
