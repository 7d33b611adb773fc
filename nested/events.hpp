// What an exception becomes that arises in the delivery of another event, and what it saves.
#pragma once

#include <cstdint>

#include "../vmx/interruption.hpp"
#include "../x86/exception.hpp"

namespace flatback::nested {

// What becomes of an exception that arises while another event is delivered (SDM 3A tables 6-4 and 6-5).
enum class Combined : std::uint8_t { the_exception, double_fault, shutdown };

// delivering: IDT-vectoring information. vector: of the exception.
[[nodiscard]] constexpr Combined combine(vmx::InterruptionInformation delivering, std::uint8_t vector) {
    if (!delivering.is_valid() || delivering.type() != vmx::InterruptionType::hardware_exception)
        return Combined::the_exception;
    constexpr auto page_fault = static_cast<std::uint8_t>(x86::Vector::page_fault);
    const std::uint8_t first = delivering.vector();
    const bool contributory = x86::is_contributory(vector);
    if (!contributory && vector != page_fault) return Combined::the_exception;
    if (first == static_cast<std::uint8_t>(x86::Vector::double_fault)) return Combined::shutdown;
    if (first == page_fault || first == static_cast<std::uint8_t>(x86::Vector::virtualization))
        return Combined::double_fault;
    return x86::is_contributory(first) && contributory ? Combined::double_fault : Combined::the_exception;
}

// Whether the RFLAGS image that is saved with the exception has RF set (SDM 3B 18.3.1.1): all faults but #DB,
// which L0 gives to no guest.
[[nodiscard]] constexpr bool sets_resume_flag(std::uint8_t vector) {
    constexpr std::uint32_t others = 1U << 1 | 1U << 2 | 1U << 3 | 1U << 4 | 1U << 8 | 1U << 18;
    return vector < 32 && (others >> vector & 1) == 0;
}

}  // namespace flatback::nested
