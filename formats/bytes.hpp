// Little-endian numbers and strings in untrusted bytes: every access is bounded.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace flatback::formats {

using Bytes = std::span<const std::byte>;

template <std::unsigned_integral T>
[[nodiscard]] std::optional<T> read(Bytes bytes, std::uint64_t offset) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

// `size` bytes at `offset`; absent if they are not all there.
[[nodiscard]] inline std::optional<Bytes> slice(Bytes bytes, std::uint64_t offset, std::uint64_t size) {
    if (offset > bytes.size() || bytes.size() - offset < size) return std::nullopt;
    return bytes.subspan(offset, size);
}

// The text up to the first NUL; absent if there is none.
[[nodiscard]] inline std::optional<std::string_view> read_text(Bytes bytes) {
    const std::string_view all{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    const std::size_t end = all.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    return all.substr(0, end);
}

// As memcpy, but nothing may be copied from nowhere: the data of an empty view is null.
inline void copy_bytes(std::byte* to, const void* from, std::size_t size) {
    if (size != 0) std::memcpy(to, from, size);
}

// false if it does not fit.
template <std::unsigned_integral T>
[[nodiscard]] bool write(std::span<std::byte> bytes, std::uint64_t offset, T value) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    return true;
}

// Into a block that was made large enough for all that is put there; what does not fit is left out.
template <typename T>
void put(std::span<std::byte> bytes, std::uint64_t offset, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return;
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace flatback::formats
