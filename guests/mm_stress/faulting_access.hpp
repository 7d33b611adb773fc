#pragma once

#include <cstdint>
#include <optional>

namespace flatback::guests {

/// Accesses that may fault, once catch_faults() was called. Of any thread.
void catch_faults();
/// Nothing: the access was a segmentation fault.
[[nodiscard]] std::optional<std::uint64_t> try_read(const volatile std::uint64_t* where);
/// False: it was one.
[[nodiscard]] bool try_write(volatile std::uint64_t* where, std::uint64_t value);

}  // namespace flatback::guests
