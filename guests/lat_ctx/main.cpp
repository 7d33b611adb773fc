#include <sched.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>
#include <x86intrin.h>

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guests/lat_ctx/measure.hpp"
#include "guests/lat_ctx/options.hpp"
#include "guests/lat_ctx/report.hpp"
#include "guests/linux/mark.hpp"
#include "guests/linux/record.hpp"

namespace flatback::guests {
namespace {

void write_all(int to, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(to, text.data(), text.size());
        if (count <= 0) {
            return;  // nobody reads
        }
        text.remove_prefix(static_cast<std::size_t>(count));
    }
}

/// A failure goes to whom the figures go to: as a record, or to the user.
int fail_with(const Options& options, const Failure& failure, int status) {
    if (options.records.empty()) {
        write_all(STDERR_FILENO, "lat-ctx: " + failure + "\n");
    } else {
        print_record("error", "lat-ctx: " + failure);
    }
    return status;
}

/// Every hand-over is a switch only where all processes share a processor.
[[nodiscard]] Expected<void> stay_on_one_processor(std::optional<unsigned> wanted) {
    const int processor = wanted ? static_cast<int>(*wanted) : ::sched_getcpu();
    if (processor < 0) {
        return system_failure("sched_getcpu");
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(processor), &set);
    if (::sched_setaffinity(0, sizeof set, &set) < 0) {
        return system_failure("processor " + std::to_string(processor));
    }
    return {};
}

/// A process that is woken does not preempt the one that woke it. Otherwise a ring of two falls, as chance
/// has it, into a rhythm in which every second hand-over finds its reader awake, and its figure is one of
/// two.
[[nodiscard]] Expected<void> let_no_one_be_preempted() {
    const sched_param parameters{};
    if (::sched_setscheduler(0, SCHED_BATCH, &parameters) < 0) {
        return system_failure("SCHED_BATCH");
    }
    return {};
}

/// The rate of the time stamp counter, against the kernel's clock over a tenth of a second.
[[nodiscard]] double measure_ticks_per_microsecond() {
    const auto microseconds = [] {
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
    };
    constexpr double wait = 100'000;
    const double start = microseconds();
    const std::uint64_t start_ticks = __rdtsc();
    double end = start;
    while (end - start < wait) {
        end = microseconds();
    }
    return static_cast<double>(__rdtsc() - start_ticks) / (end - start);
}

int run(const Options& options) {
    ::signal(SIGPIPE, SIG_IGN);  // a process of the ring that ended is an error to report, not the end
    if (auto pinned = stay_on_one_processor(options.across > 1 ? std::optional{0U} : options.processor);
        !pinned) {
        return fail_with(options, pinned.error(), 1);
    }
    if (auto batch = let_no_one_be_preempted(); !batch) {
        return fail_with(options, batch.error(), 1);
    }
    std::unique_ptr<CounterSource> source;
    std::optional<CounterBracket> bracket;
    if (!options.counters.empty()) {
        auto opened = open_counter_source(options.counters);
        if (!opened) {
            return fail_with(options, opened.error(), 1);
        }
        source = std::move(*opened);
        const auto calibrated = CounterBracket::calibrate(*source);
        if (!calibrated) {
            return fail_with(options, calibrated.error(), 1);
        }
        bracket = *calibrated;
    }
    const bool table = options.records.empty();
    const double ticks_per_microsecond = table ? measure_ticks_per_microsecond() : 0;
    if (table) {
        write_all(STDOUT_FILENO, table_head(bracket.has_value(), options.across > 1));
    }
    for (const Column& column : options.columns) {
        const auto result =
            measure_column(column, options.switches, bracket ? &*bracket : nullptr, options.across);
        if (!result) {
            return fail_with(options, column_name(column) + ": " + result.error(), 1);
        }
        mark_part();
        write_all(STDOUT_FILENO, table ? table_row(column, *result, ticks_per_microsecond)
                                       : column_records(options.records, column, *result));
        ::tcdrain(STDOUT_FILENO);  // a terminal's interrupts must not fall into the next column
    }
    mark_part();
    return 0;
}

int main_with(std::span<const std::string_view> words) {
    const auto options = parse_options(words);
    if (!options) {
        return fail_with({}, options.error(), 2);
    }
    if (options->help) {
        write_all(STDOUT_FILENO, options_usage());
        return 0;
    }
    return run(*options);
}

}  // namespace
}  // namespace flatback::guests

int main(int count, char** values) {
    return flatback::guests::main_with(std::vector<std::string_view>(values + 1, values + count));
}
