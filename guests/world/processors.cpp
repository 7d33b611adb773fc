// The other processors, started as every system starts them (SDM 3A 9.4.4).
#include "guests/world/support.hpp"

extern "C" const char other_processor[], other_processor_end[];

namespace world {
namespace {

constexpr u32 code = 0x8000;
constexpr u32 started = 0x7FF0;

// Reads of the port take at least 100 ns on every machine.
void wait(u32 reads) {
    while (reads-- != 0) static_cast<void>(in8(0x80));
}

void send(u32 command) {
    memory<u32>(0xFEE00310) = 0;
    memory<u32>(0xFEE00300) = command;
    for (u32 tries = 0; tries < 100000 && (memory<u32>(0xFEE00300) & 1 << 12) != 0; ++tries) {
    }
}

}  // namespace

void check_processors(u32 running) {
    for (u32 at = 0; other_processor + at != other_processor_end; ++at)
        memory<u8>(code + at) = static_cast<u8>(other_processor[at]);
    memory<u16>(started) = 0;
    memory<u32>(0xFEE000F0) = memory<u32>(0xFEE000F0) | 0x100;
    constexpr u32 all_others = 3 << 18;
    for (u32 round = 0; round < 2; ++round) {
        send(all_others | 0x4500);  // INIT, assert
        wait(100'000);
        send(all_others | 0x8500);  // INIT, deassert
        send(all_others | 0x4600 | code >> 12);
        wait(20'000);
        send(all_others | 0x4600 | code >> 12);
        wait(1'000'000);
    }
    Line{"FLATBACK text world.processors_started "} << u64{memory<u16>(started)};
    check("processors", memory<u16>(started) >= running && (running != 0 || memory<u16>(started) == 0),
          "not so many other processors run as should");
}

}  // namespace world
