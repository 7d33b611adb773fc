// Tells a processor that has halted for good from one that is only waiting or silent.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "tools/emulator/debugger.hpp"

namespace flatback::tools {

// HLT with interrupts off is how systems end, and also how some wait for an NMI. It has ended where, after
// such a HLT and some silence, two examinations of the processor find it halted with interrupts off and no
// instruction executed between, though much emulated time went by.
class HaltWatch final {
public:
    using Time = std::chrono::steady_clock::time_point;
    enum class Verdict : std::uint8_t { running, examine, halted };

    // What is known now: how many such HLTs there were and how much was printed. `examine`: the debugger is
    // to be asked, and the answer told with `examined`; it is said once for each answer.
    [[nodiscard]] Verdict look(Time now, unsigned halts, std::size_t printed);

    void examined(Time now, const Examination& examination);

private:
    unsigned halts_ = 0;
    std::size_t printed_ = 0;
    Time quiet_since_;
    bool waiting_ = false;  // for an answer
    bool awake_ = false;    // it runs after its last HLT
    bool for_good_ = false;
    std::optional<Examination> first_;
};

}  // namespace flatback::tools
