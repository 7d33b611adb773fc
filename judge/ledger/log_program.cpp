#include "judge/ledger/log_program.hpp"

#include <array>
#include <cstddef>

namespace flatback::machine::log_program {

namespace field = vmx::field;

namespace {

constexpr unsigned guests = 2;

/// L1 has L2 again, if it has not; with room in the log, if it was full.
Scenario& go_on(Scenario& say, std::uint64_t index) {
    say.l1().vmread(field::exit_reason).vmread(field::pml_index).vmread(field::exit_qualification);
    return say.vmwrite(field::pml_index, index).vmlaunch().vmresume().l2();
}

std::uint64_t place(std::uint8_t byte) {
    const unsigned number = byte % (pages + far_pages);
    const std::uint64_t address = number < pages ? page(number) : far_page(number - pages + 1);
    return address + byte / (pages + far_pages) * std::uint64_t{8};
}

}  // namespace

Program from_bytes(std::span<const std::uint8_t> bytes) {
    Scenario say =
        world(bytes.empty() ? 0 : std::array{std::uint64_t{0}, accessed, accessed | dirty}[bytes[0] % 3U]);
    guest(say, layout::vmcs_region(1), 2).vmwrite(field::pml_address, log_page(1)).vmlaunch().l2();
    for (std::size_t at = 0; at + 3 < bytes.size(); at += 4) {
        const std::uint8_t a = bytes[at + 1];
        const std::uint8_t b = bytes[at + 2];
        const std::uint8_t c = bytes[at + 3];
        constexpr std::array<std::uint64_t, 8> indices = {511, 511, 100, 2, 1, 0, 0xFFFF, 512};
        switch (bytes[at] % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
                say.l2().store(place(a), b).store(place(b), c);
                break;
            case 4:
            case 5:
                say.l2().load(place(a)).store(place(a), c);
                break;
            case 6:
                say.l2().load(place(a)).load(place(b));
                break;
            case 7:
                say.l2().rdtsc().vmcall();
                go_on(say, indices[c % indices.size()]);
                break;
            case 8:
            case 9:
            case 10: {
                // L1 has seen a page, and wants to be told of the next write to it.
                constexpr std::array<std::uint64_t, 4> flags = {0, accessed, accessed, accessed | dirty};
                say.l2().vmcall().edit();
                for (const std::uint8_t which : {a, b}) {
                    const std::uint64_t where = frame(which % pages);
                    say.ept_map(0, where, where, Scenario::ept_flags | flags[c % flags.size()]);
                }
                say.l1().invept(c / 4U % 2 + 1, eptp);
                go_on(say, indices[c / 8U % indices.size()]);
                break;
            }
            case 11:
                // Another L2 of the same EPTP, with a log of its own.
                say.l2().vmcall().l1().vmptrld(layout::vmcs_region(a % guests));
                go_on(say, indices[c % 4U]);
                break;
            case 12: {
                constexpr std::array<std::uint32_t, 4> more = {
                    vmx::secondary::enable_pml, 0,
                    vmx::secondary::enable_pml | vmx::secondary::use_tsc_scaling,
                    vmx::secondary::use_tsc_scaling};
                say.l2().vmcall().l1().vmwrite(field::secondary_processor_based_vm_execution_controls,
                                               secondary | more[a % more.size()]);
                say.vmwrite(field::tsc_multiplier, (b % 4U + 1) * same_rate);
                say.vmwrite(field::tsc_offset, std::uint64_t{c} << 32);
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual | (c % 4 == 0 ? 0U : vmx::primary::use_tsc_offsetting));
                go_on(say, 511).rdtsc().load(place(c)).rdtsc();
                break;
            }
            case 13:
                say.l2().vmcall().l1().vmclear(layout::vmcs_region(a % guests));
                say.vmptrld(layout::vmcs_region(a % guests));
                go_on(say, indices[c % 4U]);
                break;
            case 14:
                // A walk that comes to nothing, and a page that L1 takes the right to write from.
                say.l2().vmcall().edit().ept_map(0, frame(a % pages), frame(a % pages),
                                                 (Scenario::ept_flags & ~std::uint64_t{2}) | accessed);
                say.l1().invept_single(eptp).vmwrite(field::exception_bitmap, 1U << 14);
                go_on(say, 511).load(0x7000'0000);
                go_on(say, indices[c % indices.size()]).store(page(a % pages), b);
                go_on(say, 511);
                break;
            default:
                go_on(say, indices[c % indices.size()]);
                break;
        }
    }
    go_on(say, 511);
    return say.program();
}

}  // namespace flatback::machine::log_program
