// Instructions that may fault (#GP), with the fault turned into an absent value or false.
#pragma once

#include <cstdint>
#include <optional>

namespace flatback::metal {

// The handler (metal/ground/interrupts.cpp) goes on where the section .fault_fixups says.
[[nodiscard]] std::optional<std::uint64_t> try_read_msr(std::uint32_t msr);
[[nodiscard]] bool try_write_msr(std::uint32_t msr, std::uint64_t value);
[[nodiscard]] bool try_xsetbv(std::uint32_t index, std::uint64_t value);

}  // namespace flatback::metal
