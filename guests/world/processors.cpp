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

// How many the MultiProcessor Specification's table has enabled; 0 where there is none.
u32 listed_processors() {
    for (u32 pointer = 0xF0000; pointer < 0x100000; pointer += 16) {
        if (memory<u32>(pointer) != 0x5F504D5F) continue;  // "_MP_"
        const u32 table = memory<u32>(pointer + 4);
        const u32 length = memory<u16>(table + 4);
        u32 enabled = 0;
        u8 sum = 0;
        for (u32 at = 0; at < length; ++at) sum = static_cast<u8>(sum + memory<u8>(table + at));
        check("processors-table-checksum", sum == 0,
              "that of the MultiProcessor Specification's table is wrong");
        for (u32 at = 44; at < length;) {
            const bool processor = memory<u8>(table + at) == 0;
            if (processor && (memory<u8>(table + at + 3) & 1) != 0) ++enabled;
            at += processor ? 20 : 8;
        }
        return enabled;
    }
    return 0;
}

}  // namespace

void check_processors(u32 running) {
    const u32 listed = listed_processors();
    Line{"FLATBACK text world.processors_listed "} << u64{listed};
    check("processors-table-lists-those-that-there-are", listed == 1 + running,
          "the MultiProcessor Specification's table has others");
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
