// ACPI's sleep states S2 and S3, in which the processor loses what it is: an L1 that woke from one would be
// alone on the machine, with no L0 beneath it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"

namespace flatback::metal {

// Takes them out of what the firmware offers: the names _S2_ and _S3_ in the DSDT and in every SSDT that the
// root pointer leads to become other ones, the FADT offers no S4BIOS, and the checksums are mended. S1, S4
// (by the operating system: a power-off) and S5 stay. physical: as keep_processors. How many tables were
// changed.
[[nodiscard]] std::expected<unsigned, BootError> hide_sleep_states(std::byte* physical,
                                                                   std::uint64_t physical_size, Bytes rsdp);

}  // namespace flatback::metal
