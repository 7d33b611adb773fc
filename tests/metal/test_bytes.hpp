// Images and tables for tests, built byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "metal/ground/bytes.hpp"

namespace flatback::metal {

class TestBytes {
public:
    TestBytes() = default;
    explicit TestBytes(std::size_t size) : bytes_(size) {}

    template <typename T>
    void put(std::size_t offset, T value) {
        if (bytes_.size() < offset + sizeof value) bytes_.resize(offset + sizeof value);
        std::memcpy(bytes_.data() + offset, &value, sizeof value);
    }
    template <typename T>
    void append(T value) {
        put(bytes_.size(), value);
    }
    void append_text(std::string_view text) {
        for (const char character : text) append(character);
        append('\0');
    }
    void pad_to(std::size_t alignment) {
        while (bytes_.size() % alignment != 0) append(std::byte{0});
    }
    template <typename T>
    [[nodiscard]] T get(std::size_t offset) const {
        T value{};
        std::memcpy(&value, bytes_.data() + offset, sizeof value);
        return value;
    }
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }
    [[nodiscard]] std::byte* data() { return bytes_.data(); }
    [[nodiscard]] Bytes view() const { return bytes_; }
    void resize(std::size_t size) { bytes_.resize(size); }

private:
    std::vector<std::byte> bytes_;
};

}  // namespace flatback::metal
