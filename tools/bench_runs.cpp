#include "tools/bench_runs.hpp"

#include <fmt/format.h>

#include "tools/stack_runs.hpp"

namespace flatback::tools {
namespace {

const std::vector<std::string> bare_linux_stages{"l2-user", "l2-done"};
const std::vector<std::string> bare_l1_stages{"bare-l1"};
const std::vector<std::string> flatback_stages{"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"};

// L1 measures itself too, or only its guest.
constexpr std::string_view l1_lat_ctx = "lat_ctx.records=lat_ctx.l1";
constexpr std::string_view l2_lat_ctx = "l2.lat_ctx.records=lat_ctx.l2 l2.lat_ctx.counters=line:/dev/ttyS1";
// L1's own source is the line that its QEMU has as COM2.
const std::string l2_counters_from_l0 = fmt::format("{} counters=line:/dev/ttyS1", l2_lat_ctx);
constexpr std::string_view only_linux = "payloads=off";

BenchRun flatback_run(std::string_view name, std::string_view mode, const LinuxGuest& guest,
                      std::string_view words, std::chrono::seconds limit) {
    BenchRun result{linux_run(std::string{name}, fmt::format("nested-vpid={} log=quiet", mode), guest, limit),
                    flatback_stages};
    BootPlan& plan = result.run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    plan.guest_command_line += fmt::format(" {} {}", l2_lat_ctx, words);
    return result;
}

std::string for_l1(std::string_view words) {
    std::string marked;
    while (!words.empty()) {
        const std::size_t end = std::min(words.find(' '), words.size());
        if (end > 0) marked += fmt::format(" l1.{}", words.substr(0, end));
        words.remove_prefix(std::min(end + 1, words.size()));
    }
    return marked;
}

BenchRun kvm_run(std::string_view name, const PeerGuest& peer, std::string_view guests,
                 std::string_view words, std::chrono::seconds limit) {
    BenchRun result{
        peer_run(std::string{name}, peer,
                 fmt::format("peer.l1={}{}{}", guests, for_l1(l2_counters_from_l0), for_l1(words)), limit),
        flatback_stages};
    if (guests.find("bare") != std::string_view::npos) result.stages.emplace_back("bare-l1");
    return result;
}

}  // namespace

std::vector<BenchSystem> bench_systems(bool with_kvm) {
    std::vector<BenchSystem> systems{flatback_systems.begin(), flatback_systems.end()};
    if (with_kvm) systems.insert(systems.end(), kvm_systems.begin(), kvm_systems.end());
    return systems;
}

std::vector<BenchRun> bench_runs(const LinuxGuest& guest, const PeerGuest& peer, bool with_kvm,
                                 std::chrono::seconds limit) {
    std::vector<BenchRun> runs;
    if (with_kvm) {
        runs.push_back(kvm_run(kvm_vpid_run, peer, "bare,linux", "", limit));
        runs.push_back(
            kvm_run("KVM, ept=0", peer, "linux", fmt::format("{} flatback.ept=0", only_linux), limit));
        runs.push_back(
            kvm_run("KVM, vpid=0", peer, "linux", fmt::format("{} flatback.vpid=0", only_linux), limit));
    }
    runs.push_back(flatback_run(flatback_mapped_run, "mapped", guest, l1_lat_ctx, limit));
    runs.push_back(flatback_run("Flatback, ept=0", "mapped", guest,
                                fmt::format("{} flatback.ept=0", only_linux), limit));
    runs.push_back(flatback_run("Flatback single", "single", guest, only_linux, limit));
    runs.push_back(flatback_run("Flatback off", "off", guest, only_linux, limit));
    runs.push_back(
        {direct_linux_run(std::string{bare_linux_run}, peer, guest, "lat_ctx.records=lat_ctx.bare", limit),
         bare_linux_stages});
    runs.push_back({bare_run(std::string{flatback_bare_l1_run}, "nested-vpid=mapped shadow-vmcs=on log=quiet",
                             "bench", limit),
                    bare_l1_stages});
    runs.push_back({bare_run(std::string{direct_bare_l1_run}, nullptr, "bench", limit), bare_l1_stages});
    return runs;
}

}  // namespace flatback::tools
