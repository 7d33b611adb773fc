#include "tools/measure/smp_runs.hpp"

#include <fmt/format.h>

#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view bare_with_l0_name = "bare L1";
constexpr std::string_view bare_direct_name = "bare L1, no L0";
constexpr std::string_view linux_one_name = "Linux, one CPU";
constexpr std::string_view linux_all_name = "Linux, all CPUs";
constexpr const char* bare_command_line = "bench only=processors limit=50";

}  // namespace

std::optional<double> SmpMeasurements::boot_ticks(const RunValues& linux_run) {
    const auto begin = linux_run.value("l0.l1_entry_tsc");
    const auto end = linux_run.value("l1.user_tsc");
    if (!begin || !end) return std::nullopt;
    return *end - *begin;
}

std::vector<QueuedRun> smp_runs(const LinuxGuest& guest, unsigned processors, std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    // The longest first: two run at a time.
    runs.push_back(linux_processors_run(std::string{linux_all_name}, guest, processors, limit));
    runs.push_back(linux_processors_run(std::string{linux_one_name}, guest, 1, limit));
    runs.push_back(
        bare_run(std::string{bare_with_l0_name}, "nested-vpid=mapped log=quiet", bare_command_line, limit));
    runs.back().request.processors = processors;
    runs.push_back(bare_run(std::string{bare_direct_name}, nullptr, bare_command_line, limit));
    runs.back().request.processors = processors;
    return runs;
}

const std::vector<std::string>& stages_of_smp(std::string_view run) {
    static const std::vector<std::string> linux_stages{"l0", "l1-entry", "l1-user", "l1-processors"};
    static const std::vector<std::string> bare_stages{"l0", "l1-entry", "bare-l1"};
    static const std::vector<std::string> direct_stages{"bare-l1"};
    if (run == bare_with_l0_name) return bare_stages;
    return run == bare_direct_name ? direct_stages : linux_stages;
}

SmpMeasurements collect_smp(const std::vector<FinishedRun>& runs, unsigned processors) {
    SmpMeasurements measurements;
    measurements.processors = processors;
    for (const FinishedRun& run : runs) {
        RunValues values{run.transcript};
        if (run.name == bare_with_l0_name) {
            measurements.bare = std::move(values);
        } else if (run.name == bare_direct_name) {
            measurements.bare_direct = std::move(values);
        } else if (run.name == linux_one_name) {
            measurements.linux_one = std::move(values);
        } else if (run.name == linux_all_name) {
            measurements.linux_all = std::move(values);
        }
    }
    return measurements;
}

std::vector<std::string> missing_smp_values(const SmpMeasurements& measurements) {
    std::vector<std::string> missing;
    const auto need = [&missing](const RunValues& values, std::string_view run, const std::string& key) {
        if (!values.number(key)) missing.push_back(fmt::format("{}: {}", run, key));
    };
    for (const auto& [values, run] : {std::pair{&measurements.bare, bare_with_l0_name},
                                      std::pair{&measurements.bare_direct, bare_direct_name}}) {
        need(*values, run, "bare_l1.smp.cpus");
        for (const std::string_view name : smp_values)
            need(*values, run, fmt::format("bare_l1.smp.{}", name));
        for (const std::string_view name : smp_values_by_processor) {
            for (unsigned processor = 0; processor < measurements.processors; ++processor)
                need(*values, run, fmt::format("bare_l1.smp.{}.{}", name, processor));
        }
    }
    for (const std::string_view name : smp_counts)
        need(measurements.bare, bare_with_l0_name, fmt::format("bare_l1.smp.{}", name));
    for (const auto& [values, run] : {std::pair{&measurements.linux_one, linux_one_name},
                                      std::pair{&measurements.linux_all, linux_all_name}}) {
        for (const char* const key : {"l0.l1_entry_tsc", "l1.user_tsc", "l1.online"}) need(*values, run, key);
    }
    if (measurements.processors > 1) need(measurements.linux_all, linux_all_name, "l1.online_again");
    return missing;
}

}  // namespace flatback::tools
