#include "tools/measure/depths.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tools/image/depth.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view timings = "bare L1, timings";
constexpr std::string_view checks = "bare L1, checks";
constexpr std::string_view linux_kvm = "Linux with KVM";
constexpr const char* l0_words = "log=quiet";

struct FaultBeneath {
    std::string_view check;
    std::string_view why;
};
constexpr std::string_view nmis_stay_blocked =
    "the emulator's: it ends virtual-NMI blocking by no VM entry, and KVM runs Flatback with virtual NMIs, "
    "so "
    "that what one guest blocks stays blocked in the other";
constexpr std::array<FaultBeneath, 6> faults_of_kvm{{
    // KVM offers VMCS shadowing, so it carries out these VMREADs itself. With shadow-vmcs=off, where Flatback
    // does, the check passes there.
    {"vmread-to-memory-across-an-unmapped-page-faults-as-a-write",
     "KVM writes what is on the first page before it finds the second missing"},
    {"entry-with-reserved-guest-es-rights-is-an-invalid-guest-state",
     "KVM keeps no reserved bits of access rights"},
    // The last three pass where nothing is run before them.
    {"an-injected-nmi-blocks-virtual-nmis-until-iret", nmis_stay_blocked},
    {"an-interrupt-window-exit-comes-behind-the-instruction-that-follows-sti", nmis_stay_blocked},
    {"an-nmi-window-exit-comes-at-once-where-nmis-are-open", nmis_stay_blocked},
    {"an-nmi-window-exit-waits-for-the-iret-that-ends-blocking-by-nmi", nmis_stay_blocked},
}};

std::string name_of(unsigned depth, std::string_view what) {
    return fmt::format("depth {}, {}", depth, what);
}
bool is_run(const FinishedRun& run, std::string_view what) {
    return run.name.ends_with(what);
}
unsigned depth_of(const FinishedRun& run) {
    constexpr std::size_t behind_the_word = 6;
    return static_cast<unsigned>(run.name.at(behind_the_word) - '0');
}

QueuedRun at_depth(unsigned depth, QueuedRun run) {
    stack_levels(run.request.plan, depth, inner_l0_words);
    return run;
}

// A part takes longer than usual there: limit, the most that it takes.
std::string words_for(unsigned depth, std::string_view what) {
    if (depth == 1) return std::string{what};
    if (depth < first_depth_in_part) return fmt::format("{} limit=50", what);
    return what == "check" ? "check only=vmcs* limit=50"
                           : "bench skip=invalidation,operands,flushes,ept02,longest,trace limit=50";
}

const std::vector<std::string>& stages_of(const FinishedRun& run) {
    static const std::vector<std::string> of_bare{"l0", "l1-entry", "bare-l1"};
    static const std::vector<std::string> of_linux{"l0", "l1-entry", "l1-user", "l2"};
    return is_run(run, linux_kvm) ? of_linux : of_bare;
}

}  // namespace

std::vector<QueuedRun> depth_runs(unsigned depth, const LinuxGuest* guest, std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    // The longest first.
    for (unsigned level = depth; level >= 1; --level) {
        runs.push_back(
            at_depth(level, bare_run(name_of(level, timings), l0_words, words_for(level, "bench"), limit)));
        runs.push_back(
            at_depth(level, bare_run(name_of(level, checks), l0_words, words_for(level, "check"), limit)));
        if (guest != nullptr && level < first_depth_in_part)
            runs.push_back(at_depth(level, linux_run(name_of(level, linux_kvm), l0_words, *guest, limit)));
    }
    return runs;
}

std::vector<QueuedRun> runs_above_another(const LinuxGuest& guest, std::chrono::seconds limit) {
    // CPUID does not say that Bochs is beneath the other. An L2 that halts without HLT exiting, or spins
    // until an NMI comes, is never given back there; and what a machine does where it has no memory is no
    // rule of VMX's (QEMU's reads as 0, and KVM ends with an internal error).
    constexpr std::string_view all_checks =
        "check skip=interrupts,nmi-times,timers,no-memory limit=50 emulator=bochs";
    const std::string timings_words =
        fmt::format("{} emulator=bochs", words_for(first_depth_in_part, "bench"));
    std::vector<QueuedRun> runs;
    runs.push_back(linux_run(name_of(1, linux_kvm), l0_words, guest, limit));
    runs.push_back(bare_run(name_of(1, timings), l0_words, timings_words, limit));
    runs.push_back(bare_run(name_of(1, checks), l0_words, all_checks, limit));
    return runs;
}

std::vector<std::string> missing_of_depths(const std::vector<FinishedRun>& runs) {
    std::vector<std::string> missing;
    for (const FinishedRun& run : runs) {
        std::vector<std::string> lacks = shortcomings(run, stages_of(run));
        if (is_run(run, checks))
            std::erase_if(lacks, [&run](const std::string& lack) {
                return lack.starts_with(fmt::format("{}: check ", run.name));
            });
        // What a run that failed did not measure, its failure explains.
        const bool complete = lacks.empty();
        missing.insert(missing.end(), lacks.begin(), lacks.end());
        if (!complete || is_run(run, checks)) continue;
        const RunValues values{run.transcript};
        const auto need = [&](const std::string& key) {
            if (!values.value(key)) missing.push_back(fmt::format("{}: not measured: {}", run.name, key));
        };
        if (is_run(run, timings)) {
            for (const std::string_view value : depth_values) need(fmt::format("bare_l1.{}", value));
        } else {
            for (const std::string_view value : depth_linux_values)
                need(fmt::format("modes.mapped.{}", value));
        }
    }
    return missing;
}

std::vector<DepthMeasurement> collect_depths(const std::vector<FinishedRun>& runs, FaultsBeneath faults) {
    std::vector<DepthMeasurement> all;
    for (const FinishedRun& run : runs) {
        const unsigned depth = depth_of(run);
        auto found = std::ranges::find(all, depth, &DepthMeasurement::depth);
        if (found == all.end()) found = all.insert(all.end(), DepthMeasurement{.depth = depth});
        if (is_run(run, timings)) found->bare = RunValues{run.transcript};
        if (is_run(run, linux_kvm)) found->linux_as_l1 = RunValues{run.transcript};
        if (!is_run(run, checks)) continue;
        for (const CheckRecord& check : run.transcript.checks()) {
            const auto known = std::ranges::find(faults_of_kvm, check.name, &FaultBeneath::check);
            if (check.passed) {
                ++found->passed;
            } else if (faults == FaultsBeneath::of_kvm && known != faults_of_kvm.end()) {
                found->beneath.push_back(fmt::format("{}: {}", check.name, known->why));
            } else {
                found->failed.push_back(fmt::format("{}: {}", check.name, check.why));
            }
        }
    }
    std::ranges::sort(all, {}, &DepthMeasurement::depth);
    return all;
}

}  // namespace flatback::tools
