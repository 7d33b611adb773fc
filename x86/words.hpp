// Access to L1's memory, which L1's other processors and its devices may be writing at the same time: each
// word is read once and written once, whatever the compiler would rather do. Nothing is promised of two words
// together; who needs that copies them first and looks at the copy.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace flatback::x86 {

// One word, aligned to its size.
template <std::integral T>
[[nodiscard, gnu::always_inline]] inline T read_word(const T* where) {
    return __atomic_load_n(where, __ATOMIC_RELAXED);
}
template <std::integral T>
[[nodiscard, gnu::always_inline]] inline T read_word(const std::byte* where) {
    return read_word(reinterpret_cast<const T*>(where));
}
template <std::integral T>
[[gnu::always_inline]] inline void write_word(T* where, T value) {
    __atomic_store_n(where, value, __ATOMIC_RELAXED);
}
// Sets bits in a word that was read as `seen`. False: it is another one by now, and stays as it is.
template <std::integral T>
[[nodiscard]] bool set_bits(T* where, T seen, std::uint64_t bits) {
    const auto wanted = static_cast<T>(seen | bits);
    return seen == wanted ||
           __atomic_compare_exchange_n(where, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

// Read and written in one piece, whoever else writes there (SDM 3A 9.1.2).
template <std::integral T>
[[nodiscard]] T exchange_word(T* where, T value) {
    return __atomic_exchange_n(where, value, __ATOMIC_SEQ_CST);
}
template <std::integral T>
void or_word(T* where, T bits) {
    __atomic_fetch_or(where, bits, __ATOMIC_SEQ_CST);
}
template <std::integral T>
void and_word(T* where, T bits) {
    __atomic_fetch_and(where, bits, __ATOMIC_SEQ_CST);
}

// Any number of bytes at any address, each moved once. For a reader or writer beside it the whole 64-bit
// words of the copy change at once, where they do not cross a cache line (SDM 3A 9.1.1); memcpy() would leave
// all of that to the compiler.
[[gnu::always_inline]] inline void copy_once(void* to, const void* from, std::size_t bytes) {
    std::size_t words = bytes / 8;
    std::size_t rest = bytes % 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest)::"memory");
}

}  // namespace flatback::x86
