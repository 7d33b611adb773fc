#include "tools/measure/smp_runs.hpp"

#include <fmt/format.h>

#include <initializer_list>

#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view bare_with_l0_name = "bare L1";
constexpr std::string_view bare_direct_name = "bare L1, no L0";
constexpr std::string_view linux_one_name = "Linux, one CPU";
constexpr std::string_view linux_all_name = "Linux, all CPUs";
constexpr std::string_view linux_l2_name = "Linux, L2 of 2 vCPUs";
constexpr std::string_view kvm_all_name = "KVM, all CPUs";
constexpr std::string_view kvm_one_name = "KVM, one CPU";
// guests/peer/init says the same to the bare L1.
constexpr const char* bare_command_line = "bench only=processors limit=50";

}  // namespace

std::optional<double> SmpFigures::boot_ticks(const RunValues& linux_run) {
    if (const auto from_start = linux_run.value("boot.l1")) return from_start;
    const auto begin = linux_run.value("l0.l1_entry_tsc");
    const auto end = linux_run.value("l1.user_tsc");
    if (!begin || !end) return std::nullopt;
    return *end - *begin;
}

std::vector<QueuedRun> smp_runs(const LinuxGuest& guest, unsigned processors, std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    // The longest first: two run at a time.
    runs.push_back(linux_processors_run(std::string{linux_all_name}, guest, processors, limit));
    std::string columns = "columns=";
    for (const std::string_view column : smp_lat_ctx_columns)
        columns += fmt::format("{}{}", columns.ends_with('=') ? "" : ",", column);
    // (With more CPUs that L1 leaves idle it takes longer here, and measures the same.)
    runs.push_back(linux_l2_two_vcpus_run(std::string{linux_l2_name}, guest, limit,
                                          {std::move(columns), "switches=400"}));
    runs.push_back(linux_processors_run(std::string{linux_one_name}, guest, 1, limit));
    runs.push_back(
        bare_run(std::string{bare_with_l0_name}, "nested-vpid=mapped log=quiet", bare_command_line, limit));
    runs.back().request.processors = processors;
    runs.push_back(bare_run(std::string{bare_direct_name}, nullptr, bare_command_line, limit));
    runs.back().request.processors = processors;
    return runs;
}

std::vector<QueuedRun> smp_peer_runs(const PeerGuest& peer, unsigned processors, std::chrono::seconds limit) {
    constexpr std::string_view l1_words = " l1.payloads=off l1.processors=each";
    std::vector<QueuedRun> runs;
    // One start of the peer's L0 for both L1s.
    runs.push_back(peer_run(std::string{kvm_all_name}, peer,
                            fmt::format("peer.l1=bare-processors,linux{}", l1_words), limit, linux_memory,
                            processors));
    runs.push_back(
        peer_run(std::string{kvm_one_name}, peer, fmt::format("peer.l1=linux{}", l1_words), limit));
    return runs;
}

const std::vector<std::string>& stages_of_smp(std::string_view run) {
    static const std::vector<std::string> linux_stages{"l0", "l1-entry", "l1-user", "l1-processors"};
    static const std::vector<std::string> l2_stages{"l0",       "l1-entry", "l1-user",
                                                    "l2-linux", "l2-user",  "l2-done"};
    static const std::vector<std::string> bare_stages{"l0", "l1-entry", "bare-l1"};
    static const std::vector<std::string> direct_stages{"bare-l1"};
    static const std::vector<std::string> kvm_one_stages{"peer-l0", "peer-l1", "l1-user", "l1-processors"};
    static const std::vector<std::string> kvm_all_stages{"peer-l0", "bare-l1", "peer-l1", "l1-user",
                                                         "l1-processors"};
    if (run == kvm_all_name) return kvm_all_stages;
    if (run == kvm_one_name) return kvm_one_stages;
    if (run == linux_l2_name) return l2_stages;
    if (run == bare_with_l0_name) return bare_stages;
    return run == bare_direct_name ? direct_stages : linux_stages;
}

SmpMeasurements collect_smp(const std::vector<FinishedRun>& runs, unsigned processors) {
    SmpMeasurements measurements;
    measurements.processors = processors;
    const auto of_kvm = [&measurements]() -> SmpFigures& {
        if (!measurements.kvm) measurements.kvm.emplace();
        return *measurements.kvm;
    };
    for (const FinishedRun& run : runs) {
        RunValues values{run.transcript};
        if (run.name == bare_with_l0_name) {
            measurements.flatback.bare = std::move(values);
        } else if (run.name == bare_direct_name) {
            measurements.bare_direct = std::move(values);
        } else if (run.name == linux_l2_name) {
            measurements.l2 = std::move(values);
        } else if (run.name == linux_one_name) {
            measurements.flatback.linux_one = std::move(values);
        } else if (run.name == linux_all_name) {
            measurements.flatback.linux_all = std::move(values);
        } else if (run.name == kvm_all_name) {
            of_kvm().bare = values;
            of_kvm().linux_all = std::move(values);
        } else if (run.name == kvm_one_name) {
            of_kvm().linux_one = std::move(values);
        }
    }
    return measurements;
}

std::vector<std::string> missing_smp_values(const SmpMeasurements& measurements) {
    std::vector<std::string> missing;
    const auto need = [&missing](const RunValues& values, std::string_view run, const std::string& key) {
        if (!values.number(key)) missing.push_back(fmt::format("{}: {}", run, key));
    };
    const auto need_of_bare = [&](const RunValues& values, std::string_view run) {
        need(values, run, "bare_l1.smp.cpus");
        for (const std::string_view name : smp_values) need(values, run, fmt::format("bare_l1.smp.{}", name));
        for (const std::string_view name : smp_values_by_processor) {
            for (unsigned processor = 0; processor < measurements.processors; ++processor)
                need(values, run, fmt::format("bare_l1.smp.{}.{}", name, processor));
        }
    };
    const auto need_of_linux = [&](const RunValues& values, std::string_view run,
                                   std::initializer_list<const char*> boot) {
        for (const char* const key : boot) need(values, run, key);
        need(values, run, "l1.online");
    };
    const SmpFigures& own = measurements.flatback;
    need_of_bare(own.bare, bare_with_l0_name);
    need_of_bare(measurements.bare_direct, bare_direct_name);
    for (const std::string_view name : smp_counts)
        need(own.bare, bare_with_l0_name, fmt::format("bare_l1.smp.{}", name));
    need_of_linux(own.linux_one, linux_one_name, {"l0.l1_entry_tsc", "l1.user_tsc"});
    need_of_linux(own.linux_all, linux_all_name, {"l0.l1_entry_tsc", "l1.user_tsc"});
    if (measurements.processors > 1) need(own.linux_all, linux_all_name, "l1.online_again");
    for (const std::string_view column : smp_lat_ctx_columns) {
        for (const std::string_view value : smp_lat_ctx_values)
            need(measurements.l2, linux_l2_name, fmt::format("lat_ctx.l2.{}.{}", column, value));
    }
    if (!measurements.kvm) return missing;
    const SmpFigures& kvm = *measurements.kvm;
    need_of_bare(kvm.bare, kvm_all_name);
    need_of_linux(kvm.linux_one, kvm_one_name, {"boot.l1"});
    need_of_linux(kvm.linux_all, kvm_all_name, {"boot.l1"});
    if (measurements.processors > 1) need(kvm.linux_all, kvm_all_name, "l1.online_again");
    return missing;
}

}  // namespace flatback::tools
