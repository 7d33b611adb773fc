// A vector of bounded size without allocation.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace flatback::metal {

template <typename T, std::size_t Capacity>
class InlineVector {
public:
    // False, and nothing is added, when it is full.
    [[nodiscard]] constexpr bool push_back(const T& value) {
        if (size_ == Capacity) return false;
        items_[size_++] = value;
        return true;
    }
    [[nodiscard]] constexpr std::size_t size() const { return size_; }
    [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
    // index < size()
    [[nodiscard]] constexpr T& operator[](std::size_t index) { return items_[index]; }
    [[nodiscard]] constexpr const T& operator[](std::size_t index) const { return items_[index]; }
    [[nodiscard]] constexpr std::span<T> items() { return {items_.data(), size_}; }
    [[nodiscard]] constexpr std::span<const T> items() const { return {items_.data(), size_}; }

private:
    std::array<T, Capacity> items_{};
    std::size_t size_ = 0;
};

}  // namespace flatback::metal
