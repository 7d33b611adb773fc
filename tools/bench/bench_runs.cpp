#include "tools/bench/bench_runs.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tools/measure/measured_runs.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

// L1's parameters for a level of the peer's, as guests/peer/init passes them on.
std::string_view l1_parameters(const LatCtxLevel& level) {
    if (level.key == "kvm.novpid") return " l1.payloads=off l1.flatback.vpid=0";
    if (level.key == "kvm.vpid_ept0") return " l1.payloads=off l1.flatback.ept=0";
    return "";
}

QueuedRun kvm_run(const LatCtxLevel& level, const PeerGuest& peer, std::chrono::seconds limit) {
    // L2 asks L1 for the counters, and L1 asks L0: each over its COM2.
    return peer_run(
        std::string{level.run}, peer,
        fmt::format("peer.l1={} l1.l2.lat_ctx.records=lat_ctx.{} l1.l2.lat_ctx.counters=line:/dev/ttyS1 "
                    "l1.counters=line:/dev/ttyS1{}",
                    level.run == kvm_name ? "payloads,bare,linux" : "linux", level.key, l1_parameters(level)),
        limit);
}

}  // namespace

std::vector<QueuedRun> bench_runs(const PeerGuest* peer, std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    if (peer != nullptr) {
        for (const LatCtxLevel& level : kvm_levels) runs.push_back(kvm_run(level, *peer, limit));
    }
    runs.push_back(bare_run(std::string{bare_l1_alone_name}, nullptr, "bench", limit));
    return runs;
}

const std::vector<std::string>& bench_stages_of(std::string_view run) {
    static const std::vector<std::string> alone{"bare-l1"};
    static const std::vector<std::string> kvm{"peer-l0",  "peer-l1", "l1-user",
                                              "l2-linux", "l2-user", "l2-done"};
    static const std::vector<std::string> kvm_with_bare_l1{"peer-l0", "bare-l1",  "peer-l1", "l1-user",
                                                           "l2",      "l2-linux", "l2-user", "l2-done"};
    if (run == bare_l1_alone_name) return alone;
    if (run == kvm_name) return kvm_with_bare_l1;
    if (std::ranges::find(kvm_levels, run, &LatCtxLevel::run) != kvm_levels.end()) return kvm;
    return stages_of(run);
}

std::vector<LatCtxLevel> bench_levels(bool with_kvm) {
    std::vector<LatCtxLevel> levels{lat_ctx_levels.begin(), lat_ctx_levels.end()};
    if (with_kvm) levels.insert(levels.end(), kvm_levels.begin(), kvm_levels.end());
    return levels;
}

}  // namespace flatback::tools
