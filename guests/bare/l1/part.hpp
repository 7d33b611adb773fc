// One part of this guest, guarded: a part that hangs, or that meets an exception which nobody asked for, is
// told as a failed check and left, and the next one runs. On a VMX that does something unforeseen the other
// parts still count.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/bare/l1/interrupts.hpp"

namespace flatback::guests {

struct Part {
    std::string_view name;
    void (*run)();
    // What the part is about, where a processor need not have it.
    bool (*offered)() = nullptr;
    std::string_view about = {};
    // Where all processors run the parts at once (beside.hpp): whether this one can, and why not.
    enum class Beside : std::uint8_t { at_once, by_turns, never };
    Beside beside = Beside::at_once;
    std::string_view why_not = {};
};

// Runs the part for up to `seconds` of the machine's real-time clock; 0: however long it takes.
void run_part(const Part& part, unsigned seconds);

// Ends the part that runs, whose failure this tells; ends the whole run where none does.
[[noreturn]] void leave_part(std::string_view why);

// Ends the part if its time is up: for what comes from L2 where something else was expected.
void leave_part_if_time_is_up();

// For the NMI handler: where the part's time is up, its IRET ends the part.
bool time_is_up(InterruptFrame& frame);

}  // namespace flatback::guests
