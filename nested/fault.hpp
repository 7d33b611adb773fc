// A fault that the engine, or the host, raises in a guest in the processor's place.
#pragma once

#include <cstdint>

namespace flatback::nested {

struct Fault {
    static constexpr std::uint8_t none = 0xff;  // no fault: the instruction is executed again
    std::uint8_t vector;
    bool has_error_code = false;
    std::uint32_t error_code = 0;
    std::uint64_t page_fault_address = 0;  // CR2, for #PF
};

}  // namespace flatback::nested
