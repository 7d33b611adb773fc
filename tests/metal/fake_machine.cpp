// What L0's parts need of the machine, on the host: physical addresses are host addresses, a panic is an
// exception.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "metal/ground/panic.hpp"
#include "metal/memory/address_space.hpp"

namespace flatback::metal {

void* direct_map(x86::Hpa address) {
    return reinterpret_cast<void*>(address.value());
}
x86::Hpa physical_of(const void* object) {
    return x86::Hpa{reinterpret_cast<std::uint64_t>(object)};
}

namespace {
std::string panic_text;
}

namespace log {
LogLevel level() {
    return LogLevel::debug;
}
void write(std::string_view text) {
    panic_text += text;
}
void write(Hex value) {
    panic_text += std::to_string(value.value);
}
void write_unsigned(std::uint64_t value) {
    panic_text += std::to_string(value);
}
void write_signed(std::int64_t value) {
    panic_text += std::to_string(value);
}
Whole::Whole() = default;
Whole::~Whole() = default;
void break_in() {}
void write_prefix() {}
}  // namespace log

void panic_begin(std::string_view /*whose*/) {
    panic_text.clear();
}
void panic_finish(const InterruptFrame*) {
    throw std::runtime_error(panic_text);
}
void refuse_finish() {
    throw std::runtime_error(panic_text);
}

}  // namespace flatback::metal
