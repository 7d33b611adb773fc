// Every way by which an L1 may ask for memory, against the boot loader's map: firmware calls E820H, E801H,
// 88H, INT 12H.
#include "guests/world/support.hpp"

namespace world {
namespace {

constexpr u32 smap = 0x534D4150;

void clear_operands() {
    firmware_registers().ebx = 0;
    firmware_registers().ecx = 0;
    firmware_registers().edx = 0;
}

struct Range {
    u64 start, length;
    u32 type;
};

// Is the byte usable memory by the Multiboot map?
bool usable(u32 information, u64 address) {
    const u32 map = memory<u32>(information + 48);
    const u32 end = map + memory<u32>(information + 44);
    bool found = false;
    for (u32 at = map; at < end; at += memory<u32>(at) + 4) {
        const u64 start = memory<u64>(at + 4);
        if (address < start || address - start >= memory<u64>(at + 12)) continue;
        if (memory<u32>(at + 20) != 1) return false;
        found = true;
    }
    return found;
}

// One call of E820H; false where the firmware reports an error.
bool ask(u32& next, Range& range, u32 size) {
    for (u32 at = 0; at < 32; at += 4) memory<u32>(firmware_buffer + at) = 0xEEEEEEEE;
    firmware_registers().eax = 0xE820;
    firmware_registers().ebx = next;
    firmware_registers().ecx = size;
    firmware_registers().edx = smap;
    firmware_registers().edi = firmware_buffer;
    firmware_registers().call = 0x15;
    call_firmware();
    if (carry()) return false;
    next = firmware_registers().ebx;
    range = {memory<u64>(firmware_buffer), memory<u64>(firmware_buffer + 8),
             memory<u32>(firmware_buffer + 16)};
    return true;
}

bool is_map_edge(u32 information, u64 address) {
    // The map's borders of usable memory: the byte before and the byte at it differ.
    return usable(information, address) != (address != 0 && usable(information, address - 1));
}

void check_e820(u32 information) {
    bool registers = true;
    bool same = true;
    u32 next = 0;
    u32 count = 0;
    u64 e820_usable = 0;
    do {
        Range range;
        if (!ask(next, range, count % 2 == 0 ? 20 : 24)) {
            // Some firmware says so after the last.
            if (count == 0) check("e820", false, "CF is set at the first call");
            break;
        }
        ++count;
        registers = registers && firmware_registers().eax == smap &&
                    (firmware_registers().ecx == 20 || firmware_registers().ecx == 24) &&
                    memory<u32>(firmware_buffer + 24) == 0xEEEEEEEE;
        Line{"FLATBACK text world.e820."}.decimal(count)
            << " " << range.start << " " << range.length << " " << u64{range.type};
        if (range.type != 1 || range.length == 0) continue;
        e820_usable += range.length;
        const u64 last = range.start + range.length - 1;
        // Its ends, its middle, and every 2 MB.
        same = same && usable(information, range.start) && usable(information, last);
        for (u64 at = range.start; at <= last; at += 0x200000) same = same && usable(information, at);
    } while (next != 0 && count < 200);
    u64 map_usable = 0;
    const u32 map = memory<u32>(information + 48);
    for (u32 at = map; at < map + memory<u32>(information + 44); at += memory<u32>(at) + 4) {
        if (memory<u32>(at + 20) == 1) map_usable += memory<u64>(at + 12);
    }
    check("e820-registers", registers, "EAX, ECX or the bytes behind the entry");
    check("e820-says-what-the-boot-loader-says", same && e820_usable == map_usable,
          "what is usable differs from the Multiboot map");

    next = 1000;
    Range range;
    check("e820-past-the-end", !ask(next, range, 20), "CF is clear");
    firmware_registers().eax = 0xE820;
    firmware_registers().ebx = 0;
    firmware_registers().ecx = 20;
    firmware_registers().edx = 0x12345678;
    call_firmware();
    check("e820-signature", carry() || firmware_registers().eax != smap, "answered without SMAP in EDX");
}

void check_sizes(u32 information) {
    firmware_registers().call = 0x15;
    firmware_registers().eax = 0xE801;
    clear_operands();
    call_firmware();
    const bool good = !carry();
    const u32 below_16 =
        (firmware_registers().ecx != 0 ? firmware_registers().ecx : firmware_registers().eax) & 0xFFFF;
    const u32 above_16 =
        (firmware_registers().ecx != 0 ? firmware_registers().edx : firmware_registers().ebx) & 0xFFFF;
    Line{"FLATBACK text world.e801 "} << u64{below_16} << " " << u64{above_16};
    bool same = good && below_16 <= 15 * 1024;
    for (u32 kb = 0; kb < below_16; kb += 64) same = same && usable(information, 0x100000 + u64{kb} * 1024);
    // Firmware counts the last piece where some of it is its own tables.
    for (u32 piece = 0; piece + 1 < above_16; ++piece)
        same = same && usable(information, 0x1000000 + u64{piece} * 0x10000);
    const u64 end = above_16 != 0 ? 0x1000000 + u64{above_16} * 0x10000 : 0x100000 + u64{below_16} * 1024;
    check("e801", same && !usable(information, end + 0x20000), "not the usable memory of the Multiboot map");

    firmware_registers().eax = 0x8800;
    call_firmware();
    const u32 kilobytes = firmware_registers().eax & 0xFFFF;
    Line{"FLATBACK text world.88 "} << u64{kilobytes};
    same = !carry() && kilobytes != 0;
    for (u32 kb = 0; kb < kilobytes; kb += 64) same = same && usable(information, 0x100000 + u64{kb} * 1024);
    check("88", same, "not the usable memory of the Multiboot map");

    // No other call tells another story: unsupported, or as above.
    bool none = true;
    constexpr u32 functions[] = {0xE881, 0xDA88, 0x8A00};
    for (const u32 function : functions) {
        firmware_registers().eax = function;
        clear_operands();
        call_firmware();
        if (carry()) continue;
        if (function != 0xE881 || (firmware_registers().edx & 0xFFFF) != above_16) none = false;
    }
    check("older-calls", none, "another size than E801H says");

    firmware_registers().call = 0x12;
    firmware_registers().eax = 0;
    call_firmware();
    const u32 base = firmware_registers().eax & 0xFFFF;
    Line{"FLATBACK text world.12 "} << u64{base};
    check("12", base == memory<u16>(0x413), "not the base memory of the BIOS data area");
    check("mem-lower", memory<u32>(information + 4) <= base, "more than INT 12H says");

    // What is not of memory goes on to the firmware: AH = C0H, the configuration table.
    firmware_registers().call = 0x15;
    firmware_registers().eax = 0xC000;
    call_firmware();
    check("other-calls", !carry() && (firmware_registers().eax & 0xFF00) == 0, "AH = C0H fails");
}

}  // namespace

void check_memory(u32 information) {
    check_e820(information);
    check_sizes(information);
    const u32 upper = memory<u32>(information + 8);
    bool same = upper != 0;
    for (u32 kb = 0; kb < upper; kb += 1024) same = same && usable(information, 0x100000 + u64{kb} * 1024);
    check("mem-upper", same && is_map_edge(information, 0x100000 + u64{upper} * 1024),
          "not the usable memory from 1 MB on of the Multiboot map");
}

}  // namespace world
