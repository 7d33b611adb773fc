// Copies of this hypervisor beside it, one for each other processor: the same program linked for another
// place, which the loader brings as modules. So every processor can run the same checks at the same time,
// though a check has memory of its own at fixed places. What they share is the machine, and the structure
// here.
#pragma once

#include <cstdint>

namespace flatback::guests::beside {

constexpr unsigned most_processors = 4;

// In the memory of the first.
struct Shared {
    std::uint32_t boot_information;
    std::uint32_t processors;
    volatile std::uint32_t line;                  // who writes one has 1 here
    volatile std::uint32_t met[2];                // how many have come to each meeting
    volatile std::uint32_t turn;                  // whose it is, from 0 on
    volatile std::uint64_t end[most_processors];  // by the TSC: of the checks that all run at once, on each
};

// Starts the other processors, and a copy on as many as there are modules with one. Null: why it cannot.
struct Started {
    const char* wrong;
    Shared* shared;
};
Started start_copies(std::uint32_t boot_information);

// Lines that these write come whole, and their checks with the number.
void share_lines(Shared& shared, std::uint32_t processor);

// Waits until all processors have come to this meeting.
void meet(Shared& shared, unsigned meeting);

// Waits for this processor's turn, with an L2 that exits all the time, so that whoever has it is not alone.
void wait_for_turn(Shared& shared, std::uint32_t turn);
void end_turn(Shared& shared);

}  // namespace flatback::guests::beside
