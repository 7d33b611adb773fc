// Flatback on Flatback, and on another hypervisor: what `flatback run --depth N` and `--beneath NAME`
// measure.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/image/linux_guest.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// From here on an exit takes so long that only a part of the checks is made.
inline constexpr unsigned first_depth_in_part = 3;

// Of the bare L1, under bare_l1, at every depth. In ticks, but for the counts, which are hundredths for one
// reflected exit, of the uppermost L0.
inline constexpr std::array<std::string_view, 13> depth_values{
    "l1_cpuid",
    "l1_vmcall",
    "vmread",
    "vmwrite",
    "vmptrld_two",
    "vmclear",
    "first_vmlaunch",
    "l2_cpuid_reflected",
    "l2_cpuid_reflected_alternating",
    "two_l2_vcpus",
    "per_reflected.l0_exits",
    "per_reflected.vmreads",
    "per_reflected.vmwrites",
};

// Of Linux with KVM as L1, under modes.mapped.
inline constexpr std::array<std::string_view, 3> depth_linux_values{
    "l1_cpuid_ticks",
    "l2_cpuid_reflected_ticks",
    "l2_io_ticks",
};

struct DepthMeasurement {
    unsigned depth = 1;  // how many L0s
    RunValues bare{};
    std::size_t passed = 0;              // of the bare L1's checks
    std::vector<std::string> failed{};   // NAME: WHY
    std::vector<std::string> beneath{};  // likewise, where the hypervisor beneath is known to be at fault
    std::optional<RunValues> linux_as_l1{};
};

// The bare L1 above 1 to `depth` L0s, its timings and its checks each by itself; where a Linux is given, it
// with its L2 payloads above 1 and 2.
[[nodiscard]] std::vector<QueuedRun> depth_runs(unsigned depth, const LinuxGuest* guest,
                                                std::chrono::seconds limit);

// What is measured of Flatback where a foreign hypervisor is beneath it: the bare L1 and Linux above one L0,
// to be put above that (tools/stack/peer_guest.hpp). Of the bare L1 a few parts are left out.
[[nodiscard]] std::vector<QueuedRun> runs_above_another(const LinuxGuest& guest, std::chrono::seconds limit);

// What keeps the table from being printed: stages and values that are missing. A check that fails is none.
[[nodiscard]] std::vector<std::string> missing_of_depths(const std::vector<FinishedRun>& runs);

// of_kvm: a check whose failure is that of KVM, or of the emulator beneath it, is told, and has not failed.
enum class FaultsBeneath : std::uint8_t { none, of_kvm };
[[nodiscard]] std::vector<DepthMeasurement> collect_depths(const std::vector<FinishedRun>& runs,
                                                           FaultsBeneath faults = FaultsBeneath::none);

}  // namespace flatback::tools
