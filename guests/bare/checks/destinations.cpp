#include "guests/bare/checks/destinations.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/second_processor.hpp"

namespace flatback::guests {
namespace {

std::uint32_t format_of_both = flat;

void second_takes_its_place() {
    write_apic_register(destination_format, format_of_both);
    write_apic_register(logical_destination, second_is << 24);
}

}  // namespace

void take_places(std::uint32_t format) {
    format_of_both = format;
    write_apic_register(destination_format, format);
    write_apic_register(logical_destination, first_is << 24);
    static_cast<void>(do_on_second(second_takes_its_place));
}

void wait_ticks(std::uint64_t ticks) {
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < ticks) asm volatile("pause");
}

}  // namespace flatback::guests
