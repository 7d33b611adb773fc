#pragma once

#include <utility>
#include <variant>

namespace flatback::machine {

template <typename Error>
struct Refused {
    explicit Refused(Error why) : error(std::move(why)) {}

    Error error;
};

/// A value, or why there is none. As std::expected, which clang before 16 can't build with GCC's library
/// where a member has a destructor; the fuzz targets are built with it.
template <typename Value, typename Error>
class [[nodiscard]] Result {
public:
    Result(Value value) : content_(std::in_place_index<0>, std::move(value)) {}
    Result(Refused<Error> refused) : content_(std::in_place_index<1>, std::move(refused.error)) {}

    [[nodiscard]] bool has_value() const { return content_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    [[nodiscard]] const Value& value() const { return std::get<0>(content_); }
    const Value& operator*() const { return value(); }
    const Value* operator->() const { return &value(); }
    [[nodiscard]] const Error& error() const { return std::get<1>(content_); }

private:
    std::variant<Value, Error> content_;
};

}  // namespace flatback::machine
