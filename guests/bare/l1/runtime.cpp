// What the compiler may call without a C library.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* destination, const void* source, std::size_t size) {
    void* const result = destination;
    asm volatile("rep movsb" : "+D"(destination), "+S"(source), "+c"(size) : : "memory");
    return result;
}

void* memset(void* destination, int value, std::size_t size) {
    void* const result = destination;
    asm volatile("rep stosb" : "+D"(destination), "+c"(size) : "a"(value) : "memory");
    return result;
}

int memcmp(const void* left, const void* right, std::size_t size) {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (std::size_t i = 0; i < size; ++i) {
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    }
    return 0;
}

std::size_t strlen(const char* text) {
    std::size_t size = 0;
    while (text[size] != 0) ++size;
    return size;
}

void* memmove(void* destination, const void* source, std::size_t size) {
    auto* to = static_cast<unsigned char*>(destination);
    const auto* from = static_cast<const unsigned char*>(source);
    if (reinterpret_cast<std::uintptr_t>(to) <= reinterpret_cast<std::uintptr_t>(from))
        return memcpy(destination, source, size);
    while (size > 0) {
        --size;
        to[size] = from[size];
    }
    return destination;
}

// What libqrcodegen was linked against.
char* strchr(const char* text, int character) {
    for (;; ++text) {
        if (*text == static_cast<char>(character)) return const_cast<char*>(text);
        if (*text == 0) return nullptr;
    }
}
void* __memset_chk(void* destination, int value, std::size_t size, std::size_t room) {
    if (size > room) __builtin_trap();
    return memset(destination, value, size);
}
[[noreturn]] void __stack_chk_fail() {
    __builtin_trap();
}
[[noreturn]] void __assert_fail(const char*, const char*, unsigned, const char*) {
    __builtin_trap();
}

}  // extern "C"
