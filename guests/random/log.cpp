#include "guests/random/log.hpp"

#include "guests/bare/port.hpp"

namespace flatback::guests {

constinit LogPlace log_place{};

void log_line(const Line& line) {
    constexpr std::uint16_t debug_port = 0xE9;
    Line whole;
    whole << log_place.case_number << "/" << log_place.variant << "." << log_place.step << " " << line.text();
    for (const char character : whole.text()) out_byte(debug_port, static_cast<std::uint8_t>(character));
    out_byte(debug_port, '\n');
}

}  // namespace flatback::guests
