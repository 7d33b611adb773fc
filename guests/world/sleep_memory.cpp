// The same as sleep.cpp where ACPI's tables say that the registers are in memory: those of
// tools/check/sleep_tables.cpp, which name ordinary memory, so that what reaches it is seen.
#include "guests/world/support.hpp"

namespace world {
namespace {

constexpr u32 control = 0x3000804;  // PM1b control
constexpr u32 beside = 0x3000900;   // on its page
constexpr u32 power_management =
    0x4000000 + (0xB << 12);                   // in configuration space: PIIX4, function 3 of device 1
constexpr u32 base = power_management + 0x40;  // PMBASE
constexpr u32 other = power_management + 0x3C;
constexpr u32 host_bridge = 0x4000000;

// A request of type 1 in the register's second byte, which no table allows, and of type 5, which is S5's.
constexpr u32 request = 1 << 10 | 1 << 13;
constexpr u32 without = 1 << 10;
constexpr u32 power_off = 5 << 10 | 1 << 13;

u32 exchange(u32 address, u32 value) {
    asm volatile("xchgl %0, %1" : "+r"(value), "+m"(memory<u32>(address)));
    return value;
}

// Each writes a word there by another instruction: the first ones L0 reads, the others go to a page in its
// place.
using Write = void (*)(u32 address, u32 value);
constexpr Write writes[] = {
    [](u32 address, u32 value) { memory<u32>(address) = value; },
    [](u32 address, u32 value) { memory<u16>(address) = static_cast<u16>(value); },
    [](u32 address, u32 value) {
        memory<u8>(address) = static_cast<u8>(value);
        asm volatile("movb %%ah, %0" : "=m"(memory<u8>(address + 1)) : "a"(value));
    },
    [](u32 address, u32 value) { static_cast<void>(exchange(address, value)); },
    [](u32 address, u32 value) {
        asm volatile("xorw %%ax, %0" : "+m"(memory<u16>(address)) : "a"(value ^ memory<u16>(address)) : "cc");
    },
    [](u32 address, u32 value) {
        const u32* from = &value;
        asm volatile("movsl" : "+S"(from), "+D"(address) : "m"(value) : "memory");
    },
    [](u32 address, u32 value) {
        u32 stack;
        asm volatile("movl %%esp, %0; movl %1, %%esp; pushl %2; movl %0, %%esp"
                     : "=&r"(stack)
                     : "r"(address + 4), "r"(value)
                     : "memory");
    },
};

}  // namespace

void check_sleep_in_memory() {
    u32 bad_requests = 0;
    u32 bad_rests = 0;
    u32 bad_bases = 0;
    u32 bit = 1;
    for (const Write write : writes) {
        write(control, 0);
        write(control, request | 1);
        if ((memory<u16>(control) & ~3U) != without) bad_requests |= bit;
        write(control, power_off);
        if ((memory<u16>(control) & ~3U) != power_off) bad_rests |= bit;
        write(beside, 0x12345678 + bit);
        if (memory<u16>(beside) != ((0x12345678 + bit) & 0xFFFF)) bad_rests |= bit;
        write(other, 0x55AA0000 + bit);
        if (memory<u16>(other) != bit) bad_rests |= bit;
        const u32 before = memory<u32>(base);
        write(base, before ^ 0x1010);
        write(base + 2, before ^ 0x1010);
        if (memory<u32>(base) != before) bad_bases |= bit;
        bit <<= 1;
    }
    if ((bad_requests | bad_rests | bad_bases) != 0)
        Line{"ways of writing that went wrong, a bit each: "} << bad_requests << " " << bad_rests << " "
                                                              << bad_bases;
    check("sleep-request-in-memory-is-refused-and-the-rest-of-the-write-is-not", bad_requests == 0,
          "the register reads otherwise");
    check("sleep-other-writes-to-such-registers-are-done", bad_rests == 0, "one reads otherwise");
    check("sleep-ports-stay-where-they-are-by-configuration-space-in-memory", bad_bases == 0,
          "their base was moved");
    memory<u32>(control) = 0x89ABCDEF & ~request;
    check("sleep-exchange-gives-what-was-there",
          exchange(control, request) == (0x89ABCDEF & ~request) && memory<u32>(control) == without,
          "another value");
    memory<u32>(host_bridge + 0x60) = 0;
    check("sleep-other-functions-configuration-is-written", memory<u32>(host_bridge + 0x60) == 0,
          "it was not");
    // Across the end of the page before, where the register's own page is the second.
    *reinterpret_cast<volatile u32*>(power_management - 2) = 0xFFFFFFFF;
    check("sleep-a-write-from-the-page-before-is-done",
          memory<u16>(power_management - 2) == 0xFFFF && memory<u16>(power_management) == 0xFFFF,
          "one of its halves is missing");
}

}  // namespace world
