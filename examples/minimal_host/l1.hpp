// The guest hypervisor that the examples run: L1, with two guests of its own.
#pragma once

#include <cstdint>
#include <flatback/machine/cpu/machine.hpp>
#include <functional>

namespace minimal_host {

// What a program needs of the virtual CPU it runs on.
struct VirtualCpu {
    enum class Ended { done, raised_exception, exited_to_l1 };

    flatback::machine::Machine& processor;  // for its registers
    std::function<Ended(const flatback::machine::Instruction&)> execute;
    std::function<std::uint64_t*(std::uint64_t)> l1_page;  // 512 words of L1's memory
};

// Puts L1's tables into its memory, as a boot loader would. Before the first instruction.
void load_l1(const std::function<std::uint64_t*(std::uint64_t)>& l1_page);
// True: every step did what a bare processor would do.
bool run_l1(const VirtualCpu& cpu);

}  // namespace minimal_host
