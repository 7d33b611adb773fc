// Other processors, where the machine has some: started by INIT and SIPI, and given work by the first. What
// each has of its own (enter_l2.S) lies at GS, whose base is 0 on the first.
#pragma once

#include <cstdint>

namespace flatback::guests {

// INIT, SIPI, SIPI to all others (SDM 3A 9.4.4.1); the first that answers is the second processor. False:
// none does.
bool start_second_processor();

// Those that have answered so far have the numbers 0, the second processor's, to others() - 1.
constexpr unsigned most_others = 7;
unsigned others();
// On one of them: which.
unsigned this_other();
void begin_on_other(unsigned which, void (*work)());
bool finish_on_other(unsigned which);
inline bool do_on_other(unsigned which, void (*work)()) {
    begin_on_other(which, work);
    return finish_on_other(which);
}

// INIT alone, SIPI alone, and any interrupt command.
void send_init_to_second();
void send_start_to_second();
void send_to_second(std::uint32_t command);

// INIT alone, to one that has answered; and whether one has done its work, without waiting.
void send_init_to_other(unsigned which);
bool has_finished(unsigned which);

// Its APIC's; once it has come.
std::uint32_t second_apic_identifier();

// How often it came from SIPI to second_main.
std::uint32_t second_arrivals();
// What it found in EDX and CR0 then.
std::uint32_t second_edx();
std::uint32_t second_cr0();

// Has it do this. begin_on_second returns at once, finish_on_second when it is done; false: it does not come
// to an end.
inline void begin_on_second(void (*work)()) {
    begin_on_other(0, work);
}
inline bool finish_on_second() {
    return finish_on_other(0);
}
inline bool do_on_second(void (*work)()) {
    begin_on_second(work);
    return finish_on_second();
}

}  // namespace flatback::guests
