#include "tools/ground/format_number.hpp"

#include <fmt/format.h>

#include <cmath>

namespace flatback::tools {

std::string format_number(double value) {
    constexpr double rounding = 1000;
    const auto thousandths = std::llround(std::abs(value) * rounding);
    if (value < 0 && thousandths != 0) return "-" + format_number(-value);
    std::string digits = fmt::format("{}", thousandths / 1000);
    for (std::size_t place = digits.size(); place > 3;) {
        place -= 3;
        digits.insert(place, 1, ',');
    }
    if (thousandths % 1000 == 0) return digits;
    std::string fraction = fmt::format("{:03}", thousandths % 1000);
    while (fraction.back() == '0') fraction.pop_back();
    return digits + "." + fraction;
}

}  // namespace flatback::tools
