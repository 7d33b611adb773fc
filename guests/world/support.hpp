// What the checks share: the machine's instructions, records on COM1 (tools/emulator/serial_record.hpp), the
// firmware's calls. Compiled for 32 bits without a library.
#pragma once

namespace world {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// Physical memory: the kernel runs without paging.
template <typename T>
volatile T& memory(u32 address) {
    return *reinterpret_cast<volatile T*>(address);
}

inline void out8(u16 port, u8 value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
inline void out16(u16 port, u16 value) {
    asm volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
inline u16 in16(u16 port) {
    u16 value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
inline void out32(u16 port, u32 value) {
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
// count elements of 16 bits (REP OUTSW, REP INSW).
inline void out16_string(u16 port, const u16* from, u32 count) {
    asm volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}
inline void in16_string(u16 port, u16* into, u32 count) {
    asm volatile("rep insw" : "+D"(into), "+c"(count) : "d"(port) : "memory");
}
inline u8 in8(u16 port) {
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
inline u32 in32(u16 port) {
    u32 value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

// A line on COM1.
class Line {
public:
    explicit Line(const char* text) { *this << text; }
    ~Line() { put('\n'); }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    Line& operator<<(const char* text);
    Line& operator<<(u64 number);  // hexadecimal
    Line& decimal(u32 number);

private:
    static void put(char character);
};

inline void print_line(const char* text) {
    const Line line{text};
}

// A check's record: passed, or failed for this reason.
void check(const char* name, bool passed, const char* why);

struct FirmwareRegisters {
    u32 eax, ebx, ecx, edx, edi, flags;
    u8 call;  // 12H, or else 15H
};
inline volatile FirmwareRegisters& firmware_registers() {
    return memory<FirmwareRegisters>(0x7E00);
}
inline constexpr u32 firmware_buffer = 0x7E80;
extern "C" void call_firmware();
inline bool carry() {
    return (firmware_registers().flags & 1) != 0;
}

// The checks; the Multiboot information's address.
void check_memory(u32 information);
void check_smram();
void check_processors(u32 running);
void print_information(u32 information);
void check_hole(u32 information);
void check_sleep();
void check_sleep_in_memory();
void check_smi();

}  // namespace world
