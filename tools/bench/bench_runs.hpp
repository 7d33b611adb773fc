// The runs of `flatback bench`: those of `flatback run`, and the peer's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/image/linux_guest.hpp"
#include "tools/measure/lat_ctx.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// The bare L1 on the emulated processor itself: what a round of its takes without any L0.
inline constexpr std::string_view bare_l1_alone_name = "bare L1 alone";

// The runs beyond measured_runs(), the longest first; the peer's where there is one, of which the first has
// the payloads and the bare L1 before Linux.
[[nodiscard]] std::vector<QueuedRun> bench_runs(const PeerGuest* peer, std::chrono::seconds limit);

// The stages that a run must reach, one of these or of measured_runs().
[[nodiscard]] const std::vector<std::string>& bench_stages_of(std::string_view run);

// The levels of lat_ctx's table.
[[nodiscard]] std::vector<LatCtxLevel> bench_levels(bool with_kvm);

}  // namespace flatback::tools
