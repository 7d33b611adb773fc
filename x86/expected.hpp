// A result or why there is none: what the engine uses of std::expected, which clang finds in the libraries of
// GCC 12 and 13 only by a macro that is the compiler's own.
#pragma once

#include <type_traits>

namespace flatback {

template <typename E>
struct Unexpected {
    E error;
};
template <typename E>
Unexpected(E) -> Unexpected<E>;

// Of values without destructors. value and error: only where there is one.
template <typename T, typename E>
class [[nodiscard]] Expected final {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_copyable_v<E>);

public:
    // NOLINTBEGIN(*-explicit-*): a function returns the one or the other
    constexpr Expected(const T& value) : value_(value), has_value_(true) {}
    template <typename F>
    constexpr Expected(const Unexpected<F>& without) : error_(without.error) {}
    // NOLINTEND(*-explicit-*)

    [[nodiscard]] constexpr bool has_value() const { return has_value_; }
    [[nodiscard]] constexpr explicit operator bool() const { return has_value_; }
    [[nodiscard]] constexpr const T& operator*() const { return value_; }
    [[nodiscard]] constexpr const T* operator->() const { return &value_; }
    [[nodiscard]] constexpr const E& error() const { return error_; }

private:
    union {
        T value_;
        E error_;
    };
    bool has_value_ = false;
};

template <typename E>
class [[nodiscard]] Expected<void, E> final {
    static_assert(std::is_trivially_copyable_v<E>);

public:
    constexpr Expected() : nothing_{}, has_value_(true) {}
    // NOLINTNEXTLINE(*-explicit-*): a function returns the one or the other
    template <typename F>
    constexpr Expected(const Unexpected<F>& without) : error_(without.error) {}

    [[nodiscard]] constexpr bool has_value() const { return has_value_; }
    [[nodiscard]] constexpr explicit operator bool() const { return has_value_; }
    [[nodiscard]] constexpr const E& error() const { return error_; }

    friend constexpr bool operator==(const Expected& a, const Expected& b) {
        return a.has_value_ == b.has_value_ && (a.has_value_ || a.error_ == b.error_);
    }

private:
    struct Nothing {};
    union {
        Nothing nothing_;
        E error_;
    };
    bool has_value_ = false;
};

}  // namespace flatback
