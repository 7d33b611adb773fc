#include "judge/mutants/field_use.hpp"

#include <cstdint>

#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

const Program& program_of_fields_in_use() {
    static const Program program = [] {
        namespace field = vmx::field;
        Scenario say;
        say.l1().vmxon();
        constexpr std::uint64_t vmcss = 2;
        for (std::uint64_t n = 0; n < vmcss; ++n) {
            say.prepare(layout::vmcs_region(static_cast<unsigned>(n)),
                        {.vpid = static_cast<std::uint16_t>(n + 1), .tables = 1});
            say.vmlaunch().l2().vmcall().l1();
        }
        for (std::uint64_t round = 0; round < 12; ++round) {
            for (std::uint64_t n = 0; n < vmcss; ++n) {
                const std::uint64_t region = layout::vmcs_region(static_cast<unsigned>(n));
                // Half of the time what L1 wrote the last time too, though L2 has changed it since.
                const std::uint64_t value = (0x10 * n + round / 2 + 1) << 12;
                if (round == 8) say.vmclear(region);
                say.vmptrld(region).vmread(field::guest_cr3).vmwrite(field::guest_cr3, value);
                say.vmwrite(field::guest_fs_base, value + round).vmread(field::guest_gs_base);
                say.vmwrite(field::tsc_offset, value).vmwrite(field::exception_bitmap, round);
                if (n == 1 && round % 3 == 0) say.vmwrite(field::guest_gs_base, value);
                say.vmread(field::guest_cr3).vmread(field::tsc_offset).vmread(field::guest_fs_base);
                if (round == 8) {
                    say.vmlaunch();
                } else {
                    say.vmresume();
                }
                say.l2().mov_from_cr3();
                if (round % 3 != 2) say.mov_to_cr3(value + (std::uint64_t{1} << 32) + (round << 12));
                say.vmcall().l1().vmread(field::guest_cr3).vmread(field::exception_bitmap);
            }
        }
        return say.program();
    }();
    return program;
}

}  // namespace flatback::machine
