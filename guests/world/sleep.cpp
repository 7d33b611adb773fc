// ACPI's sleep states that lose the processor: an L1 that woke from one would have no hypervisor.
#include "guests/world/support.hpp"

namespace world {
namespace {

u32 find_rsdp() {
    for (u32 at = 0xE0000; at < 0x100000; at += 16) {
        if (memory<u64>(at) == 0x2052'5450'2044'5352) return at;
    }
    return 0;
}

bool has_checksum(u32 table) {
    u8 sum = 0;
    for (u32 at = 0; at < memory<u32>(table + 4); ++at) sum = static_cast<u8>(sum + memory<u8>(table + at));
    return sum == 0;
}

}  // namespace

void check_sleep() {
    const u32 rsdp = find_rsdp();
    if (rsdp == 0) return check("sleep", false, "no ACPI");
    const u32 rsdt = memory<u32>(rsdp + 16);
    u32 fadt = 0;
    for (u32 at = rsdt + 36; at < rsdt + memory<u32>(rsdt + 4); at += 4) {
        if (memory<u32>(memory<u32>(at)) == 0x50434146) fadt = memory<u32>(at);
    }
    if (fadt == 0) return check("sleep", false, "no FADT");
    const u32 dsdt = memory<u32>(fadt + 40);
    bool off = false;
    bool to_memory = false;
    for (u32 at = dsdt + 36; at + 4 <= dsdt + memory<u32>(dsdt + 4); ++at) {
        off = off || memory<u32>(at) == 0x5F35535F;              // _S5_
        to_memory = to_memory || memory<u32>(at) == 0x5F33535F;  // _S3_
    }
    check("sleep-off-is-offered", off, "the DSDT has no _S5_");
    check("sleep-to-memory-is-not-offered", !to_memory, "the DSDT has _S3_");
    check("sleep-checksums", has_checksum(dsdt) && has_checksum(fadt), "the DSDT's or the FADT's is wrong");
    // Type 1 is this machine's S3, whatever the tables say.
    const u16 control = static_cast<u16>(memory<u32>(fadt + 64));
    out16(control, 1 << 10 | 1 << 13 | 1);
    check("sleep-request-is-refused-and-the-rest-of-the-write-is-not",
          (in16(control) & 0xFFFD) == (1 << 10 | 1), "the register reads otherwise");
    const u16 requests[3] = {1, 1 << 10 | 1 << 13, 1 << 11 | 1};  // the last alone stays
    out16_string(control, requests, 3);
    u16 read[4] = {0, 0, 0, 0xEEEE};
    in16_string(control, read, 3);
    check(
        "sleep-request-by-a-string-is-refused-and-the-rest-is-not",
        (read[0] & 0xFFFD) == (1 << 11 | 1) && read[1] == read[0] && read[2] == read[0] && read[3] == 0xEEEE,
        "the register reads otherwise");
    // PMBASE of the PIIX4, wherever it is on the bus.
    for (u32 function = 0; function < 32 * 8; ++function) {
        const u32 address = 0x80000000 | function << 8;
        out32(0xCF8, address);
        if (in32(0xCFC) != 0x71138086) continue;
        out32(0xCF8, address | 0x40);
        const u32 base = in32(0xCFC);
        out32(0xCFC, base ^ 0x1000);
        out16(0xCFC, static_cast<u16>(base ^ 0x1000));
        out8(0xCFD, static_cast<u8>(base >> 8 ^ 0x10));
        const u16 elsewhere = static_cast<u16>(base ^ 0x1000);
        out16_string(0xCFC, &elsewhere, 1);
        check("sleep-ports-stay-where-they-are", in32(0xCFC) == base, "their base was moved");
        out32(0xCFC, base);
        out32(0xCF8, address | 0x3C);
        const u8 line = in8(0xCFC);
        const u16 five = 5;
        out16_string(0xCFC, &five, 1);
        check("sleep-other-configuration-registers-are-written", in8(0xCFC) == 5, "one was not");
        out8(0xCFC, line);
    }
    check("sleep-s4bios-is-not-offered", memory<u8>(fadt + 54) == 0, "the FADT has S4BIOS_REQ");
}

}  // namespace world
