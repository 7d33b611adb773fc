#pragma once

#include <cstdint>
#include <span>

#include "machine/program/layout.hpp"
#include "machine/program/program.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

/// Programs of an L1 that keeps page-modification logs of its L2s, and scales their time-stamp counter.
namespace flatback::machine::log_program {

inline constexpr std::uint64_t vmcs = layout::vmcs_region(0);
inline constexpr std::uint64_t accessed = 1U << 8;  // of an EPT entry
inline constexpr std::uint64_t dirty = 1U << 9;
inline constexpr std::uint64_t eptp = layout::eptp(0) | 1U << 6;    // with those flags
inline constexpr std::uint64_t same_rate = std::uint64_t{1} << 48;  // of the TSC multiplier
inline constexpr std::uint64_t usual = 0x8400'61F2;                 // of the primary controls: HLT exiting
inline constexpr std::uint32_t secondary =
    vmx::secondary::enable_ept | vmx::secondary::enable_vpid | vmx::secondary::enable_invpcid;

inline constexpr unsigned pages = 8;  // side by side
/// Where L2 has them, and where they are.
[[nodiscard]] constexpr std::uint64_t page(unsigned number) {
    return 0x4000'0000 + number * std::uint64_t{0x1000};
}
[[nodiscard]] constexpr std::uint64_t frame(unsigned number) {
    return layout::data_page(number);
}
/// Others, each in 2 MBytes of its own.
inline constexpr unsigned far_pages = 4;
[[nodiscard]] constexpr std::uint64_t far_page(unsigned number) {
    return 0x4000'0000 + number * std::uint64_t{0x20'0000};
}
[[nodiscard]] constexpr std::uint64_t far_frame(unsigned number) {
    return 0x80'0000 + number * std::uint64_t{0x20'0000};
}
[[nodiscard]] constexpr std::uint64_t log_page(unsigned number) {
    return layout::data_page(40 + number);
}

/// An L2 with a log of 512 entries, in the first of those pages.
inline Scenario& guest(Scenario& say, std::uint64_t region, std::uint16_t vpid) {
    namespace field = vmx::field;
    say.l1().prepare(region, {.vpid = vpid, .ept = 0, .tables = 1}).vmwrite(field::ept_pointer, eptp);
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                secondary | vmx::secondary::enable_pml);
    say.vmwrite(field::tsc_multiplier, same_rate);
    return say.vmwrite(field::pml_address, log_page(0)).vmwrite(field::pml_index, 511);
}
/// flags: those of EPT12 for its pages at first.
[[nodiscard]] inline Scenario world(std::uint64_t flags = 0) {
    Scenario say;
    say.edit();
    for (unsigned number = 0; number < pages; ++number) {
        say.map(1, page(number), frame(number));
        say.ept_map(0, frame(number), frame(number), Scenario::ept_flags | flags);
    }
    for (unsigned number = 1; number <= far_pages; ++number) {
        say.map(1, far_page(number), far_frame(number));
        say.ept_map(0, far_frame(number), far_frame(number), Scenario::ept_flags | flags);
    }
    say.l1().vmxon();
    return guest(say, vmcs, 1);
}
inline Scenario& read_exit(Scenario& say) {
    namespace field = vmx::field;
    say.l1().vmread(field::exit_reason).vmread(field::exit_qualification).vmread(field::guest_rip);
    return say.vmread(field::pml_index).vmread(field::idt_vectoring_information);
}

/// A program of any bytes. Where L1 changes a flag it flushes, as it must if it is to know what is logged.
[[nodiscard]] Program from_bytes(std::span<const std::uint8_t> bytes);

}  // namespace flatback::machine::log_program
