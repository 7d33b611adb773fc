#include "guests/lat_ctx/column.hpp"

#include <charconv>

namespace flatback::guests {
namespace {

constexpr unsigned least_processes = 2;

}  // namespace

std::string column_name(const Column& column) {
    return std::to_string(column.processes) + "p/" + std::to_string(column.kilobytes) + "K";
}

std::optional<Column> parse_column(std::string_view name) {
    constexpr std::string_view middle = "p/";
    Column column{};
    const char* const end = name.data() + name.size();
    const auto [after_processes, first_error] = std::from_chars(name.data(), end, column.processes);
    if (first_error != std::errc{} ||
        !std::string_view(after_processes, static_cast<std::size_t>(end - after_processes))
             .starts_with(middle)) {
        return std::nullopt;
    }
    const auto [after_size, second_error] =
        std::from_chars(after_processes + middle.size(), end, column.kilobytes);
    if (second_error != std::errc{} || after_size + 1 != end || *after_size != 'K' ||
        column.processes < least_processes || column.processes > most_processes ||
        column.kilobytes > most_kilobytes) {
        return std::nullopt;
    }
    return column;
}

}  // namespace flatback::guests
