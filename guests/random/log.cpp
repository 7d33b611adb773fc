#include "guests/random/log.hpp"

#include "guests/bare/l1/port.hpp"
#include "guests/bare/l1/serial.hpp"
#include "guests/random/steps.hpp"

namespace flatback::guests {

constinit LogPlace log_place{};

void log_line(const Line& line) {
    constexpr std::uint16_t debug_port = 0xE9;
    Line whole;
    whole << log_place.case_number << "/" << log_place.variant << "." << log_place.step << " " << line.text();
    for (const char character : whole.text()) out_byte(debug_port, static_cast<std::uint8_t>(character));
    out_byte(debug_port, '\n');
    // One case in detail is for people, who see COM1.
    if (!log_everything) return;
    whole << "\n";
    for (const char character : whole.text()) write_serial(character);
}

}  // namespace flatback::guests
