#include "metal/ground/machine_check.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/machine_check_verdict.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/this_processor.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {

namespace {

constexpr std::uint32_t bank_0_status = 0x401;
constexpr std::uint32_t msrs_a_bank = 4;
constexpr std::size_t most_banks = 32;  // more lie elsewhere on no processor that there is

// What the processor says, read once.
struct Said {
    std::uint64_t global_status = 0;
    std::uint64_t capability = 0;
    std::array<std::uint64_t, most_banks> banks{};
    std::size_t banks_used = 0;

    [[nodiscard]] bool can_go_on() const {
        return machine_check::can_go_on(global_status, capability, std::span{banks}.first(banks_used));
    }
};

constexpr std::uint32_t status_msr(std::size_t bank) {
    return bank_0_status + static_cast<std::uint32_t>(bank) * msrs_a_bank;
}

Said read_registers() {
    Said said;
    said.global_status = try_read_msr(x86::msr::ia32_mcg_status).value_or(0);
    said.capability = try_read_msr(x86::msr::ia32_mcg_cap).value_or(0);
    said.banks_used =
        std::min<std::size_t>(said.capability & machine_check::bank_count_mask, said.banks.size());
    for (std::size_t bank = 0; bank < said.banks_used; ++bank)
        said.banks[bank] = try_read_msr(status_msr(bank)).value_or(0);
    return said;
}

[[noreturn]] void report(const Said& said, const InterruptFrame* frame) {
    panic_begin();
    log::line("machine check while L0 ran, IA32_MCG_STATUS ", log::hex(said.global_status),
              ": the processor or the memory reported an error that nothing here can mend");
    for (std::size_t bank = 0; bank < said.banks_used; ++bank) {
        const std::uint64_t status = said.banks[bank];
        if ((status & machine_check::bank_valid) == 0) continue;
        const std::uint64_t address =
            (status & machine_check::address_valid) != 0 ? try_read_msr(status_msr(bank) + 1).value_or(0) : 0;
        log::line("[L0]   bank ", bank, " status ", log::hex(status), " address ", log::hex(address));
    }
    panic_finish(frame);
}

void take(const InterruptFrame* frame) {
    if (this_processor().start.load() == ProcessorLocal::Start::waits) return forget_machine_check();
    const Said said = read_registers();
    if (!said.can_go_on()) report(said, frame);
    // The RIP that the guest finds with it is not L0's, of which EIPV speaks.
    static_cast<void>(
        try_write_msr(x86::msr::ia32_mcg_status, said.global_status & ~machine_check::rip_is_the_cause));
    set_nmi_state(nmi_state::machine_check_came);
}

}  // namespace

bool machine_check_in_progress() {
    return (try_read_msr(x86::msr::ia32_mcg_status).value_or(0) & machine_check::in_progress) != 0;
}

void take_machine_check(const InterruptFrame& frame) {
    take(&frame);
}

void take_machine_check_of_entry() {
    take(nullptr);
}

void forget_machine_check() {
    static_cast<void>(try_write_msr(x86::msr::ia32_mcg_status, 0));
}

}  // namespace flatback::metal
