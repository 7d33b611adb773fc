#include "metal/firmware/kept_registers.hpp"

#include <algorithm>

namespace flatback::metal {
namespace {

constexpr std::uint64_t page_mask = ~std::uint64_t{0xFFF};

// Which byte of a write lies at an address.
std::optional<unsigned> byte_at(const RegisterWrite& write, std::uint64_t address) {
    const std::uint64_t byte = address - write.address;
    if (byte >= write.size) return std::nullopt;
    return static_cast<unsigned>(byte);
}

bool reaches(const RegisterWrite& write, std::uint64_t double_word) {
    return write.address < double_word + 4 && double_word < write.address + write.size;
}

}  // namespace

KeptRegisters::KeptRegisters(const SleepControl& control) : control_(control) {
    for (std::size_t i = 0; i < control.request_bytes_used; ++i) add_page(control.request_bytes[i]);
    if (!control.memory_configuration) return;
    for (const std::uint32_t fixed : control.fixed())
        add_page(in_memory_configuration(*control.memory_configuration, fixed));
}

void KeptRegisters::add_page(std::uint64_t address) {
    const auto used = pages();
    if (std::ranges::find(used, address & page_mask) != used.end() || used.size() == pages_.size()) return;
    pages_[pages_used_++] = address & page_mask;
}

KeptRegisters::Decision KeptRegisters::decide(const RegisterWrite& write) const {
    if (control_.memory_configuration) {
        for (const std::uint32_t fixed : control_.fixed()) {
            if (reaches(write, in_memory_configuration(*control_.memory_configuration, fixed)))
                return {.answer = Answer::fixed};
        }
    }
    Decision decision{.value = write.value};
    for (std::size_t i = 0; i < control_.request_bytes_used; ++i) {
        const auto byte = byte_at(write, control_.request_bytes[i]);
        if (!byte || !control_.refuses(static_cast<std::uint8_t>(write.value >> (8 * *byte)))) continue;
        decision.answer = Answer::refused;
        decision.value &= ~(std::uint64_t{SleepControl::sleep_enable} << (8 * *byte));
    }
    return decision;
}

}  // namespace flatback::metal
