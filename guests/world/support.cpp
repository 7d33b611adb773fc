#include "guests/world/support.hpp"

namespace world {

void Line::put(char character) {
    while ((in8(0x3FD) & 0x20) == 0) {
    }
    out8(0x3F8, static_cast<u8>(character));
}

Line& Line::operator<<(const char* text) {
    for (; *text != 0; ++text) put(*text);
    return *this;
}

Line& Line::operator<<(u64 number) {
    bool begun = false;
    *this << "0x";
    for (int shift = 60; shift >= 0; shift -= 4) {
        const u32 digit = static_cast<u32>(number >> shift) & 15;
        begun = begun || digit != 0 || shift == 0;
        if (begun) put("0123456789abcdef"[digit]);
    }
    return *this;
}

Line& Line::decimal(u32 number) {
    if (number >= 10) decimal(number / 10);
    put(static_cast<char>('0' + number % 10));
    return *this;
}

void check(const char* name, bool passed, const char* why) {
    Line line{"FLATBACK check world."};
    line << name;
    if (passed) {
        line << " pass";
    } else {
        line << " fail " << why;
    }
}

}  // namespace world
