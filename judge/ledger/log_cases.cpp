// The page-modification log (SDM 3C 29.3.6) and TSC scaling (26.3): what an L2 writes to, where its index
// ends, what L1 makes of the flags meanwhile; what RDTSC reads in an L2 under a multiplier and an offset.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/ledger/log_program.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;
using namespace log_program;

class Cases {
public:
    Cases() {
        writes();
        full();
        flags();
        entries();
        scaling();
    }
    std::vector<LedgerCase> all;

private:
    void add(const std::string& name, const Scenario& say, bool scales = false) {
        NestedWorld::Options options;
        all.push_back({0, name, options, say.program(), std::nullopt});
        options.shadow_vmcs = false;
        all.push_back({0, name + "WithoutShadowVmcs", options, say.program(), std::nullopt});
        for (std::uint64_t seed = 1; seed <= 6; ++seed) {
            options = {
                .random_host = seed, .saves_states = seed > 4, .host_scales_tsc = scales && seed % 2 == 0};
            all.push_back({0, name + "UnderHost" + std::to_string(seed), options, say.program(), {}});
        }
    }

    void writes() {
        {
            Scenario say = world();
            say.vmlaunch().l2().load(page(0)).store(page(0), 1).store(page(0) + 8, 2).store(page(1), 3);
            say.load(page(2)).load(page(2)).store(page(2) + 0xFF8, 4).store(far_page(1) + 0x120, 5).vmcall();
            read_exit(say).vmresume().l2().store(page(0), 6).store(page(3), 7).store(page(4), 8).vmcall();
            read_exit(say);
            add("EachPageIsLoggedOnce", say);
        }
        {
            // Another log, and the same again behind VMCLEAR.
            Scenario say = world();
            say.vmlaunch().l2().store(page(0), 1).vmcall();
            read_exit(say).vmwrite(field::pml_address, log_page(1)).vmwrite(field::pml_index, 7);
            say.vmresume().l2().store(page(1), 1).store(page(2), 1).vmcall();
            read_exit(say).vmclear(vmcs).vmptrld(vmcs).vmread(field::pml_index).vmlaunch();
            say.l2().store(page(3), 1).vmcall();
            read_exit(say);
            add("TheLogIsWhereL1HasItNow", say);
        }
        {
            // A page of 2 MBytes has one dirty flag, and what is noted is the access.
            Scenario say = world();
            say.edit().ept_map(0, far_frame(2), far_frame(2), Scenario::ept_flags, PageSize::size_2m);
            say.l1().vmlaunch().l2().load(far_page(2)).store(far_page(2) + 0x13, 1).vmcall();
            read_exit(say).vmresume().l2().store(far_page(2) + 0x600, 1).vmcall();
            read_exit(say);
            add("ALargePageIsLoggedOnce", say);
        }
        {
            // A walk that comes to nothing has written to its tables' pages.
            Scenario say = world();
            say.vmwrite(field::exception_bitmap, 1U << 14).vmlaunch().l2().load(0x7000'0000);
            read_exit(say).vmresume().l2().store(page(0), 1).load(0x7000'0000);
            read_exit(say);
            add("AWalkThatFaultsIsLogged", say);
        }
    }

    void full() {
        for (const std::uint64_t index : {0U, 1U, 2U, 511U, 512U, 0x8000U, 0xFFFFU}) {
            Scenario say = world();
            say.vmwrite(field::pml_index, index).vmlaunch().l2().load(page(0)).store(page(0), 1);
            for (unsigned turn = 0; turn < 3; ++turn) {
                // Still no room: the same exit again. Then there is some.
                read_exit(say).vmresume().l2().store(page(turn), 2).store(page(turn + 1), 3);
                read_exit(say).vmwrite(field::pml_index, turn).vmresume();
                say.l2().store(page(turn), 2).store(page(turn + 1), 3).load(page(5)).vmcall();
            }
            read_exit(say);
            add("TheLogIsFullAtIndex" + std::to_string(index), say);
        }
        {
            // Of 512 pages each has its place.
            Scenario say = world();
            say.edit();
            for (unsigned number = 0; number < 3; ++number) {
                const std::uint64_t frame = far_frame(3) + number * std::uint64_t{0x1000};
                say.map(1, far_page(3) + number * std::uint64_t{0x1000}, frame).ept_map(0, frame, frame);
            }
            say.l1().vmwrite(field::pml_index, 2).vmlaunch().l2();
            for (unsigned number = 0; number < 3; ++number)
                say.store(far_page(3) + number * std::uint64_t{0x1000}, number);
            read_exit(say).vmwrite(field::pml_index, 511).vmresume().l2();
            for (unsigned number = 0; number < 3; ++number)
                say.store(far_page(3) + number * std::uint64_t{0x1000}, number);
            say.vmcall();
            read_exit(say);
            add("TheLogFills", say);
        }
    }

    void flags() {
        for (const std::uint64_t flags : {std::uint64_t{0}, accessed, accessed | dirty}) {
            const std::string suffix = std::to_string(flags >> 8);
            for (const bool room : {true, false}) {
                Scenario say = world(flags);
                say.vmlaunch().l2().store(page(0), 1).store(page(1), 1).vmcall();
                read_exit(say);
                for (unsigned turn = 0; turn < 3; ++turn) {
                    say.edit();
                    for (unsigned number = 0; number < 3; ++number)
                        say.ept_map(0, frame(number), frame(number), Scenario::ept_flags | flags);
                    say.l1().invept_single(eptp).vmwrite(field::pml_index, room ? 511 : 0xFFFF).vmresume();
                    say.l2().load(page(0)).load(page(2)).store(page(turn), 2).vmcall();
                    read_exit(say);
                }
                add("FlagsThatL1SetsAre" + suffix + (room ? "" : "WithAFullLog"), say);
            }
        }
        {
            // Without flags in EPT12, without the control, and again with both.
            Scenario say = world();
            say.vmwrite(field::ept_pointer, layout::eptp(0)).vmlaunch().l2().store(page(0), 1).vmcall();
            read_exit(say).vmwrite(field::ept_pointer, eptp).invept_all();
            say.vmwrite(field::secondary_processor_based_vm_execution_controls, secondary);
            say.vmresume().l2().store(page(1), 1).vmcall();
            read_exit(say).vmwrite(field::secondary_processor_based_vm_execution_controls,
                                   secondary | vmx::secondary::enable_pml);
            say.vmresume().l2().store(page(0), 1).store(page(1), 1).store(page(2), 1).vmcall();
            read_exit(say);
            add("WithoutFlagsOrControlNothingIsLogged", say);
        }
        {
            // Two L2s by one EPTP, of which one has a log.
            Scenario say = world();
            guest(say, layout::vmcs_region(1), 2)
                .vmwrite(field::secondary_processor_based_vm_execution_controls, secondary);
            say.vmlaunch().l2().store(page(0), 1).vmcall().l1().vmptrld(vmcs).vmlaunch();
            say.l2().store(page(0), 1).store(page(1), 1).vmcall();
            read_exit(say).vmptrld(layout::vmcs_region(1)).vmresume().l2().store(page(1), 1).vmcall();
            read_exit(say);
            add("OneOfTwoL2sHasALog", say);
        }
    }

    void entries() {
        Scenario say = world();
        for (const std::uint64_t address : {std::uint64_t{8}, std::uint64_t{1} << 47, log_page(0) + 0x800}) {
            say.vmwrite(field::pml_address, address).vmlaunch().vmread(field::vm_instruction_error);
        }
        say.vmwrite(field::pml_address, log_page(0));
        say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                    vmx::secondary::enable_vpid | vmx::secondary::enable_pml);
        say.vmlaunch().vmread(field::vm_instruction_error);
        say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                    secondary | vmx::secondary::use_tsc_scaling);
        say.vmwrite(field::tsc_multiplier, 0).vmlaunch().vmread(field::vm_instruction_error);
        say.vmwrite(field::tsc_multiplier, same_rate).vmlaunch().l2().store(page(0), 1).vmcall();
        read_exit(say);
        add("ALogOrMultiplierThatIsNone", say);
    }

    void scaling() {
        constexpr std::array<std::uint64_t, 4> offsets = {0, 0x1'0000'0000, ~std::uint64_t{0} << 20, 12345};
        // Whole ones: with a host's offset a fraction would be rounded once more.
        constexpr std::array<std::uint64_t, 4> multipliers = {same_rate, 2 * same_rate, 7 * same_rate,
                                                              3 * same_rate};
        {
            Scenario say = world();
            say.rdtsc().vmlaunch().l2().rdtsc();
            for (const std::uint64_t multiplier : multipliers) {
                for (const std::uint64_t offset : offsets) {
                    for (const std::uint32_t control :
                         {vmx::primary::use_tsc_offsetting, std::uint32_t{0},
                          vmx::primary::use_tsc_offsetting | vmx::primary::rdtsc_exiting}) {
                        say.l2().vmcall().l1().vmwrite(field::tsc_multiplier, multiplier);
                        say.vmwrite(field::tsc_offset, offset);
                        say.vmwrite(field::primary_processor_based_vm_execution_controls, usual | control);
                        say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                                    secondary | vmx::secondary::use_tsc_scaling);
                        say.vmresume().l2().rdtsc().load(page(1)).rdtsc().l1().rdtsc().vmresume();
                    }
                }
            }
            // Without the control the multiplier counts for nothing.
            say.l2().vmcall().l1().vmwrite(field::secondary_processor_based_vm_execution_controls, secondary);
            say.vmresume().l2().rdtsc().vmcall();
            read_exit(say);
            add("TheTimeStampCounterIsMultiplied", say, true);
        }
        {
            // Two L2s by turns, with rates of their own.
            Scenario say = world();
            guest(say, layout::vmcs_region(1), 2);
            for (const unsigned number : {1U, 0U}) {
                say.vmptrld(layout::vmcs_region(number));
                say.vmwrite(field::tsc_multiplier, multipliers[number + 1]);
                say.vmwrite(field::tsc_offset, offsets[number + 1]);
                say.vmwrite(field::primary_processor_based_vm_execution_controls,
                            usual | vmx::primary::use_tsc_offsetting);
                say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                            secondary | vmx::secondary::use_tsc_scaling);
                say.vmlaunch().l2().rdtsc().vmcall().l1();
            }
            for (unsigned turn = 0; turn < 8; ++turn) {
                say.vmptrld(layout::vmcs_region(turn % 2)).vmresume().l2().rdtsc().nop().rdtsc().vmcall();
                read_exit(say).rdtsc();
            }
            add("TwoL2sHaveRatesOfTheirOwn", say, true);
        }
        {
            // Parts of it, for a host without an offset.
            Scenario say = world();
            say.vmwrite(field::primary_processor_based_vm_execution_controls,
                        usual | vmx::primary::use_tsc_offsetting);
            say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                        secondary | vmx::secondary::use_tsc_scaling);
            for (const std::uint64_t multiplier :
                 {same_rate / 2, same_rate / 3, same_rate + 1, same_rate - 1, std::uint64_t{1},
                  ~std::uint64_t{0}, std::uint64_t{0x1234'5678'9ABC'DEF1}}) {
                say.vmwrite(field::tsc_multiplier, multiplier).vmlaunch().vmresume();
                say.l2().rdtsc().nop().nop().rdtsc().vmcall();
                read_exit(say).rdtsc();
            }
            all.push_back({0, "TheTimeStampCounterIsDivided", {}, say.program(), std::nullopt});
        }
    }
};

}  // namespace

std::vector<LedgerCase> log_cases() {
    return Cases().all;
}

}  // namespace flatback::machine
