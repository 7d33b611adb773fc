// The runs of `flatback bench`, and which of them measures what.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/lat_ctx.hpp"
#include "tools/linux_guest.hpp"
#include "tools/peer_guest.hpp"
#include "tools/run_queue.hpp"

namespace flatback::tools {

// Who counts beneath the benchmark.
enum class Counters {
    none,      // there is no hypervisor, or nobody asked
    flatback,  // L0's own, tags told apart
    kvm,       // debugfs: one number of flushes for all tags
};

// One line of the benchmark's table: a level under a hypervisor, in a mode.
struct BenchSystem {
    std::string_view name;  // its place in JSON: bare, l1, flatback.MODE, kvm.MODE
    std::string_view title;
    std::string_view run;    // that measures it
    std::string_view level;  // bare, l1, l2: its records are lat_ctx.LEVEL.COLUMN.…
    std::string_view mode;   // Flatback's nested-vpid
    Counters counters;
};

inline constexpr std::string_view bare_linux_run = "bare Linux";
inline constexpr std::string_view flatback_mapped_run = "Flatback mapped";
inline constexpr std::string_view flatback_bare_l1_run = "Flatback, bare L1";
inline constexpr std::string_view direct_bare_l1_run = "bare L1 alone";
inline constexpr std::string_view kvm_vpid_run = "KVM";  // of Linux as L1, and of the bare L1 before it

inline constexpr std::array<BenchSystem, 6> flatback_systems{{
    {"bare", "bare Linux", bare_linux_run, "bare", "", Counters::none},
    {"l1", "L1 on Flatback", flatback_mapped_run, "l1", "mapped", Counters::none},
    {"flatback.mapped", "L2, Flatback mapped", flatback_mapped_run, "l2", "mapped", Counters::flatback},
    {"flatback.single", "L2, Flatback single", "Flatback single", "l2", "single", Counters::flatback},
    {"flatback.off", "L2, Flatback off", "Flatback off", "l2", "off", Counters::flatback},
    {"flatback.mapped_ept0", "L2, L1 ept=0, Flatback", "Flatback, ept=0", "l2", "mapped", Counters::flatback},
}};

inline constexpr std::array<BenchSystem, 3> kvm_systems{{
    {"kvm.vpid", "L2, KVM, nested VPID", kvm_vpid_run, "l2", "", Counters::kvm},
    {"kvm.novpid", "L2, KVM, no nested VPID", "KVM, vpid=0", "l2", "", Counters::kvm},
    {"kvm.vpid_ept0", "L2, L1 ept=0, KVM", "KVM, ept=0", "l2", "", Counters::kvm},
}};

// The systems in the order of the table.
[[nodiscard]] std::vector<BenchSystem> bench_systems(bool with_kvm);

// A run, and the stages that it must reach.
struct BenchRun {
    QueuedRun run;
    std::vector<std::string> stages;
};

// The longest come first: two run at once, and the last one should not be alone for long.
[[nodiscard]] std::vector<BenchRun> bench_runs(const LinuxGuest& guest, const PeerGuest& peer, bool with_kvm,
                                               std::chrono::seconds limit);

}  // namespace flatback::tools
