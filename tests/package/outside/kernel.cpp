// A program without any library, as a hypervisor is one. Linux runs it, so that a test can.
#include <cstddef>

#include "host.hpp"

// What GCC and clang call of themselves, in freestanding code too: the host brings these four.
extern "C" {
void* memcpy(void* to, const void* from, std::size_t size) {
    void* result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
    return result;
}
void* memset(void* to, int value, std::size_t size) {
    void* result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}
void* memmove(void* to, const void* from, std::size_t size) {
    if (to <= from) return memcpy(to, from, size);
    for (std::size_t left = size; left != 0; --left)
        static_cast<volatile char*>(to)[left - 1] = static_cast<const volatile char*>(from)[left - 1];
    return to;
}
int memcmp(const void* a, const void* b, std::size_t size) {
    const auto* left = static_cast<const volatile unsigned char*>(a);
    const auto* right = static_cast<const volatile unsigned char*>(b);
    for (; size != 0; --size, ++left, ++right)
        if (const int difference = *left - *right) return difference;
    return 0;
}

// As the C++ ABI calls it at the end of static initialization; this program has no end.
int __cxa_atexit(void (*)(void*), void*, void*) {
    return 0;
}
void* __dso_handle = nullptr;

extern void (*__init_array_start[])();
extern void (*__init_array_end[])();

[[noreturn, gnu::force_align_arg_pointer]] void _start() {
    for (auto* initialize = __init_array_start; initialize != __init_array_end; ++initialize) (*initialize)();
    const int status = use_the_engine();
    for (;;) asm volatile("syscall" ::"a"(60), "D"(status) : "rcx", "r11", "memory");
}
}
