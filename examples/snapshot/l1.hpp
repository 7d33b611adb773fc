// A guest hypervisor with two guests. All that it is lies in memory and registers: which instruction comes
// next is a number in R15.
#pragma once

#include <flatback/machine/cpu/machine.hpp>

#include "../minimal_host/host.hpp"

namespace snapshot {

class L1 {
public:
    L1(flatback::machine::Machine& processor, minimal_host::Host& host)
        : processor_(processor), host_(host) {}

    // Its tables, before the first instruction.
    void load();
    // The next step of whichever guest's turn it is. False: the program is over.
    bool step();
    [[nodiscard]] std::uint64_t steps_done() const { return processor_.cpu(0).registers.general[15]; }
    // What both guests have computed, as L1 finds it in memory; 0 where anything was not as it should be.
    [[nodiscard]] std::uint64_t result();

private:
    std::uint64_t& general(unsigned number) { return processor_.cpu(0).registers.general[number]; }
    bool execute(const flatback::machine::Instruction& instruction);
    bool with_operand(flatback::machine::Opcode opcode, std::uint64_t operand);
    bool vmwrite(std::uint64_t encoding, std::uint64_t value);
    std::uint64_t vmread(std::uint64_t encoding);
    std::uint32_t control(std::uint32_t capability_msr, std::uint32_t wanted);
    bool prepare(unsigned which);
    bool do_step(std::uint64_t number);

    flatback::machine::Machine& processor_;
    minimal_host::Host& host_;
};

}  // namespace snapshot
