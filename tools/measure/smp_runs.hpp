// The runs that `flatback run --cpus N` measures, on a machine with several processors, and the peer's of
// `flatback bench --peer kvm --cpus N`.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/image/linux_guest.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// Of the bare L1, under bare_l1.smp, in ticks.
inline constexpr std::array<std::string_view, 12> smp_values{
    "reflected_exit_alone", "ipi_l1_x2apic",     "ipi_l1_xapic",        "ipi_l2",
    "shootdown_l2",         "moved_first_entry", "cleared_first_entry", "init_sipi",
    "eoi_x2apic",           "timer_x2apic",      "eoi_xapic",           "timer_xapic",
};
// There too, a value for each processor: NAME.0 ...
inline constexpr std::array<std::string_view, 2> smp_values_by_processor{"reflected_exit",
                                                                         "reflected_exit_bitmaps"};
// There too, in hundredths: what only Flatback counts.
inline constexpr std::array<std::string_view, 2> smp_counts{"flushes_per_move_x100",
                                                            "flushes_per_entry_x100"};

// Of lat_ctx in an L2 with two virtual CPUs: the rings, and of each under lat_ctx.l2.RING the ticks a turn.
inline constexpr std::array<std::string_view, 3> smp_lat_ctx_columns{"2p/0K", "2p/16K", "8p/16K"};
inline constexpr std::array<std::string_view, 3> smp_lat_ctx_values{"ticks", "switch_ticks", "across_ticks"};

// Of one L0.
struct SmpFigures {
    RunValues bare;
    RunValues linux_one;  // Linux as L1 on a machine with one processor
    RunValues linux_all;

    // Ticks from L1's first instruction to its user space; of the peer's L1, from QEMU's start.
    [[nodiscard]] static std::optional<double> boot_ticks(const RunValues& linux_run);
};

struct SmpMeasurements {
    unsigned processors = 2;  // of the machine, and asked for
    SmpFigures flatback;
    RunValues bare_direct;          // the bare L1 without any L0
    RunValues l2;                   // on Flatback, Linux with two virtual CPUs as L2
    std::optional<SmpFigures> kvm;  // the peer, where it was run
};

[[nodiscard]] std::vector<QueuedRun> smp_runs(const LinuxGuest& guest, unsigned processors,
                                              std::chrono::seconds limit);
// The same L1s on the peer; `peer` is of prepare_peer_processors_guest.
[[nodiscard]] std::vector<QueuedRun> smp_peer_runs(const PeerGuest& peer, unsigned processors,
                                                   std::chrono::seconds limit);
[[nodiscard]] const std::vector<std::string>& stages_of_smp(std::string_view run);
[[nodiscard]] SmpMeasurements collect_smp(const std::vector<FinishedRun>& runs, unsigned processors);
// Every value that the report needs and a run has not printed. The peer's are needed where one of its runs is
// among those that were collected.
[[nodiscard]] std::vector<std::string> missing_smp_values(const SmpMeasurements& measurements);

}  // namespace flatback::tools
