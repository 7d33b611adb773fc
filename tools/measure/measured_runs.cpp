#include "tools/measure/measured_runs.hpp"

#include <fmt/format.h>

#include "tools/ground/excerpt.hpp"
#include "tools/ground/printable.hpp"
#include "tools/measure/lat_ctx.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

const std::vector<std::string> linux_stages{"l0",       "l1-entry", "l1-user", "l2",
                                            "l2-linux", "l2-user",  "l2-done"};
const std::vector<std::string> linux_only_stages{"l0",       "l1-entry", "l1-user",
                                                 "l2-linux", "l2-user",  "l2-done"};
const std::vector<std::string> bare_linux_stages{"l0", "l1-entry", "l2-user", "l2-done"};
const std::vector<std::string> bare_stages{"l0", "l1-entry", "bare-l1"};
// Of a run that failed: enough for a panic's dump.
constexpr std::size_t serial_lines = 40;
constexpr std::string_view bare_name = "bare L1";
constexpr std::string_view bare_no_shadow_name = "bare L1, no shadow VMCS";
constexpr std::string_view bare_trace_name = "bare L1, trace";

}  // namespace

std::vector<QueuedRun> measured_runs(const LinuxGuest& guest, std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    for (const std::string_view mode : modes) {
        // L1's own figures do not depend on the mode.
        const std::string_view more =
            mode == lat_ctx_level("l1").run ? "lat_ctx.records=lat_ctx.l1 lat_ctx.counters=cpuid" : "";
        runs.push_back(linux_l2_run(std::string{mode}, fmt::format("nested-vpid={} log=quiet", mode), guest,
                                    limit, fmt::format("flatback.{}", mode), {}, more));
    }
    runs.push_back(linux_l2_run(std::string{without_ept_name}, "nested-vpid=mapped log=quiet", guest, limit,
                                "flatback.mapped_ept0", {}, "payloads=off flatback.ept=0"));
    QueuedRun qemu = linux_l2_run(std::string{with_qemu_name}, "nested-vpid=mapped log=quiet", guest, limit,
                                  "flatback.mapped_qemu", {}, "payloads=off vmm=qemu");
    qemu.request.plan.modules.front().file = guest.initramfs_with_qemu;
    runs.push_back(std::move(qemu));
    runs.push_back(linux_alone_run(std::string{bare_linux_name}, guest, limit, "bare"));
    runs.push_back(
        bare_run(std::string{bare_name}, "nested-vpid=mapped shadow-vmcs=on log=quiet", "bench", limit));
    runs.push_back(bare_run(std::string{bare_no_shadow_name}, "nested-vpid=mapped shadow-vmcs=off log=quiet",
                            "bench", limit));
    runs.push_back(bare_run(std::string{bare_trace_name}, "nested-vpid=mapped trace=on log=quiet",
                            "bench only=trace", limit));
    return runs;
}

const std::vector<std::string>& stages_of(std::string_view run) {
    if (run.starts_with(bare_name)) return bare_stages;
    if (run == bare_linux_name) return bare_linux_stages;
    return run == without_ept_name || run == with_qemu_name ? linux_only_stages : linux_stages;
}

Measurements collect(const std::vector<FinishedRun>& runs) {
    Measurements measurements;
    for (const FinishedRun& run : runs) {
        RunValues values{run.transcript};
        if (run.name == bare_name) {
            measurements.bare = std::move(values);
        } else if (run.name == bare_no_shadow_name) {
            measurements.bare_no_shadow = std::move(values);
        } else if (run.name == bare_trace_name) {
            measurements.bare_trace = std::move(values);
        } else {
            measurements.linux_by_mode.emplace(run.name, std::move(values));
        }
    }
    return measurements;
}

std::string failures(const std::vector<FinishedRun>& runs, const StagesOf& stages) {
    std::string lacks;
    for (const FinishedRun& run : runs) {
        const auto more = shortcomings(run, stages(run.name));
        if (more.empty()) continue;
        for (const std::string& lack : more) lacks += fmt::format("flatback: {}\n", lack);
        lacks += fmt::format("flatback: {}: the last lines on the serial port:\n{}", run.name,
                             printable_lines(last_lines(run.transcript.text(), serial_lines)));
    }
    return lacks;
}

}  // namespace flatback::tools
