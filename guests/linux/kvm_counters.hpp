#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "guests/linux/counter_source.hpp"

// What KVM as L0 counts of its guests, read in L0.
namespace flatback::guests {

/// KVM's counters in debugfs, summed over its guests: a directory with the files exits, nested_run and
/// tlb_flush, one decimal number each. KVM counts flushes of guests' tags but not whose tag it was:
/// l2_tag_flushes is all of them, l1_tag_flushes is 0. Not among them is what it executes for an INVVPID of
/// L1's.
[[nodiscard]] Expected<std::unique_ptr<CounterSource>> open_kvm_counters(std::string directory);

/// The number in such a file; nothing where it holds anything else than digits and one newline.
[[nodiscard]] std::optional<std::uint64_t> parse_debugfs_number(std::string_view text);

}  // namespace flatback::guests
