#include "metal/ground/machine_check.hpp"

#include <cstdint>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/panic.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {

namespace {

// SDM 3B 16.3.1.1, 16.3.1.2, 16.3.2.2.
constexpr std::uint64_t in_progress = 1U << 2;       // IA32_MCG_STATUS.MCIP
constexpr std::uint64_t bank_count_mask = 0xff;      // of IA32_MCG_CAP
constexpr std::uint64_t bank_valid = 1ULL << 63;     // IA32_MCi_STATUS.VAL
constexpr std::uint64_t address_valid = 1ULL << 58;  // ADDRV
constexpr std::uint32_t bank_0_status = 0x401;
constexpr std::uint32_t msrs_a_bank = 4;
constexpr std::uint32_t most_banks = 32;  // more lie elsewhere on no processor that there is

}  // namespace

bool machine_check_in_progress() {
    return (try_read_msr(x86::msr::ia32_mcg_status).value_or(0) & in_progress) != 0;
}

void report_machine_check(const InterruptFrame& frame) {
    panic_begin();
    log::line("machine check while L0 ran, IA32_MCG_STATUS ",
              log::hex(try_read_msr(x86::msr::ia32_mcg_status).value_or(0)),
              ": the processor or the memory reported an error that nothing here can mend");
    const std::uint64_t banks = try_read_msr(x86::msr::ia32_mcg_cap).value_or(0) & bank_count_mask;
    for (std::uint32_t bank = 0; bank < banks && bank < most_banks; ++bank) {
        const std::uint32_t status_msr = bank_0_status + bank * msrs_a_bank;
        const std::uint64_t status = try_read_msr(status_msr).value_or(0);
        if ((status & bank_valid) == 0) continue;
        const std::uint64_t address =
            (status & address_valid) != 0 ? try_read_msr(status_msr + 1).value_or(0) : 0;
        log::line("[L0]   bank ", bank, " status ", log::hex(status), " address ", log::hex(address));
    }
    panic_finish(&frame);
}

}  // namespace flatback::metal
